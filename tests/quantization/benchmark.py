"""Quantization of real models: ``python -m tests.quantization.benchmark quality|speed [NAME ...]``.

``quality`` exports each variant through ``sdk.export`` and evaluates module and files on all of a case's data.  ``speed``
times our float and 8-bit bundles in every engine, and the file of each peer's own quantizer, all interleaved in one run on
one thread.  One result file a case lies in ``results/``; ``table`` writes them into the README of the methods.
"""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import torch

import sdk
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, measure, now, ratio
from sdk.benchmark import PACKAGES, current_commit
from tests import reference_models
from tests.native import int8_models, readme
from tests.native.benchmark import MODELS
from tests.quantization.cases import CASES, Case
from tests.sparsity.benchmark import MACHINES, here

RESULTS = Path(__file__).parent / "results"
README = readme.ROOT / "export/edgewright_export/methods/quantization/README.md"
ENGINES = ("native", "onnxruntime", "executorch", "litert")
Variant = tuple[str, str, dict[str, Any]]
"""Method, engine, options."""

_FOUR: dict[str, Any] = {"weight_bits": 4, "steps": 200, "learning_rate": 3e-4}
_LM: dict[str, Any] = {"weight_bits": 4, "steps": 100, "learning_rate": 3e-4}
_CAREFUL: dict[str, Any] = {"smooth": True, "compensate": True}
_LEARNED: dict[str, Any] = {"smooth": True, "reconstruct": 200}
_GROUPS: dict[str, Any] = {"weight_bits": 4, "activations": "float", "group_size": 32}
_LOW: dict[str, Any] = {"activations": "float", "compensate": True}
QUALITY: dict[str, list[Variant]] = {
    "mobilenet_v1_fmnist": [
        ("PTQ", "native", {}),
        ("PTQ", "onnxruntime", {}),
        ("PTQ", "executorch", {}),
        ("PTQ", "litert", {}),
        ("PTQ", "native", {"max_bytes": 480_000}),
        ("PTQ", "native", {"weight_bits": 4}),
        ("PTQ", "native", {"weight_bits": 4, "correct_bias": True}),
        ("PTQ", "native", {"weight_bits": 4, "reconstruct": 300}),
        ("PTQ", "native", {"weight_bits": 4, "per_channel": False}),
        ("PTQ", "native", {"weight_bits": 4, "per_channel": False, "equalize": True, "correct_bias": True}),
        ("QAT", "native", {"steps": 200}),
        ("QAT", "native", _FOUR),
        ("QAT", "native", {"steps": 200, "learning_rate": 3e-4, "fixed_point": True}),
        ("QAT", "native", {"steps": 200, "learning_rate": 3e-4, "fixed_point": True, "power_of_two": True}),
        ("PTQ", "native", {"max_bytes": 344_000}),
        ("PTQ", "native", {"max_bytes": 292_000}),
    ],
    "vit_fmnist": [
        ("PTQ", "native", {}),
        ("PTQ", "onnxruntime", {}),
        ("PTQ", "executorch", {}),
        ("PTQ", "litert", {}),
        ("PTQ", "native", {"weight_bits": 4, "activations": "static"}),
        ("PTQ", "native", {"weight_bits": 4, "activations": "static", "reconstruct": 100}),
        ("QAT", "native", {"steps": 200}),
        ("QAT", "native", {**_FOUR, "activations": "static"}),
        ("QAT", "native", {"steps": 200, "important_tokens": 0.5}),
    ],
    "gru_imu": [("PTQ", "native", {})],
    "byte_lm": [
        ("PTQ", "native", {"weight_bits": 4}),
        *(("QAT", "native", {**_LM, "attention": weight, "seed": seed}) for seed in range(3) for weight in (0.0, 1.0)),
        ("PTQ", "native", {"activations": "float", "max_bytes": 873_000}),
        *(("PTQ", "native", {**_LOW, "max_bytes": limit}) for limit in (873_000, 630_000)),
        *(("QAT", "native", {**_LM, "attention": 1.0, "important_tokens": share}) for share in (0.5, 0.1)),
    ],
    "efficientnet_lite0": [("PTQ", "native", options) for options in ({}, _CAREFUL, _LEARNED)],
    "efficientnet_lite0_photos": [("PTQ", "native", options) for options in ({}, _CAREFUL, _LEARNED)],
    "minilm": [
        ("PTQ", "native", {}),
        ("PTQ", "native", {"smooth": True}),
        ("PTQ", "native", _GROUPS),
        ("PTQ", "native", {**_GROUPS, "compensate": True}),
        ("PTQ", "native", {**_LOW, "max_bytes": 5_742_000}),
    ],
}


