"""Token dropping on real models: ``python -m tests.token_dropping.benchmark quality|speed [NAME ...]``.

``quality`` exports each variant for the native engine through ``sdk.export`` and evaluates module and files on all of a
case's data.  ``speed`` times the dropped against the whole model in the same engine, all interleaved in one run on one
thread.  One result file a case lies in ``results/``; ``table`` writes them into the README of the method.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click
import torch

import sdk
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, measure, now, ratio
from sdk.benchmark import PACKAGES, current_commit
from tests.native import readme
from tests.token_dropping.cases import CASES, Case

RESULTS = Path(__file__).parent / "results"
README = readme.ROOT / "export/edgewright_export/methods/tokens/README.md"
ENGINES = ("native", "onnxruntime", "executorch", "litert")
Options = dict[str, Any]

QUALITY: dict[str, list[Options]] = {
    "vit_fmnist": [
        {"strategy": "merge", "keep": 0.488},
        {"strategy": "transform", "keep": 0.475},
        {"strategy": "attention", "keep": 0.52},
        {"strategy": "pyramid", "keep": 0.39},
        {"strategy": "partition", "keep": 0.52},
        {"strategy": "merge", "keep": 0.535, "stages": 0},
        {"strategy": "attention", "keep": 0.55, "stages": 0},
        {"strategy": "merge", "keep": 0.285, "stages": 0},
        {"strategy": "merge", "keep": 0.285, "stages": 0, "recalibrate_steps": 300},
    ],
    "dinov2_saliency": [{"strategy": "merge", "keep": 0.7}],
    "minilm": [{"strategy": "merge", "keep": 0.7}, {"strategy": "merge", "keep": 0.7, "stages": (1, 2, 3)}],
    "byte_lm": [{"strategy": "query", "keep": 0.75, "protect": "128:"}],
}
SPEED: dict[str, list[Options]] = {
    "vit_fmnist": QUALITY["vit_fmnist"][5:7],
    "dinov2_saliency": QUALITY["dinov2_saliency"],
    "minilm": QUALITY["minilm"][1:],
}


@click.group()
def main() -> None:
    """Measures token dropping."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(QUALITY)))
@click.option("--row", "chosen", type=int, multiple=True, help="Variants, counted from 0; the others stay as they are.")
def quality(names: tuple[str, ...], chosen: tuple[int, ...]) -> None:
    """Evaluates the named cases, or all, and writes the result files."""
    for name in names or QUALITY:
        case = CASES[name]()
        evaluate = _Evaluate(case)
        rows = _measured(name) if chosen else {}
        for number in chosen or range(len(QUALITY[name])):
            rows[number] = _evaluated(case, QUALITY[name][number], evaluate)
        _write(f"quality-{name}", {"rows": [rows[number] for number in sorted(rows)], "unit": case.unit})
    _show()


def _measured(name: str) -> dict[int, dict[str, Any]]:
    """Rows of the result file by the number of their variant."""
    options = {field.name for field in dataclasses.fields(sdk.methods.TokenDropping)}
    numbers = {json.dumps(variant, sort_keys=True): number for number, variant in enumerate(QUALITY[name])}
    rows = json.loads((RESULTS / f"quality-{name}.json").read_bytes())["rows"]
    keys = [json.dumps({key: row[key] for key in row if key in options}, sort_keys=True) for row in rows]
    return {numbers[key]: row for key, row in zip(keys, rows, strict=True) if key in numbers}


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SPEED)))
@click.option("--seconds", default=5.0, show_default=True, help="Of each engine and model, at least.")
def speed(names: tuple[str, ...], seconds: float) -> None:
    """Times the named cases, or all, and writes the result files."""
    for name in names or SPEED:
        _write(f"speed-{name}", {"rows": _timed(CASES[name](), SPEED[name], seconds)})
    _show()


@main.command()
def table() -> None:
    """Writes the result files into the README of the method."""
    _show()


class _Evaluate:
    """What ``sdk.export`` asks first of the module and then of the files; the module is always the same."""

    def __init__(self, case: Case) -> None:
        self._case, self._calls, self._whole = case, 0, math.nan

    def __call__(self, predict: Any) -> float:
        self._calls += 1
        if self._calls == 1:
            self._whole = self._case.evaluate(predict)
        return self._whole if self._calls % 2 else self._case.evaluate(predict)


