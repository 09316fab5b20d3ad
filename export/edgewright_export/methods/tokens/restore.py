"""Brings every token back behind the last block, for models that answer for each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import take
from .select import one_hot
from .view import Kept, Merged, Reduction


def restored(hidden: Tensor, before: Tensor, reduction: Reduction, causal: bool) -> Tensor:
    """Undoes one reduction.

    A token that was dropped comes back as it was then, plus what those that stayed have changed by since, their mean;
    in a causal model without, for it may not see later ones.  One that went into new tokens becomes their mean,
    weighted as it went into them.

    Args:
        hidden: What is left, [batch, left, width].
        before: Hidden state at the reduction, [batch, tokens, width].
        reduction: What was done.
        causal: A token sees those before it alone.

    Returns:
        [batch, tokens, width].
    """
    if isinstance(reduction, Kept):
        left = before if causal else before + (hidden - take(before, reduction.index)).mean(1, keepdim=True)
        return take(torch.cat((hidden, left), 1), _places(reduction.index, before.shape[1]))
    if isinstance(reduction, Merged):
        return take(hidden, _gone_into(reduction, before.shape[1]))
    share = reduction.weight.sum(1, keepdim=True)
    weight = (reduction.weight / share.clamp(min=torch.finfo(share.dtype).tiny)).to(hidden.dtype)
    mean = torch.matmul(weight.transpose(1, 2), hidden)
    return torch.where(share.transpose(1, 2) > 0, mean, before)


def _places(index: Tensor, tokens: int) -> Tensor:
    """Where each token now is: among those left, or behind them as it was; counted by products, so exact."""
    left = index.shape[1]
    is_at = one_hot(index, tokens)
    was = torch.arange(tokens, dtype=torch.float32) + left
    stays = torch.arange(left, dtype=torch.float32).unsqueeze(-1) - was
    return ((is_at * stays).sum(1) + was).to(torch.int64)


def _gone_into(merged: Merged, tokens: int) -> Tensor:
    """Which of those left each token is in; counted by products, so exact."""
    left = torch.arange(merged.stays.shape[1], dtype=torch.float32).unsqueeze(-1)
    into = ((merged.stays.unsqueeze(-1) == merged.into.unsqueeze(1)) * left).sum(1, keepdim=True)
    of_gone = torch.matmul(into, one_hot(merged.gone, tokens))
    return (of_gone.squeeze(1) + (one_hot(merged.stays, tokens) * left).sum(1)).to(torch.int64)