def _reference(name: str) -> tuple[torch.nn.Module, Any]:
    return reference_models.load(name), None


SPEED: dict[str, Callable[[], tuple[torch.nn.Module, Any]]] = {
    **{name: functools.partial(_reference, name) for name in ("mobilenet_v1_fmnist", "vit_fmnist", "byte_lm")},
    **MODELS,
}


@click.group()
def main() -> None:
    """Measures quantization."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(QUALITY)))
@click.option("--row", "chosen", type=int, multiple=True, help="Variants, counted from 0; the others stay as they are.")
def quality(names: tuple[str, ...], chosen: tuple[int, ...]) -> None:
    """Evaluates the named cases, or all, and writes the result files."""
    for name in names or QUALITY:
        case = CASES[name]()
        whole = float(case.evaluate(without_gradients(case.module)))
        rows = _measured(name) if chosen else {}
        for number in chosen or range(len(QUALITY[name])):
            rows[number] = {"before": whole, **_evaluated(case, QUALITY[name][number])}
            _write("quality", name, {"rows": [rows[key] for key in sorted(rows)], "unit": case.unit})
    _show()


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SPEED)))
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
def speed(names: tuple[str, ...], seconds: float) -> None:
    """Times the named models, or all, and writes the result files."""
    for name in names or SPEED:
        _write("speed", here(name), {"rows": _timed(name, seconds)})
    _show()


@main.command()
def table() -> None:
    """Writes the result files into the README of the methods."""
    _show()


def without_gradients(module: torch.nn.Module) -> Any:
    def predict(*inputs: torch.Tensor) -> Any:
        with torch.no_grad():
            return module(*inputs)

    return predict


def _measured(name: str) -> dict[int, dict[str, Any]]:
    """Rows of the result file by the number of their variant."""
    path = RESULTS / f"quality-{name}.json"
    rows = json.loads(path.read_bytes())["rows"] if path.exists() else []
    numbers = {_key(*variant): number for number, variant in enumerate(QUALITY[name])}
    found = [(_key(row["method"], row["engine"], row["options"]), row) for row in rows]
    return {numbers[key]: row for key, row in found if key in numbers}


def _key(method: str, engine: str, options: dict[str, Any]) -> str:
    return json.dumps([method, engine, options], sort_keys=True)


def _evaluated(case: Case, variant: Variant) -> dict[str, Any]:
    method, engine, options = variant
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bundle = sdk.export(
            case.module,
            f"host:{engine}",
            example_inputs=case.inputs,
            methods=[getattr(sdk.methods, method)(**options, even_if_slower=True)],
            calibration=case.calibration,
            train=case.train if method == "QAT" else None,
            output=Path(folder) / "model.edge",
        )
        with sdk.load(bundle.path, threads=1) as session:
            after = float(case.evaluate(lambda *inputs: first_output(session, inputs)))
    snr = bundle.parity.snr_db
    return {
        "method": method,
        "engine": engine,
        "options": options,
        "commit": current_commit(),
        "changes": list(bundle.manifest.changes),
        "after": after,
        "parity_db": None if snr == float("inf") else snr,
        "file_bytes": bundle.file_bytes,
    }


def first_output(session: sdk.Session, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.from_numpy(next(iter(session.run(*(value.numpy() for value in inputs)).values())))


def _timed(name: str, seconds: float) -> list[dict[str, Any]]:
    """Float and 8 bits in every engine, and each peer's own 8 bits, all interleaved."""
    module, _ = SPEED[name]()
    given = int8_models.draw_inputs(name, 8)
    calibration = [tuple(map(torch.from_numpy, one)) for one in given]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        runs: dict[str, Callable[[], object]] = {}
        fp32: dict[str, Path] = {}
        for engine in ENGINES:
            for kind, methods in (("float", []), ("int8", [sdk.methods.PTQ(even_if_slower=True)])):
                bundle = sdk.export(
                    module,
                    f"host:{engine}",
                    example_inputs=calibration[0],
                    methods=methods,
                    calibration=calibration if methods else None,
                    output=Path(folder) / f"{engine}-{kind}.edge",
                )
                session = stack.enter_context(sdk.load(bundle.path, threads=1))
                runs[f"{engine} {kind}"] = functools.partial(session.run, *given[0])
                if kind == "float":
                    fp32[engine] = next(p for p in bundle.path.iterdir() if p.suffix in (".onnx", ".tflite", ".pte"))
        for engine, path in int8_models.make(name, lambda: module, fp32, Path(folder)).items():
            if engine != "native":
                run = int8_models.ENGINES[engine](path, 1)
                runs[f"{engine} own int8"] = functools.partial(run, given[0])
        timings = measure(runs, min_samples=50, min_seconds=seconds)
    return [
        {
            "name": key,
            "median_s": timing.median_s,
            "ratio": ratio(timing, timings[_base(key)]),
            "samples_s": timing.samples_s,
        }
        for key, timing in timings.items()
    ]


