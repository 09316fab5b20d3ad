"""Shares of zeros with which a model is so many times as fast, where that costs least.

What zeros of a layer save is measured, as what they cost is (``allocate.py``): the model runs at each level with that share in
all layers, and the engine says what each step takes (Frantar and Alistarh 2022, "SPDY: accurate pruning with speedup
guarantees", section 3, take times of layers so).  Layers with and without zeros share layouts, so times do not add up: the
whole model is measured too, and what is asked of the layers is searched for until that is as fast as wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from torch import nn

from device_profiles import Finding
from device_profiles.errors import MethodError
from edgewright_runtime.bundle.lowered import StepTime

from ...registry import target_named
from ...state import Context, State
from ...training.loop import progress
from ..quantization.sites import Product
from .allocate import LEVELS, Curve, cheapest

_TRIES = 8
_NEAR = 1.02
"""Times what is wanted, which is near enough."""

Make = Callable[[Mapping[str, float]], nn.Module]
"""A module with such shares of zeros, by the name of weights."""


def problems(ctx: Context, subgraph: bool | None) -> list[Finding]:
    """What keeps a speed from being searched for.

    Args:
        ctx: The device and its target.
        subgraph: As the user says.
    """
    target = target_named(ctx.target)
    if ctx.device.id != "host":
        reason = f"speedup is measured, and {ctx.device.id} is not this machine"
        return [Finding("", "", "", reason, "pass sparsity=, or export for device='host'")]
    if target.leaves_out_zeros or (target.subgraphs_from and subgraph is not False):
        return []
    return [Finding("", "", "", f"{ctx.target} multiplies zeros as it does other numbers", "export for device='host:native'")]


def fast_enough(
    state: State, products: Sequence[Product], costs: Mapping[str, Curve], make: Make, speedup: float, ctx: Context
) -> tuple[dict[str, float], str]:
    """Shares of zeros by the name of weights, and how fast that is, in words that follow a line.

    Args:
        state: Dense.
        products: The layers that become sparse.
        costs: What each of :data:`LEVELS` costs, by the name of weights.
        make: Of the dense module, with zeros.
        speedup: Times as fast as the dense model.
        ctx: Measures.

    Raises:
        MethodError: It does not become so fast, or what is measured cannot be lowered.
    """
    def with_zeros(shares: Mapping[str, float]) -> State:
        return replace(state, module=make(shares), captured=None)

    steps = ctx.profile([with_zeros(dict.fromkeys(costs, level)) for level in LEVELS])
    assert steps is not None
    gains = saved(products, steps)
    inside = not target_named(ctx.target).leaves_out_zeros

    def tried(wanted: float) -> _Try:
        shares = cheapest(costs, gains, wanted)
        timings = ctx.time([state, replace(with_zeros(shares), subgraph=inside)])
        assert timings is not None
        return _Try(shares, timings[0].median_s, timings[1].median_s)

    first = (1 - 1 / speedup) * sum(step.seconds for step in steps[0])
    found = _searched(tried, first, sum(curve[-1] for curve in gains.values()), speedup)
    if found.times < speedup:
        raise MethodError(
            f"weight-sparsity: speedup={speedup:g} is not reached: with these zeros the model is at most {found.times:.2f} times as "
            "fast, measured on this machine; ask for less, or choose another pattern"
        )
    said = f"; {found.times:.2f} times as fast as dense ({found.sparse_s * 1e3:.3g} ms, {found.dense_s * 1e3:.3g} ms, measured on this machine)"
    return found.shares, said


class _Try(NamedTuple):
    """Shares, and medians of the model without zeros and with them."""

    shares: dict[str, float]
    dense_s: float
    sparse_s: float

    @property
    def times(self) -> float:
        return self.dense_s / self.sparse_s


def _searched(tried: Callable[[float], _Try], first: float, most: float, speedup: float) -> _Try:
    """The try that asks least of the layers and is fast enough; the fastest where none is.

    Args:
        tried: With so many seconds that layers are to save.
        first: Where to begin.
        most: All that layers can save.
        speedup: What is fast enough.
    """
    low, high, wanted = 0.0, most, min(first, most)
    tries: list[_Try] = []
    enough: list[_Try] = []
    while len(tries) < _TRIES:
        one = tried(wanted)
        tries.append(one)
        progress.info("sparsity: try %d of at most %d, %.2f times as fast", len(tries), _TRIES, one.times)
        if one.times >= speedup:
            enough.append(one)
            high = wanted
        else:
            low = wanted
        if (low == most and len(tries) > 1) or speedup <= one.times <= _NEAR * speedup:  # one try alone may be a bad one
            break
        wanted += one.sparse_s - one.dense_s / speedup
        if not low < wanted < high:
            wanted = (low + high) / 2 if enough or wanted < high else most
    return enough[-1] if enough else max(tries, key=lambda one: one.times)


def saved(products: Sequence[Product], levels: Sequence[Sequence[StepTime]]) -> dict[str, Curve]:
    """Seconds that zeros of each layer save, by the name of weights; of a module with several layers by their operations.

    Args:
        products: The layers.
        levels: What steps take with each of :data:`LEVELS`.
    """
    macs: dict[str, int] = defaultdict(int)
    for product in products:
        macs[product.path] += product.macs
    times = [_by_path(steps, macs) for steps in levels]
    return {p.weight: _gains([one[p.path] * p.macs / max(1, macs[p.path]) for one in times]) for p in products}


def _by_path(steps: Sequence[StepTime], known: Collection[str]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for step in steps:
        path = next((path for path in step.paths if path in known), None)
        if path is not None:
            found[path] += step.seconds
    return found


def _gains(seconds: Sequence[float]) -> list[float]:
    """Of seconds at each level: more zeros gain at least what fewer do, as they may be multiplied."""
    return list(accumulate((seconds[0] - one for one in seconds), max))
