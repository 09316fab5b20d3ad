"""The timing loop: interleaved, long enough, every sample kept; the ratio with an honest interval."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from edgewright_runtime import measure as timing
from edgewright_runtime.measure import MIN_SAMPLES, MIN_SECONDS, Timing, machine, measure, now, ratio
from sdk.judge import timed

SEEDS = range(200)


class Clock:
    """A clock that only contenders move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now_s

    def contender(self, name: str, durations_s: Iterable[float]) -> Callable[[], object]:
        durations = iter(durations_s)

        def call() -> None:
            self.calls.append(name)
            self.now_s += next(durations)

        return call


def constant(duration_s: float) -> Iterable[float]:
    return itertools.repeat(duration_s)


def test_contenders_take_turns() -> None:
    clock = Clock()
    found = measure({"A": clock.contender("A", constant(0.5)), "B": clock.contender("B", constant(0.25))}, clock=clock)
    assert "".join(clock.calls) == "AABB" + "AB" * MIN_SAMPLES
    assert list(found) == ["A", "B"]


def test_three_contenders_take_turns() -> None:
    clock = Clock()
    calls = {name: clock.contender(name, constant(1)) for name in "CAB"}
    measure(calls, min_samples=4, min_seconds=0, clock=clock)
    assert "".join(clock.calls) == "CCAABB" + "CAB" * 4


