"""Calls of scaled dot-product attention, and what their masks allow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ATTENTION = nn.functional.scaled_dot_product_attention
_HIDDEN = -5000.0
"""Masks of numbers hide by -10000, the least number of their dtype, or minus infinity."""


@dataclass(frozen=True)
class AttentionCall:
    """Its arguments, by position and by name as ``scaled_dot_product_attention`` takes them in torch 2.13."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def __call__(self) -> Tensor:
        attended: Tensor = ATTENTION(**vars(self))
        return attended


def allowed_by(mask: Tensor) -> Tensor:
    """Where a mask, of bool or of numbers that are added, lets a token be seen."""
    return mask if mask.dtype == torch.bool else mask > _HIDDEN


def looks_back(mask: Tensor) -> bool:
    """Whether no token sees a later one."""
    if mask.dim() < 2 or mask.shape[-1] != mask.shape[-2] or mask.shape[-1] == 1:
        return False
    allowed = allowed_by(mask)
    return bool(allowed.any()) and not bool(allowed.triu(1).any())
