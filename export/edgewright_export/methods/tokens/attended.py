"""How much attention each token gets in a block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .view import View

_UNSEEN = -1e30


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
