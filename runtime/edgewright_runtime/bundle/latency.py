"""Numbers with their kind.  Measured, estimated and simulated never share a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Latency:
    """Seconds of one run.

    Args:
        median_s: Median.
        low_s: Lower end of the interval.
        high_s: Upper end of the interval.
        coverage: Share of runs inside the interval, 0 to 1.
        kind: How it was obtained.
        device: Device id.
        engine: Engine name.
        threads: Threads of the engine.
        source: Samples and machine if measured, predictor and its version if estimated.
    """

    median_s: float
    low_s: float
    high_s: float
    coverage: float
    kind: Literal["measured", "estimated"]
    device: str
    engine: str
    threads: int
    source: str


@dataclass(frozen=True)
class Cycles:
    """Cycles of an emulator or machine model; compared with other Cycles only.

    Args:
        low: Smallest over the core models.
        high: Largest over the core models.
        core_models: Which core models.
        source: Tool and version.
    """

    low: int
    high: int
    core_models: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Measurement:
    """One timing of one sealed bundle on one device; lives in ``measurements/`` beside the core.

    Args:
        manifest_sha256: Which bundle.
        device: Device id.
        engine: Engine name.
        engine_version: Its version.
        threads: Threads of the engine.
        samples_s: Every sample in the order it was taken.
        ops: Per-operation seconds where the engine gives them.
        peak_memory_bytes: Peak resident memory of the process, None if not taken.
        throttled: Whether the clock fell during the run, None if unknown.
        kind: Always ``measured`` for a device, ``simulated`` under an emulator.
        machine: Processor, operating system, load.
        versions: Versions of what took part.
        commit: Source revision of Edgewright, ``""`` if unknown.
        date: ISO date and time, UTC.
    """

    manifest_sha256: str
    device: str
    engine: str
    engine_version: str
    threads: int
    samples_s: tuple[float, ...]
    ops: dict[str, float]
    peak_memory_bytes: int | None
    throttled: bool | None
    kind: Literal["measured", "simulated"]
    machine: dict[str, str]
    versions: dict[str, str]
    commit: str
    date: str
