"""Merging of similar tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..rows import take
from ..select import ascending, from_best
from ..view import Merged, View

_UNFIT = 4.0
"""Beyond every distance: such a pair is not merged while another can be."""


@dataclass(frozen=True)
class Merge:
    """Bolya et al. 2023, "Token merging: your ViT but faster", section 3: bipartite soft matching.

    Every second token looks for the most similar one of the others, by the cosine of their keys, the mean of all
    heads.  The most similar pairs become one token each, their mean.  Where more than half must go, fewer tokens
    stay to be looked at: every third, every fourth.
    """

    def reduce(self, view: View, count: int) -> Merged:
        leaving, staying = _sides(view.hidden.shape[1], max(1, count - view.held))
        nearest, which = _distance(view, leaving, staying).min(-1)
        pairs = torch.stack((leaving.to(torch.float32).expand_as(nearest), staying[which].to(torch.float32)), -1)
        pairs = take(pairs, from_best(nearest, len(leaving)))
        left = count - len(staying)
        gone, into = pairs[:, left:].unbind(-1)
        stays = torch.cat((pairs[:, :left, 0], staying.to(torch.float32).expand(len(pairs), -1)), -1)
        return Merged(ascending(stays), gone.to(torch.int64), into.to(torch.int64))


def _sides(tokens: int, most: int) -> tuple[Tensor, Tensor]:
    """Places that may go, the first among them, and those that stay, every second one unless that is too many."""
    stride = max(2, tokens // (most + 1) + 1)
    step = [place % stride == stride - 1 for place in range(tokens)]
    return tuple(torch.tensor([place for place in range(tokens) if step[place] == stays]) for stays in (False, True))


def _distance(view: View, leaving: Tensor, staying: Tensor) -> Tensor:
    """1 - cosine, float32 [batch, leaving, staying]; protected tokens neither go nor take others in, padding mixes
    with padding."""
    key = normalize(view.key.mean(1).to(torch.float32), dim=-1)
    distance = 1 - torch.matmul(key.index_select(1, leaving), key.index_select(1, staying).transpose(-1, -2))
    fit = distance <= 2.5
    if view.held:
        fit = fit & (_pairs(torch.add, view.protected, leaving, staying) == 0)
    if view.valid is not None:
        fit = fit & (_pairs(torch.sub, view.valid, leaving, staying) == 0)
    return torch.where(fit, distance, _UNFIT)


def _pairs(combine: Callable[..., Tensor], values: Tensor, leaving: Tensor, staying: Tensor) -> Tensor:
    left, right = values.index_select(1, leaving), values.index_select(1, staying)
    return combine(left.unsqueeze(-1), right.unsqueeze(-2))
