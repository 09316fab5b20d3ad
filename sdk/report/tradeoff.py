"""The plot of quality against size: where each thing that was tried lies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgewright_runtime.bundle.manifest import Tried

from .axis import BINARY, Axis, linear_axis, nice_step

_BESIDE, _ABOVE = 4.0, 8.0
"""Percent of the plot within which two points share a label."""
_MARGIN = 8.0
"""Percent above the best and below the worst."""
_PLAIN = (1e-4, 1e7)
"""Numbers between these are written without an exponent."""


@dataclass(frozen=True)
class Point:
    """A circle; ``x`` and ``y`` in percent from the left and from the top, ``number`` is its row in the table."""

    number: int
    tried: Tried
    quality: float
    x: float
    y: float


@dataclass(frozen=True)
class Label:
    """Numbers of points that lie together, beside one of them; ``before``: on its left."""

    text: str
    x: float
    y: float
    before: bool


@dataclass(frozen=True)
class Tradeoff:
    """Points over weights, in the unit of ``axis``, from 0; ``levels`` are (percent from the top, text)."""

    axis: Axis
    levels: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """One for each group of points that lie together."""
        groups: list[list[Point]] = []
        for point in self.points:
            close = [group for group in groups if any(_close(point, other) for other in group)]
            groups = [group for group in groups if group not in close] + [[*sum(close, []), point]]
        return tuple(map(_label, sorted(groups, key=lambda group: min(point.number for point in group))))


def tradeoff(tried: Sequence[Tried]) -> Tradeoff | None:
    """The plot; None where nothing has a finite quality."""
    shown = [(i, one, one.quality) for i, one in enumerate(tried, 1) if one.quality is not None]
    shown = [(i, one, quality) for i, one, quality in shown if math.isfinite(quality)]
    if not shown:
        return None
    most = max(one.weight_bytes for _, one, _ in shown)
    scale, unit = next(((scale, unit) for scale, unit in BINARY if most >= scale), BINARY[-1])
    axis = linear_axis(0.0, 1.04 * most / scale, 1.0, unit, 1.0)
    vertical = _Vertical(quality for _, _, quality in shown)
    points = [Point(i, one, q, axis.at(one.weight_bytes / scale), vertical.at(q)) for i, one, q in shown]
    return Tradeoff(axis, vertical.levels(), tuple(points))


class _Vertical:
    """A scale of qualities, the best on top.  It counts in the largest magnitude, so that nothing overflows."""

    def __init__(self, values: Iterable[float]) -> None:
        listed = list(values)
        self._low, self._high = min(listed), max(listed)
        self._one = max(abs(self._low), abs(self._high)) or 1.0
        self._span = self._high / self._one - self._low / self._one
        if self._span < 1e-12:
            self._span = 0.0

    def at(self, value: float) -> float:
        """Percent from the top."""
        place = (self._high / self._one - value / self._one) / self._span if self._span else 0.5
        return round(_MARGIN + (100 - 2 * _MARGIN) * place, 2)

    def levels(self) -> tuple[tuple[float, str], ...]:
        """Round numbers between the worst and the best, these themselves where there are no such numbers."""
        if not self._span:
            return ((self.at(self._low), f"{self._low + 0.0:.6g}".replace("-", "−")),)
        rough = self._span / 4 * self._one
        step = nice_step(rough) if rough >= 1e-300 else self._one * 1e-3
        if rough >= 1e-300:
            values = [i * step for i in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]
        else:
            values = [self._low, self._high]
        return tuple((self.at(value), self._text(value, step)) for value in values)

    def _text(self, value: float, step: float) -> str:
        digits = math.floor(math.log10(max(step, 5e-324)))
        if _PLAIN[0] <= self._one < _PLAIN[1]:
            text = f"{value:.{max(0, -digits)}f}"
        else:
            text = f"{value:.{max(0, math.floor(math.log10(self._one)) - digits)}e}" if value else "0"
        return text.replace("-", "−")


def _close(a: Point, b: Point) -> bool:
    return abs(a.x - b.x) < _BESIDE and abs(a.y - b.y) < _ABOVE


def _label(points: Sequence[Point]) -> Label:
    ordered = sorted(points, key=lambda point: point.x)
    before = ordered[-1].x > 90
    beside = ordered[0] if before else ordered[-1]
    return Label(", ".join(str(n) for n in sorted(point.number for point in points)), beside.x, beside.y, before)
