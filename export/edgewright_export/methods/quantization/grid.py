"""The integer grids of activations and weights."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

_FACTORS = torch.linspace(1.0, 0.4, 61).tolist()
"""Shares of the largest weight that are tried as the end of a grid."""
_FACTORS_OF_FEW = torch.logspace(math.log10(1.25), -1, 61).tolist()
"""The same of 2 and 3 bits, whose best grid may leave most of a long tail out."""


@dataclass(frozen=True)
class Grid:
    """Activations: ``value = scale * (q - zero_point)``, ``low <= q <= high``.

    Args:
        scale: A float32 number above 0.
        zero_point: Stands for 0.0 exactly.
        low: Least ``q``.
        high: Largest ``q``.
    """

    scale: float
    zero_point: int
    low: int = -128
    high: int = 127

    @property
    def least(self) -> float:
        """The lowest value on the grid."""
        return self.scale * (self.low - self.zero_point)

    @property
    def most(self) -> float:
        """The highest value on the grid."""
        return self.scale * (self.high - self.zero_point)


def grid_over(least: float, most: float, bits: int, *, symmetric: bool = False) -> Grid:
    """The grid that reaches from ``least`` to ``most`` and holds 0.0.

    Args:
        least: Lowest value.
        most: Highest value.
        bits: 8 or 4; a grid of 4 bits has 16 of the places of one byte.
        symmetric: Zero point 0, as many places below as above.
    """
    least, most = min(least, 0.0), max(most, 0.0)
    high = (1 << (bits - 1)) - 1
    low = -high if symmetric else -high - 1
    if symmetric:
        least, most = -max(-least, most), max(-least, most)
    scale = _float32((most - least) / (high - low)) or 1.0
    zero = 0 if symmetric else round(low - least / scale)
    return Grid(scale, max(low, min(high, zero)), low, high)


def _float32(value: float) -> float:
    rounded = float(torch.tensor(value, dtype=torch.float32))
    return rounded if math.isfinite(rounded) and rounded >= torch.finfo(torch.float32).tiny else 0.0


def largest(bits: int) -> int:
    """The largest weight of so many bits."""
    return (1 << (bits - 1)) - 1


def least(most: int) -> int:
    """The least weight: the negative of the largest; of 2 and 3 bits one less, for there that is a quarter and an eighth of
    all places.  Their scales may be negative, so that the longer tail of the weights has the longer side."""
    return -most - 1 if most <= largest(3) else -most


def stored_bits(most: int, offered: Collection[int]) -> int:
    """Bits in which weights up to ``most`` are stored: the fewest that hold them, of 8 and those that are offered."""
    return min(bits for bits in (8, *offered) if most <= largest(bits))


def weight_scales(weight: Tensor, most: int, *, group: int | None = None, search: bool = False) -> Tensor:
    """Scales of weights on a grid around 0.

    Args:
        weight: [outputs, ...], float32.
        most: The largest integer.
        group: Weights of one output, in the order in which they lie, that share a scale; None: all of them.
        search: Whether the scale with the least squared error is looked for, instead of that of the largest weight.

    Returns:
        [outputs] or [outputs, groups], float32; 1 where all weights are 0; above 0 but for 2 and 3 bits.
    """
    rows = weight.detach().reshape(weight.shape[0], -1, group) if group else weight.detach().flatten(1)
    scales = rows.abs().amax(-1) / -least(most)
    if search:
        factors = _FACTORS if least(most) == -most else [*_FACTORS_OF_FEW, *(-factor for factor in _FACTORS_OF_FEW)]
        errors = torch.stack([_squared_error(rows, scales * factor, most) for factor in factors])
        scales = scales * torch.tensor(factors)[errors.argmin(0)]
    return torch.where(scales != 0, scales, torch.ones_like(scales))


def _squared_error(rows: Tensor, scales: Tensor, most: int) -> Tensor:
    steps = torch.where(scales != 0, scales, torch.ones_like(scales)).unsqueeze(-1)
    return ((rows / steps).round().clamp(least(most), most) * steps - rows).square().sum(-1)


def integers(weight: Tensor, scales: Tensor, most: int) -> Tensor:
    """Weights on their grid, as whole float32 numbers; the shape of ``weight``."""
    return (weight / spread(scales, weight)).round().clamp(least(most), most)


def nearest_power(scale: Tensor) -> Tensor:
    """The power of two with the nearest exponent, float32 above 0."""
    return torch.ldexp(torch.ones_like(scale), scale.log2().round())


def sums_of_two_powers(whole: Tensor, most: int) -> Tensor:
    """The nearest number that is 0 or a sum or difference of at most two powers of two; of two the smaller one.

    Args:
        whole: Whole numbers from ``-most`` to ``most``.
        most: The largest result.
    """
    powers = [1 << i for i in range(most.bit_length() + 1)]
    sums = {0, *powers, *(a + b for a in powers for b in powers), *(a - b for a in powers for b in powers)}
    allowed = torch.tensor(sorted(value for value in sums if 0 <= value <= most), dtype=whole.dtype)
    middles = (allowed[1:] + allowed[:-1]) / 2
    return allowed[torch.bucketize(whole.abs(), middles)] * whole.sign()


def spread(scales: Tensor, weight: Tensor) -> Tensor:
    """Scales in a shape that multiplies weights."""
    if scales.dim() == 1:
        return scales.view(-1, *[1] * (weight.dim() - 1))
    return scales.repeat_interleave(weight[0].numel() // scales.shape[1], 1).view(weight.shape)
