"""How many zeros each layer gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..quantization.sites import Product
from .importance import Second
from .pattern import Pattern

ALLOCATIONS = ("uniform", "weights", "macs")


def allocated(
    kind: str, pattern: Pattern, found: Sequence[Product], known: Mapping[str, Second], share: float
) -> dict[str, float]:
    """Shares of zeros, by the name of weights.

    Args:
        kind: One of :data:`ALLOCATIONS`.
        pattern: Which weights become zero together.
        found: The layers.
        known: What is known of them, by the name of weights.
        share: Of zeros in all.
    """
    if kind == "uniform":
        return {product.weight: share for product in found}
    costs = {p.weight: pattern.sums(known[p.weight].cost).flatten() / known[p.weight].energy for p in found}
    sizes = {p.weight: (1.0 if kind == "weights" else p.macs / known[p.weight].cost.numel()) for p in found}
    return _cheapest(costs, sizes, share)


def _cheapest(costs: Mapping[str, Tensor], sizes: Mapping[str, float], share: float) -> dict[str, float]:
    """Shares with which the sum of all costs is least.

    Args:
        costs: Of each block of a layer.
        sizes: What a block of it counts.
        share: Of all that counts, what becomes zero.
    """
    counts = torch.tensor([len(cost) for cost in costs.values()])
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    size = torch.tensor(list(sizes.values()), dtype=torch.float64)[owner]
    order = (torch.cat(list(costs.values())) / size).argsort()
    reached = size[order].cumsum(0)
    gone = order[reached <= share * reached[-1] + 1e-9]
    zeros = torch.bincount(owner[gone], minlength=len(counts)) / counts
    return dict(zip(costs, zeros.tolist(), strict=True))
