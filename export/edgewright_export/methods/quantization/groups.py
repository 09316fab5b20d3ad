"""How many weights share a scale, layer by layer (Kim et al. 2023, "FineQuant: unlocking the efficiency of weight-only
quantization for LLMs", section 3: adaptive granularity)."""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import integers, spread, weight_scales

GROUPS = (16, 32, 64, 128, 256)
_WORSE = 1.5
"""How many times the squared error of the smallest groups a layer may have: what groups of 32 normal numbers have."""


def largest_group(weight: Tensor, most: int, *, search: bool) -> int | None:
    """The largest of :data:`GROUPS`, or all weights of an output, with little more error than the smallest has.

    Args:
        weight: [outputs, inputs], float32.
        most: The largest integer.
        search: As in :func:`~.grid.weight_scales`.

    Returns:
        None: all weights of an output.
    """
    inputs = weight.shape[1]
    sizes = [size for size in GROUPS if inputs % size == 0 and size < inputs]
    if not sizes:
        return None
    allowed = _WORSE * _error(weight, most, sizes[0], search)
    tried = (None, *reversed(sizes))
    return next(size for size in tried if size == sizes[0] or _error(weight, most, size, search) <= allowed)


def _error(weight: Tensor, most: int, group: int | None, search: bool) -> float:
    scales = weight_scales(weight, most, group=group, search=search)
    with torch.no_grad():
        rounded = integers(weight, scales, most) * spread(scales, weight)
        return float((rounded - weight).double().square().sum())
