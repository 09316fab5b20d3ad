"""The same models on every platform of the native engine: this machine, 64-bit ARM in an emulator, WebAssembly in Node."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewright_runtime.native_library import Model
from tests.native import arm_setup, case_file, web_setup

CORE = "cortex-a76"
_DECIBELS = re.compile(r": (inf|Infinity|[\d.]+) dB$", re.MULTILINE)
_ANY = "0.001"
"""What the programs ask of a model; the caller asks for more."""


@dataclass(frozen=True)
class Case:
    """A packed bundle or an ONNX file, one input and the right outputs."""

    model: bytes
    inputs: dict[str, np.ndarray]
    wanted: dict[str, np.ndarray]


Run = Callable[[list[Case]], list[float]]
"""Signal over noise of each output of each case, dB."""


def decibels(wanted: np.ndarray, found: np.ndarray) -> float:
    """Signal over noise."""
    noise = float(((found.astype(np.float64) - wanted) ** 2).sum())
    return float(10 * np.log10(float((wanted.astype(np.float64) ** 2).sum()) / max(noise, 1e-300)))


def here(cases: list[Case]) -> list[float]:
    """On this machine, with its best instruction set or that of ``EDGEWRIGHT_FORCE_ISA``."""
    found = []
    for case in cases:
        session = Model(case.model).session()
        results = session.run([case.inputs[name] for name, _, _ in session.inputs])
        names = [name for name, _, _ in session.outputs]
        found += [decibels(case.wanted[name], result) for name, result in zip(names, results, strict=True)]
    return found


def arm(cases: list[Case], cpu: str = CORE) -> list[float]:
    """On 64-bit ARM in QEMU."""
    program = arm_setup.program("run_cases")
    with _file(cases) as path:
        return _read("\n".join(arm_setup.emulate(cpu, program, path, _ANY)))


def wasm(build: str, cases: list[Case]) -> list[float]:
    """In Node, by the package ``runtime/web``."""
    web_setup.modules()
    script = Path(__file__).parent / "web_cases.mjs"
    with _file(cases) as path:
        command = [web_setup.node(), str(script), path, build, _ANY]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return _read(done.stdout)


PLATFORMS: dict[str, Run] = {
    "x86": here,
    "arm": arm,
    "wasm-simd": functools.partial(wasm, "simd"),
    "wasm-relaxed": functools.partial(wasm, "relaxed"),
}


@contextmanager
def _file(cases: list[Case]) -> Iterator[str]:
    entries = [case_file.entry(str(i), case.model, case.inputs, case.wanted) for i, case in enumerate(cases)]
    with tempfile.NamedTemporaryFile(prefix="edgewright-cases-") as file:
        case_file.write_entries(Path(file.name), entries)
        yield file.name


def _read(text: str) -> list[float]:
    found = [float(value) for value in _DECIBELS.findall(text)]
    assert found, text
    return found
