"""Scales of charts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

BINARY = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low`` to ``high``, shown in ``unit``."""

    low: float
    high: float
    step: float
    scale: float
    unit: str
    decimals: int

    def at(self, value: float) -> float:
        """Position in percent, clipped to the axis."""
        span = self.high - self.low
        place = (value - self.low) / span if span > 0 else 0.5
        return round(100.0 * min(1.0, max(0.0, place)), 2)

    def text(self, value: float) -> str:
        """The value in the axis' unit, without it, always with the same decimals."""
        return f"{value / self.scale:.{self.decimals}f}"

    def tick(self, value: float) -> str:
        """The value as a tick label: no more decimals than the steps need."""
        return f"{round(value / self.scale, 6):g}"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Multiples of ``step`` on the axis."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return tuple(index * self.step for index in range(first, last + 1))


def time_axis(values: Iterable[float], low: float = 0.0) -> Axis:
    """An axis for seconds from ``low`` to the largest value, with the decimals that the smallest needs."""
    shown = [value for value in values if value > 0]
    high = max(shown, default=0.0)
    scale, unit = next(((s, u) for s, u in TIME if high >= s), TIME[-1])
    return linear_axis(low, high, scale, unit, min(shown, default=high))


def linear_axis(low: float, high: float, scale: float, unit: str, smallest: float) -> Axis:
    """An axis with about five steps, and with the decimals that the smallest value needs; not of length 0."""
    high = high if high > low else low + scale
    shown = min(decimals(smallest / scale), decimals(high / scale) + 1)
    return Axis(low, high, nice_step((high - low) / 5), scale, unit, shown)


def nice_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the next from ``rough`` on."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def decimals(value: float) -> int:
    """Digits after the point that make three significant ones."""
    return max(0, 2 - math.floor(math.log10(abs(value) * 1.0005))) if value else 0
