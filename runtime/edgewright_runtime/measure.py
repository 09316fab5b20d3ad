"""The one timing loop (DESIGN section 9): warm up until stable, interleave, keep every sample."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIN_SAMPLES = 50
MIN_SECONDS = 1.0
_STABLE = 0.05
_MAX_WARM_UP = 30


@dataclass(frozen=True)
class Timing:
    """Samples of one contender, seconds, in the order they were taken."""

    samples_s: tuple[float, ...]

    @property
    def min_s(self) -> float:
        """Smallest sample."""
        return min(self.samples_s)

    @property
    def median_s(self) -> float:
        """Median."""
        return float(np.median(self.samples_s))

    def quantile_s(self, share: float) -> float:
        """The quantile at ``share`` in 0..1, for example 0.9."""
        return float(np.quantile(self.samples_s, share))


def measure(
    contenders: Mapping[str, Callable[[], object]],
    *,
    min_samples: int = MIN_SAMPLES,
    min_seconds: float = MIN_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times contenders against each other in one run, A B A B.

    Args:
        contenders: What to call, by name.
        min_samples: At least so many samples of each.
        min_seconds: At least so many seconds of each.
        clock: Seconds.

    Returns:
        The samples by name.
    """
    for call in contenders.values():
        _warm_up(call, clock)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    total = dict.fromkeys(contenders, 0.0)
    while any(len(samples[name]) < min_samples or total[name] < min_seconds for name in contenders):
        for name, call in contenders.items():
            samples[name].append(_once(call, clock))
            total[name] += samples[name][-1]
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def ratio(slow: Timing, fast: Timing, *, seed: int = 0, rounds: int = 2000) -> tuple[float, float, float]:
    """Ratio of medians ``slow / fast`` with a 95 % bootstrap interval.

    Args:
        slow: Samples of the numerator.
        fast: Samples of the denominator.
        seed: Of the bootstrap.
        rounds: Resamples of the bootstrap.

    Returns:
        (ratio, low, high)
    """
    draw = np.random.default_rng(seed)
    ratios = _resampled_medians(slow, draw, rounds) / _resampled_medians(fast, draw, rounds)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return slow.median_s / fast.median_s, float(low), float(high)


def _resampled_medians(timing: Timing, draw: np.random.Generator, rounds: int) -> np.ndarray:
    """Medians of bootstrap resamples, without drawing them: a microsecond call has a million samples.

    A resample is n uniform positions in the sorted samples.  The k-th smallest of n uniform numbers
    is Beta(k, n - k + 1); the next one, given it, is the smallest of the n - k above it
    (David and Nagaraja, Order Statistics, sections 2.1 and 2.5).
    """
    ordered = np.sort(timing.samples_s)
    n, k = ordered.size, (ordered.size + 1) // 2
    below = draw.beta(k, n - k + 1, rounds)
    above = below if n % 2 else below + (1 - below) * draw.beta(1, n - k, rounds)
    left, right = (np.minimum((place * n).astype(np.int64), n - 1) for place in (below, above))
    return np.asarray((ordered[left] + ordered[right]) / 2)


def machine() -> dict[str, str]:
    """What every result file says about where it was taken."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    fields = dict(line.partition(":")[::2] for line in text.split("\n\n")[0].splitlines())
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "processor": named.get("model name") or platform.processor() or platform.machine(),
        "cpu_flags": named.get("flags") or named.get("Features", ""),
        "clock_mhz": named.get("cpu MHz", ""),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def now() -> str:
    """ISO date and time, UTC, whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()


def _warm_up(call: Callable[[], object], clock: Callable[[], float]) -> None:
    last = _once(call, clock)
    for _ in range(_MAX_WARM_UP):
        current = _once(call, clock)
        if abs(current - last) <= _STABLE * last:
            return
        last = current


def _once(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start
