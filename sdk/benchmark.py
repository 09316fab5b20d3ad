"""Times bundles against each other and keeps what was measured, with every sample."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_profiles.record import unstructure
from edgewright_runtime.bundle import Measurement
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.bundle.seal import MEASUREMENTS
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, measure, now, ratio
from edgewright_runtime.session import load

from .bundle import Bundle

PACKAGES = ("edgewright", "numpy", "torch", "onnxruntime", "executorch", "ai-edge-litert")


@dataclass(frozen=True)
class BenchRow:
    """One contender; ``ratio`` is its median over the first contender's."""

    name: str
    path: str
    min_s: float
    median_s: float
    p90_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    measurement: Measurement


@dataclass(frozen=True)
class BenchResult:
    """One run of the benchmark."""

    rows: tuple[BenchRow, ...]
    machine: dict[str, str]
    versions: dict[str, str]
    commit: str
    date: str


def bench_models(paths: Sequence[Path], threads: int, samples: int, seconds: float) -> BenchResult:
    """Times bundles interleaved in one run.

    Args:
        paths: Bundles; the first is the base of the ratios.
        threads: Threads of each engine.
        samples: At least so many samples of each.
        seconds: At least so many seconds of each.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(load(path, threads=threads)) for path in paths]
        calls = {str(i): _call(session, session.sample_inputs()) for i, session in enumerate(sessions)}
        found = machine()
        timings = measure(calls, min_samples=samples, min_seconds=seconds)
        versions = {name: installed(name) or "" for name in PACKAGES}
        commit, date = current_commit(), now()
        base = timings["0"]
        rows = []
        for i, (path, session) in enumerate(zip(paths, sessions, strict=True)):
            timing = timings[str(i)]
            taken = Measurement(
                Bundle.open(path).sha256, "host", session.engine, session.engine_version, threads, timing.samples_s,
                {}, None, None, "measured", found, versions, commit, date,
            )  # fmt: skip
            spread = ratio(timing, base)
            rows.append(
                BenchRow(path.name, str(path), timing.min_s, timing.median_s, timing.quantile_s(0.9), *spread, taken)
            )
    return BenchResult(tuple(rows), found, versions, commit, date)


def write_result(result: BenchResult, path: Path) -> None:
    """Writes a result file."""
    write_file(path, json.dumps(unstructure(result), indent=1, sort_keys=True).encode() + b"\n")


def save_measurements(result: BenchResult) -> None:
    """Keeps each measurement in ``measurements/`` beside its bundle's core."""
    for row in result.rows:
        save_measurement(Path(row.path), row.measurement)


def save_measurement(bundle: Path, taken: Measurement) -> None:
    """Writes one measurement beside a bundle folder; a packed bundle has no place for it."""
    if bundle.is_dir():
        folder = bundle / MEASUREMENTS
        folder.mkdir(exist_ok=True)
        name = f"{taken.device}-{taken.engine}-{taken.threads}.json"
        write_file(folder / name, json.dumps(unstructure(taken), indent=1, sort_keys=True).encode() + b"\n")


def _call(session: Any, inputs: Any) -> Callable[[], object]:
    return lambda: session.run(inputs)


def current_commit() -> str:
    """Revision of the source tree that runs, ``""`` for an installed package."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