def _base(name: str) -> str:
    """What a contender's ratio is to: 8 bits to float in the same engine, a peer's own 8 bits to ours in the native one."""
    return "native int8" if name.endswith("own int8") else f"{name.partition(' ')[0]} float"


def _write(kind: str, name: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    found |= {"kind": "measured", "machine": machine(), "commit": current_commit(), "date": now()}
    found["versions"] = {package: installed(package) or "" for package in (*PACKAGES, "transformers")}
    write_file(RESULTS / f"{kind}-{name}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def _show() -> None:
    for mark, text in {"quality": quality_table(), "speed": speed_table()}.items():
        readme.write_table(README, mark, text)


def quality_table() -> str:
    """One line a variant."""
    lines = [
        "| model | method | engine | bytes | files beside the module | float | quantized | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("quality-*.json")):
        found = json.loads(path.read_text())
        for row in found["rows"]:
            options = ", ".join(f"{name}={value}" for name, value in row["options"].items())
            method = f"{row['method']}({options})"
            parity = "equal" if row["parity_db"] is None else f"{row['parity_db']:.0f} dB"
            figures = f"{row['before']:.4f} | {row['after']:.4f} | {found['unit']}"
            lines.append(
                f"| {path.stem.removeprefix('quality-')} | {method} | {row['engine']} | {row['file_bytes']:,} | {parity} | {figures} |"
            )
    return "\n".join(lines)


def speed_table() -> str:
    """One line a model and kind of machine: milliseconds, 8 bits over float in each engine, the fastest peer's own 8 bits over ours."""
    lines = [
        "| model | native float | int8 | "
        + " | ".join(f"int8 / float, {e}" for e in ENGINES)
        + " | fastest peer's own int8 |",
        "|---" * (len(ENGINES) + 4) + "|",
    ]
    for path in sorted(RESULTS.glob("speed-*.json")):
        name, _, isa = path.stem.removeprefix("speed-").rpartition("-")
        rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]}
        figures = [f"{1e3 * rows[f'native {kind}']['median_s']:.3g} ms" for kind in ("float", "int8")]
        figures += [f"{rows[f'{engine} int8']['ratio'][0]:.2f}" for engine in ENGINES]
        peers = [row for row in rows.values() if not row["name"].startswith("native") and "int8" in row["name"]]
        best = min(peers, key=lambda row: row["median_s"])
        figures.append(f"{best['name'].partition(' ')[0]}, {1e3 * best['median_s']:.3g} ms")
        lines.append(f"| {name}, {MACHINES[isa]} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
