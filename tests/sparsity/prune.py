"""Weights without those that are smallest: for speed and correctness, not for quality."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgewright_export.methods.sparsity.pattern import Pattern


def pruned(module: nn.Module, sparsity: float, rows: int = 4, columns: int = 1) -> nn.Module:
    """A copy of whose convolutions of one tap and linear layers this share of blocks is zero.

    Args:
        module: It stays as it is.
        sparsity: 0 to 1.
        rows: Outputs of a block.
        columns: Its inputs, which divide those of all layers.
    """
    found = copy.deepcopy(module)
    weights = [layer.weight for layer in found.modules() if isinstance(layer, nn.Conv2d | nn.Linear) and _is_product(layer)]
    for weight in weights:
        weight.data *= _mask(weight.detach().flatten(1), sparsity, Pattern(rows, columns)).view(weight.shape)
    return found


def _is_product(layer: nn.Conv2d | nn.Linear) -> bool:
    return isinstance(layer, nn.Linear) or (layer.kernel_size == (1, 1) and layer.groups == 1)


def _mask(weight: Tensor, sparsity: float, pattern: Pattern) -> Tensor:
    outputs = len(weight)
    padded = torch.nn.functional.pad(weight.abs(), (0, 0, 0, -outputs % pattern.rows))
    return pattern.mask(padded, sparsity)[:outputs]
