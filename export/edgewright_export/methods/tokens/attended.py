"""How much attention each token gets in a block."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from .select import best, one_hot
from .view import View

_UNSEEN = -1e30
_LEAST = 1e-30


def attended(view: View, asking: Tensor) -> Tensor:
    """Attention that every token gets from some, the mean of those and of all heads.

    Each that asks costs tokens * width products.

    Args:
        asking: What the queries are made of, float32 [batch, asking, tokens], each row with the sum 1.

    Returns:
        float32 [batch, tokens], its sum 1.
    """
    query = torch.matmul(asking.unsqueeze(1), view.query.to(torch.float32))
    return _attention(view, query, torch.matmul(asking, view.position.to(torch.float32).unsqueeze(-1)))


def attended_by_protected(view: View) -> Tensor:
    """Attention that every token gets from the protected ones, for the output reads those; without any, from the mean
    query of all real tokens.

    Returns:
        float32 [batch, tokens], its sum 1.
    """
    if view.held and view.leading:
        first = view.query[:, :, : view.held].to(torch.float32)
        return _attention(view, first, view.position[:, : view.held].to(torch.float32).unsqueeze(-1))
    return attended(view, _protected(view) if view.held else _everyone(view))


def _attention(view: View, query: Tensor, place: Tensor) -> Tensor:
    """Queries float32 [batch, heads, asking, head width] at places [batch, asking, 1]."""
    query = query.transpose(-1, -2) / math.sqrt(view.key.shape[-1])
    score = torch.matmul(view.key.to(torch.float32), query).transpose(-1, -2)
    score = score + view.size.log().unsqueeze(1).unsqueeze(1)
    if view.valid is not None:
        score = torch.where(view.valid.unsqueeze(1).unsqueeze(1) > 0, score, _UNSEEN)
    if view.causal:
        seen = view.position.to(torch.float32).unsqueeze(1) <= place
        score = torch.where(seen.unsqueeze(1), score, _UNSEEN)
    return score.softmax(-1).mean((1, 2))


def _protected(view: View) -> Tensor:
    if view.held == 1:
        return view.protected.to(torch.float32).unsqueeze(1)
    return one_hot(best(view.protected, view.held, None, None), view.protected.shape[-1])


def _everyone(view: View) -> Tensor:
    share = view.size if view.valid is None else view.size * view.valid
    return (share / share.sum(-1, keepdim=True)).unsqueeze(1).to(torch.float32)


def standing_out(view: View, score: Tensor, reach: int) -> Tensor:
    """A score as a multiple of its neighbours' mean.

    Tokens side by side get much attention together and say the same.  By the score itself all of them stay and other
    parts of the input lose every token; beside each other the best of every place stay.

    Args:
        score: Not negative, float32 [batch, tokens].
        reach: How many of the tokens left count on either side; 0: the score as it is.
    """
    if not reach:
        return score
    counted = 1 - view.protected if view.valid is None else (1 - view.protected) * view.valid
    around = avg_pool1d(torch.stack([score * counted, counted.to(torch.float32)], 1), 2 * reach + 1, 1, reach)
    return score * around[:, 1] / around[:, 0].clamp(min=_LEAST)
