"""How far each platform's results are from the exact ones: ``python -m tests.native.parity run [--dtype int8] [NAME ...]``.

Every model runs on this machine, on 64-bit ARM in an emulator and in WebAssembly; the exact results are those of the
module in PyTorch, in double precision.  In 8 bits the file is ONNX Runtime's own, and so is the figure to reach.  One
result file a model lies in ``results/``; ``table`` prints them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import click
import numpy as np
import onnx
import torch

from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import PACKAGES, current_commit
from tests.native import int8_models, readme, web_setup
from tests.native.arm_setup import QEMU
from tests.native.platforms import CORE, PLATFORMS, Case, decibels
from tests.native.real_models import MODELS, exact, exported

RESULTS = Path(__file__).parent / "results"
IN_8_BITS = tuple(name for name in int8_models.CALIBRATED if name in MODELS)
CALIBRATION, INPUTS = 8, 3
"""Inputs of a model in 8 bits: for calibration, and for the comparison."""


@dataclass(frozen=True)
class Comparison:
    """A model with inputs and exact results; ``onnx`` is what ONNX Runtime reads of it."""

    onnx: bytes
    cases: list[Case]


def _onnx_file(name: str) -> Path:
    return next(exported(name).bundle.path.glob("*.onnx"))


def fp32(name: str) -> Comparison:
    """The bundle with one input; for ONNX Runtime its weights are in the file."""
    return Comparison(onnx.load(_onnx_file(name)).SerializeToString(), [exported(name).case()])


@functools.cache
def int8(name: str) -> Comparison:
    """ONNX Runtime's file with inputs that it was not calibrated with."""
    model, module = exported(name), MODELS[name].module()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        int8_models.onnx(name, _onnx_file(name), path)
        content = path.read_bytes()
    cases = []
    for inputs in int8_models.draw_inputs(name, CALIBRATION + INPUTS)[CALIBRATION:]:
        wanted = [value.astype(np.float32) for value in exact(module, tuple(map(torch.from_numpy, inputs)))]
        given = dict(zip(model.inputs, inputs, strict=True))
        cases.append(Case(content, given, dict(zip(model.exact, wanted, strict=True))))
    return Comparison(content, cases)


COMPARISONS: dict[str, Callable[[str], Comparison]] = {"fp32": fp32, "int8": int8}


def onnxruntime(made: Comparison) -> list[float]:
    """ONNX Runtime on this machine: signal over noise of each output of each case, dB."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(made.onnx, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return [
        decibels(case.wanted[name], result)
        for case in made.cases
        for name, result in zip(names, session.run(None, case.inputs), strict=True)
    ]


def compare(name: str, dtype: str, platforms: Sequence[str]) -> dict[str, object]:
    """What a result file holds; each figure is the mean over outputs and inputs, dB."""
    made = COMPARISONS[dtype](name)
    return {
        "model": name,
        "dtype": dtype,
        "weights": MODELS[name].weights,
        "file_sha256": hashlib.sha256(made.onnx).hexdigest(),
        "inputs": len(made.cases),
        "onnxruntime_snr_db": fmean(onnxruntime(made)),
        "snr_db": {platform: fmean(PLATFORMS[platform](made.cases)) for platform in platforms},
        "kind": "measured",
        "emulators": emulators(platforms),
        "machine": machine(),
        "versions": {package: installed(package) or "" for package in PACKAGES},
        "commit": current_commit(),
        "date": now(),
    }


def emulators(platforms: Sequence[str]) -> dict[str, str]:
    """What each platform is here, in words."""
    found = {}
    for platform in platforms:
        if platform == "arm":
            found[platform] = f"{_first_line(QEMU, '--version')}, {CORE}"
        if platform.startswith("wasm"):
            found[platform] = f"Node {_first_line(web_setup.node(), '--version')}"
    return found


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


@click.group()
def main() -> None:
    """Compares the native engine's results on each platform with the exact ones."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--dtype", type=click.Choice(list(COMPARISONS)), default="fp32", show_default=True)
@click.option("--platform", "platforms", multiple=True, type=click.Choice(list(PLATFORMS)), default=list(PLATFORMS))
def run(names: tuple[str, ...], dtype: str, platforms: tuple[str, ...]) -> None:
    """Runs the named models, or all, and writes the result files."""
    for name in names or (MODELS if dtype == "fp32" else IN_8_BITS):
        content = json.dumps(compare(name, dtype, platforms), indent=1, sort_keys=True).encode() + b"\n"
        write_file(RESULTS / f"parity-{dtype}-{name}.json", content)
    readme.write_table(readme.NATIVE, "parity", text())


@main.command("table")
def table() -> None:
    """Writes the result files into the README of the engine."""
    readme.write_table(readme.NATIVE, "parity", text())


def text() -> str:
    """A table for each dtype, in dB."""
    lines: list[str] = []
    for dtype in COMPARISONS:
        lines += [
            "",
            f"| {dtype} | {' | '.join(PLATFORMS)} | ONNX Runtime | weights |",
            "|---" * (len(PLATFORMS) + 3) + "|",
        ]
        for name in MODELS:
            path = RESULTS / f"parity-{dtype}-{name}.json"
            if not path.exists():
                continue
            found = json.loads(path.read_text())
            figures = [found["snr_db"].get(platform) for platform in PLATFORMS] + [found["onnxruntime_snr_db"]]
            shown = " | ".join("" if figure is None else f"{figure:.1f}" for figure in figures)
            lines.append(f"| {name} | {shown} | {found['weights']} |")
    return "\n".join(lines[1:])


if __name__ == "__main__":
    main()
