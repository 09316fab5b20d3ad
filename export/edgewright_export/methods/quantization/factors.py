"""What channels are divided by, where weights that meet them are multiplied with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
"""Shares of the differences that go into the weights."""


def best_factor(activations: Tensor, weights: Tensor, error: Callable[[Tensor], float]) -> Tensor | None:
    """The factor of least error, [channels]; None where nothing is better than to leave the channels as they are.

    Args:
        activations: The largest magnitude of each channel.
        weights: The largest weight that meets it.
        error: Of the quantized results with a factor.
    """
    factors = [_factor(activations, weights, strength) for strength in _STRENGTHS]
    errors = [error(factor) for factor in factors]
    best = min(range(len(errors)), key=errors.__getitem__)
    return None if best == 0 else factors[best]


def _factor(activations: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Xiao et al. 2023, "SmoothQuant", equation 4, with 1 as the geometric mean."""
    if not strength:
        return torch.ones_like(activations)
    factor = activations.clamp(min=1e-5) ** strength / weights.clamp(min=1e-5) ** (1 - strength)
    return torch.where(activations > 0, factor / factor.log().mean().exp(), torch.ones_like(factor))
