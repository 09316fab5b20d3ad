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
    query = query.transpose(-1, -2) / math.sqrt(view.key.shape[-1])
    score = torch.matmul(view.key.to(torch.float32), query).transpose(-1, -2)
    score = score + view.size.log().unsqueeze(1).unsqueeze(1)
    if view.valid is not None:
        score = torch.where(view.valid.unsqueeze(1).unsqueeze(1) > 0, score, _UNSEEN)
    if view.causal:
        place = view.position.to(torch.float32)
        seen = place.unsqueeze(1) <= torch.matmul(asking, place.unsqueeze(-1))
        score = torch.where(seen.unsqueeze(1), score, _UNSEEN)
    return score.softmax(-1).mean((1, 2))


def askers(view: View) -> Tensor:
    """Who asks: each protected token, for the output reads it; without any, the mean query of all real tokens."""
    if view.held == 1:
        return view.protected.to(torch.float32).unsqueeze(1)
    if view.held:
        return one_hot(best(view.protected, view.held, None, None), view.protected.shape[-1])
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
