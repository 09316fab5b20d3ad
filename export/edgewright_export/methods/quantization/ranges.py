"""Which part of what was seen a grid covers."""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import Grid, grid_over

RANGES = ("min-max", "percentile", "mse", "entropy")
_PERCENTILE = 0.9999
_FACTORS = torch.linspace(1.0, 0.2, 41).tolist()
_BINS = 2048


def grid_of(seen: Tensor, least: float, most: float, how: str, bits: int, *, symmetric: bool) -> Grid:
    """The grid of an activation.

    Args:
        seen: A sample of its values, [count].
        least: The lowest of all values.
        most: The highest of all values.
        how: One of :data:`RANGES`.
        bits: Of the grid.
        symmetric: Whether it lies around 0.
    """
    low, high = _CHOICES[how](seen, least, most, bits, symmetric)
    return grid_over(low, high, bits, symmetric=symmetric)


def _min_max(seen: Tensor, least: float, most: float, bits: int, symmetric: bool) -> tuple[float, float]:
    return least, most


def _percentile(seen: Tensor, least: float, most: float, bits: int, symmetric: bool) -> tuple[float, float]:
    ordered = seen.sort().values
    last = ordered.numel() - 1
    return float(ordered[int((1 - _PERCENTILE) * last)]), float(ordered[round(_PERCENTILE * last)])


def _least_squares(seen: Tensor, least: float, most: float, bits: int, symmetric: bool) -> tuple[float, float]:
    """Least squared error: the ends are pulled in together, then the lower one, then the upper one."""

    def error(low: float, high: float) -> float:
        grid = grid_over(low, high, bits, symmetric=symmetric)
        return float((_on(seen, grid) - seen).square().sum())

    both = min(_FACTORS, key=lambda f: error(least * f, most * f))
    low = min(_FACTORS, key=lambda f: error(least * f, most * both)) * least
    high = min(_FACTORS, key=lambda f: error(low, most * f)) * most
    return low, high


def _entropy(seen: Tensor, least: float, most: float, bits: int, symmetric: bool) -> tuple[float, float]:
    """Least Kullback-Leibler divergence of the histogram on the grid from that of what was seen (Migacz 2017,
    "8-bit inference with TensorRT")."""
    width = max(-least, most) or 1.0
    counts = torch.histc(seen, _BINS, -width, width)
    centres = (torch.arange(_BINS) + 0.5) * (2 * width / _BINS) - width

    def divergence(factor: float) -> float:
        low, high = least * factor, most * factor
        inside = counts * ((centres >= low) & (centres <= high))
        clipped = inside.clone()
        ends = torch.nonzero(inside).flatten()
        if not ends.numel():
            return float("inf")
        clipped[ends[0]] += counts[: int(ends[0])].sum()
        clipped[ends[-1]] += counts[int(ends[-1]) + 1 :].sum()
        grid = grid_over(low, high, bits, symmetric=symmetric)
        step = ((centres / grid.scale).round() + grid.zero_point - grid.low).clamp(0, grid.high - grid.low).long()
        levels = grid.high - grid.low + 1
        held, used = (torch.zeros(levels).index_add(0, step, x) for x in (inside, (inside > 0).float()))
        spread = torch.where(inside > 0, (held / used.clamp(min=1))[step], torch.zeros(()))
        p, q = clipped / clipped.sum(), spread / spread.sum()
        return float((p * ((p + 1e-12) / (q + 1e-12)).log())[p > 0].sum())

    best = min(_FACTORS, key=divergence)
    return least * best, most * best


def _on(x: Tensor, grid: Grid) -> Tensor:
    q = ((x / grid.scale).round() + grid.zero_point).clamp(grid.low, grid.high)
    return (q - grid.zero_point) * grid.scale


_CHOICES = dict(zip(RANGES, (_min_max, _percentile, _least_squares, _entropy), strict=True))