def _evaluated(case: Case, options: Options, evaluate: _Evaluate) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bundle = _exported(case, "native", options, Path(folder), evaluate)
        whole = _exported(case, "native", None, Path(folder), None)
    assert bundle.quality is not None
    return {
        **options,
        "commit": current_commit(),
        "change": bundle.manifest.changes[0],
        "macs": bundle.manifest.model.macs,
        "macs_before": whole.manifest.model.macs,
        "before": bundle.quality.before,
        "after": bundle.quality.after,
    }


def _timed(case: Case, variants: list[Options], seconds: float) -> list[dict[str, Any]]:
    """The whole model and each variant in each engine, all interleaved."""
    given: list[Options | None] = [None, *variants]
    with tempfile.TemporaryDirectory() as folder:
        bundles = {
            f"{engine} {number}": _exported(case, engine, options, Path(folder), None)
            for engine in ENGINES
            for number, options in enumerate(given)
        }
        sessions = {key: sdk.load(bundle.path, threads=1) for key, bundle in bundles.items()}
        inputs = {key: session.sample_inputs() for key, session in sessions.items()}
        calls = {key: lambda key=key: sessions[key].run(inputs[key]) for key in sessions}
        timings = measure(calls, min_samples=50, min_seconds=seconds)
        for session in sessions.values():
            session.close()
    return [
        {
            "engine": engine,
            "options": options,
            "macs": bundles[f"{engine} {number}"].manifest.model.macs,
            "median_s": timings[f"{engine} {number}"].median_s,
            "speedup": ratio(timings[f"{engine} 0"], timings[f"{engine} {number}"]),
            "samples_s": timings[f"{engine} {number}"].samples_s,
        }
        for engine in ENGINES
        for number, options in enumerate(given)
    ]


def _exported(case: Case, engine: str, options: Options | None, folder: Path, evaluate: Any) -> sdk.Bundle:
    methods = [] if options is None else [sdk.methods.TokenDropping(**options)]
    output = folder / f"{len(list(folder.iterdir()))}.edge"
    train = case.train if options and "recalibrate_steps" in options else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sdk.export(
            case.module,
            f"host:{engine}",
            example_inputs=case.inputs,
            methods=methods,
            evaluate=evaluate,
            train=train,
            output=output,
        )


def _write(name: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    found |= {"kind": "measured", "machine": machine(), "commit": current_commit(), "date": now()}
    found["versions"] = {package: installed(package) or "" for package in (*PACKAGES, "transformers")}
    write_file(RESULTS / f"{name}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def _show() -> None:
    for mark, text in {"quality": quality_table(), "speed": speed_table()}.items():
        readme.write_table(README, mark, text)


def quality_table() -> str:
    """One line a variant."""
    lines = ["| model | strategy | keep | behind blocks | MACs | whole | dropped | |", "|---|---|---|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("quality-*.json")):
        found = json.loads(path.read_text())
        for row in found["rows"]:
            share = f"{100 * row['macs'] / row['macs_before']:.1f} %"
            name = path.stem.removeprefix("quality-")
            figures = f"{share} | {row['before']:.4g} | {row['after']:.4g} | {found['unit']}"
            strategy = row["strategy"] + (f", recalibrated: {row['recalibrate_steps']} batches" if "recalibrate_steps" in row else "")
            lines.append(f"| {name} | {strategy} | {row['keep']:g} | {_stages(row)} | {figures} |")
    return "\n".join(lines)


def _stages(row: dict[str, Any]) -> str:
    stages = row.get("stages")
    return "by default" if stages is None else str(stages).strip("[]")


def speed_table() -> str:
    """One line a variant: how many times as fast, in each engine."""
    lines = [f"| model | strategy | keep | MACs, times fewer | {' | '.join(ENGINES)} |"]
    lines += ["|---|---|---|---|" + "---|" * len(ENGINES)]
    for path in sorted(RESULTS.glob("speed-*.json")):
        rows = json.loads(path.read_text())["rows"]
        whole = rows[0]["macs"]
        variants: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["options"]:
                variants.setdefault(json.dumps(row["options"]), []).append(row)
        for same in variants.values():
            options = same[0]["options"]
            name = f"{path.stem.removeprefix('speed-')} | {options['strategy']} | {options['keep']:g}"
            figures = ("{:.2f} ({:.2f} to {:.2f})".format(*row["speedup"]) for row in same)
            lines.append(f"| {name} | {whole / same[0]['macs']:.2f} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
