"""Quantization of real models: ``python -m tests.quantization.benchmark quality [NAME ...]``.

Each variant is exported through ``sdk.export``, and module and files are evaluated on all of a case's data.  One result
file a case lies in ``results/``; ``table`` writes them into the README of the methods.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click
import torch

import sdk
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import PACKAGES, current_commit
from tests.native import readme
from tests.quantization.cases import CASES, Case

RESULTS = Path(__file__).parent / "results"
README = readme.ROOT / "export/edgewright_export/methods/quantization/README.md"
Variant = tuple[str, str, dict[str, Any]]
"""Method, engine, options."""

_FOUR: dict[str, Any] = {"weight_bits": 4, "steps": 200, "learning_rate": 3e-4}
_GROUPS: dict[str, Any] = {"weight_bits": 4, "activations": "float", "group_size": 32}
QUALITY: dict[str, list[Variant]] = {
    "mobilenet_v1_fmnist": [
        ("PTQ", "native", {}),
        ("PTQ", "onnxruntime", {}),
        ("PTQ", "executorch", {}),
        ("PTQ", "litert", {}),
        ("QAT", "native", {"steps": 200}),
        ("QAT", "native", _FOUR),
    ],
    "vit_fmnist": [
        ("PTQ", "native", {}),
        ("PTQ", "onnxruntime", {}),
        ("PTQ", "executorch", {}),
        ("PTQ", "litert", {}),
        ("QAT", "native", {"steps": 200}),
        ("QAT", "native", {**_FOUR, "activations": "static"}),
    ],
    "gru_imu": [("PTQ", "native", {})],
    "efficientnet_lite0": [("PTQ", "native", {})],
    "efficientnet_lite0_photos": [("PTQ", "native", {})],
    "minilm": [
        ("PTQ", "native", {}),
        ("PTQ", "native", {"smooth": True}),
        ("PTQ", "native", _GROUPS),
        ("PTQ", "native", {**_GROUPS, "compensate": True}),
    ],
}


@click.group()
def main() -> None:
    """Measures quantization."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(QUALITY)))
@click.option("--method", type=click.Choice(["PTQ", "QAT"]), help="These variants alone; the others stay as they are.")
def quality(names: tuple[str, ...], method: str | None) -> None:
    """Evaluates the named cases, or all, and writes the result files."""
    for name in names or QUALITY:
        case = CASES[name]()
        whole = float(case.evaluate(_run(case.module)))
        rows = _measured(name) if method else {}
        for number, variant in enumerate(QUALITY[name]):
            if method in (None, variant[0]):
                rows[number] = {"before": whole, **_evaluated(case, variant)}
                _write(name, {"rows": [rows[key] for key in sorted(rows)], "unit": case.unit})
    _show()


@main.command()
def table() -> None:
    """Writes the result files into the README of the methods."""
    _show()


def _run(module: torch.nn.Module) -> Any:
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
            methods=[getattr(sdk.methods, method)(**options)],
            calibration=case.calibration,
            train=case.train if method == "QAT" else None,
            output=Path(folder) / "model.edge",
        )
        with sdk.load(bundle.path, threads=1) as session:
            after = float(case.evaluate(lambda *inputs: _first(session, inputs)))
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


def _first(session: sdk.Session, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.from_numpy(next(iter(session.run(*(value.numpy() for value in inputs)).values())))


def _write(name: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    found |= {"kind": "measured", "machine": machine(), "commit": current_commit(), "date": now()}
    found["versions"] = {package: installed(package) or "" for package in (*PACKAGES, "transformers")}
    write_file(RESULTS / f"quality-{name}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def _show() -> None:
    readme.write_table(README, "quality", quality_table())


def quality_table() -> str:
    """One line a variant."""
    lines = [
        "| model | method | engine | files beside the module | float | quantized | |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("quality-*.json")):
        found = json.loads(path.read_text())
        for row in found["rows"]:
            options = ", ".join(f"{name}={value}" for name, value in row["options"].items())
            method = f"{row['method']}({options})"
            parity = "equal" if row["parity_db"] is None else f"{row['parity_db']:.0f} dB"
            figures = f"{row['before']:.4f} | {row['after']:.4f} | {found['unit']}"
            lines.append(
                f"| {path.stem.removeprefix('quality-')} | {method} | {row['engine']} | {parity} | {figures} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