def test_an_export_asks_for_no_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the defaults; it is the tests that are content with less."""
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(timing, "measure", lambda calls, **options: asked.append(options) or {})
    assert timed([], 1) == [] and asked == [{}]


@pytest.mark.parametrize(
    ("duration_s", "samples"),
    [(1 / 4, MIN_SAMPLES), (1 / 64, 64), (1 / 1024, 1024), (100.0, MIN_SAMPLES)],
)
def test_enough_samples_and_enough_seconds(duration_s: float, samples: int) -> None:
    assert (MIN_SAMPLES, MIN_SECONDS) == (50, 1.0)
    clock = Clock()
    timing = measure({"A": clock.contender("A", constant(duration_s))}, clock=clock)["A"]
    assert timing.samples_s == (duration_s,) * samples
    assert sum(timing.samples_s) >= MIN_SECONDS


def test_the_quickest_contender_decides_how_long_it_takes() -> None:
    clock = Clock()
    calls = {"slow": clock.contender("slow", constant(1.0)), "quick": clock.contender("quick", constant(1 / 128))}
    found = measure(calls, clock=clock)
    assert {name: len(timing.samples_s) for name, timing in found.items()} == {"slow": 128, "quick": 128}


def test_every_sample_is_kept_in_order() -> None:
    clock = Clock()
    durations = [1.0, 1.0, *(float(2**i) for i in range(8))]
    found = measure({"A": clock.contender("A", durations)}, min_samples=8, min_seconds=0, clock=clock)
    assert found["A"].samples_s == tuple(durations[2:])


@pytest.mark.parametrize(
    ("durations", "warm_up"),
    [
        ([1.0, 1.0], 2),
        ([1.0, 1.05], 2),
        ([8.0, 4.0, 2.0, 1.0, 1.0], 5),
        ([1.0, 2.0] * 20, 31),
    ],
    ids=["stable at once", "within five per cent", "getting quicker", "never stable"],
)
def test_warm_up_ends_when_two_runs_agree(durations: list[float], warm_up: int) -> None:
    clock = Clock()
    rest = itertools.chain(durations[:warm_up], constant(3.0))
    found = measure({"A": clock.contender("A", rest)}, min_samples=5, min_seconds=0, clock=clock)
    assert len(clock.calls) == warm_up + 5
    assert found["A"].samples_s == pytest.approx((3.0,) * 5)


def test_no_contender_is_no_result() -> None:
    assert measure({}) == {}


def test_an_error_of_a_contender_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        measure({"A": lambda: 1 // 0})


def test_a_real_clock_counts_seconds() -> None:
    timing = measure({"A": lambda: None}, min_samples=20, min_seconds=0.001)["A"]
    assert len(timing.samples_s) >= 20
    assert sum(timing.samples_s) >= 0.001
    assert min(timing.samples_s) > 0


# Samples.


def test_a_timing_says_the_usual_numbers() -> None:
    timing = Timing((4.0, 1.0, 3.0, 2.0, 100.0))
    assert (timing.min_s, timing.median_s, timing.quantile_s(0.5)) == (1.0, 3.0, 3.0)
    assert timing.quantile_s(0) == 1.0
    assert timing.quantile_s(1) == 100.0
    with pytest.raises(FrozenInstanceError):
        timing.samples_s = ()  # type: ignore[misc]


def test_the_median_of_an_even_number_lies_between() -> None:
    assert Timing((1.0, 2.0, 4.0, 8.0)).median_s == 3.0


# Ratios.


def around(median_s: float, spread: float, count: int, seed: int) -> Timing:
    noise = np.random.default_rng(seed).lognormal(0, spread, count)
    return Timing(tuple((median_s * noise).tolist()))


def test_equal_samples_without_noise_are_exactly_one() -> None:
    timing = Timing((2.0,) * 50)
    assert ratio(timing, timing) == (1.0, 1.0, 1.0)
    assert ratio(Timing((6.0,) * 51), timing) == (3.0, 3.0, 3.0)


def test_the_ratio_lies_in_its_interval() -> None:
    value, low, high = ratio(around(3.0, 0.2, 60, 1), around(2.0, 0.2, 60, 2))
    assert low < value < high
    assert 1.2 < low < 1.5 < high < 1.9


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = around(3.0, 0.2, 60, 1), around(2.0, 0.2, 60, 2)
    assert ratio(a, b, seed=5) == ratio(a, b, seed=5) != ratio(a, b, seed=6)


def test_swapping_the_contenders_turns_the_interval_over() -> None:
    a, b = around(3.0, 0.1, 101, 1), around(2.0, 0.1, 101, 2)
    value, low, high = ratio(a, b, rounds=20_000)
    other, other_low, other_high = ratio(b, a, rounds=20_000)
    assert value == pytest.approx(1 / other)
    assert (low, high) == (pytest.approx(1 / other_high, rel=0.01), pytest.approx(1 / other_low, rel=0.01))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 50, 51])
def test_the_interval_is_that_of_a_bootstrap_that_draws(count: int) -> None:
    """The slow oracle: resamples drawn one by one."""
    a, b = around(3.0, 0.3, count, 1), around(2.0, 0.3, count, 2)
    draw = np.random.default_rng(0)
    medians = [np.median(draw.choice(np.array(timing.samples_s), (40_000, count)), axis=1) for timing in (a, b)]
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    _, found_low, found_high = ratio(a, b, rounds=40_000)
    assert (found_low, found_high) == (pytest.approx(low, rel=0.01), pytest.approx(high, rel=0.01))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    hits = 0
    for seed in SEEDS:
        _, low, high = ratio(around(3.0, 0.2, 50, 2 * seed), around(2.0, 0.2, 50, 2 * seed + 1), rounds=400)
        hits += low <= 1.5 <= high
    assert 0.90 <= hits / len(SEEDS) <= 1.0


def test_a_million_samples_fit() -> None:
    many = around(1e-6, 0.1, 1_000_000, 3)
    value, low, high = ratio(many, many)
    assert value == 1.0
    assert 0.999 < low <= 1.0 <= high < 1.001


# Where it was taken.


def test_the_machine_is_named() -> None:
    found = machine()
    assert set(found) == {"processor", "cpu_flags", "clock_mhz", "cores", "load", "system", "python"}
    assert all(isinstance(value, str) for value in found.values())
    assert found["processor"]
    assert len(found["load"].split()) == 3


def test_the_date_has_a_zone_and_whole_seconds() -> None:
    parsed = datetime.datetime.fromisoformat(now())
    assert parsed.utcoffset() == datetime.timedelta(0)
    assert parsed.microsecond == 0
