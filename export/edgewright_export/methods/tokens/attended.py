"""How much attention each token gets in a block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .view import View

_UNSEEN = -1e30
_LEAST = 1e-30


def attended(view: View, asking: Tensor) -> Tensor:
    """Attention that some tokens, by their mean query, pay to every token, the mean of all heads.

    One query costs tokens * width products, all of them tokens times as much; with one token asking, such as a class
    token, it is the attention of the block itself.

    Args:
        asking: Share of each token in the query, float [batch, tokens].

    Returns:
        float [batch, tokens], its sum 1.
    """
    share = asking / asking.sum(-1, keepdim=True)
    query = torch.matmul(share[:, None, None], view.query)
    score = torch.matmul(query, view.key.transpose(-1, -2)).squeeze(2) / math.sqrt(view.key.shape[-1])
    score = score + view.size.log().unsqueeze(1)
    if view.valid is not None:
        score = torch.where(view.valid.unsqueeze(1) > 0, score, torch.full_like(score, _UNSEEN))
    return score.softmax(-1).mean(1)


def askers(view: View) -> Tensor:
    """Who asks: the protected tokens, for the output reads them; without any, all real ones alike."""
    everyone = torch.ones_like(view.protected) if view.valid is None else view.valid
    some = view.protected.amax(-1, keepdim=True)
    return view.protected * some + everyone * view.size * (1 - some)


def standing_out(view: View, score: Tensor, reach: int) -> Tensor:
    """A score as a multiple of its neighbours' mean.

    Tokens side by side get much attention together and say the same.  By the score itself all of them stay and other
    parts of the input lose every token; beside each other the best of every place stay.

    Args:
        score: Not negative, float [batch, tokens].
        reach: How many of the tokens left count on either side; 0: the score as it is.
    """
    if not reach:
        return score
    place = torch.arange(score.shape[-1])
    near = ((place.unsqueeze(0) - place.unsqueeze(1)).abs() <= reach).to(score.dtype)
    counted = 1 - view.protected if view.valid is None else (1 - view.protected) * view.valid
    around = torch.matmul(torch.stack([score * counted, counted], 1), near)
    return score * around[:, 1] / around[:, 0].clamp(min=_LEAST)
