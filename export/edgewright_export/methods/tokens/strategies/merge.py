"""Merging of similar tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..rows import take
from ..select import ascending, from_best
from ..view import Merged, View

_UNFIT = 8.0
"""Beyond every distance: such a pair is not merged while another can be."""
_SHORT = 1e-12


@dataclass(frozen=True)
class Merge:
    """Bolya et al. 2023, "Token merging: your ViT but faster", section 3: bipartite soft matching.

    Every second token looks for the most similar one of the others.  The most similar pairs become one token each,
    their mean.  Where more than half must go, fewer tokens stay to be looked at: every third, every fourth.

    How similar two tokens are is the cosine of their keys, of all heads beside each other, and that of their hidden
    states, added.  The paper takes keys alone, the mean of the heads; in text, and where most tokens go, that merges
    tokens which say different things.
    """

    def reduce(self, view: View, count: int) -> Merged:
        sides = _sides(view.hidden.shape[1], max(1, count - view.held))
        leaving, staying = (torch.tensor(side) for side in sides)
        nearest, which = _distance(view, leaving, staying, clear=view.leading and view.held <= sides[1][0]).min(-1)
        pairs = torch.stack((leaving.to(torch.float32).expand_as(nearest), staying[which].to(torch.float32)), -1)
        pairs = take(pairs, from_best(nearest, len(leaving)))
        left = count - len(staying)
        gone, into = pairs[:, left:].unbind(-1)
        stays = torch.cat((pairs[:, :left, 0], staying.to(torch.float32).expand(len(pairs), -1)), -1)
        return Merged(ascending(stays), gone.to(torch.int64), into.to(torch.int64))


def _sides(tokens: int, most: int) -> tuple[list[int], list[int]]:
    """Places that may go, the first among them, and those that stay, every second one unless that is too many."""
    stride = max(2, tokens // (most + 1) + 1)
    step = [place % stride == stride - 1 for place in range(tokens)]
    return [place for place in range(tokens) if not step[place]], [place for place in range(tokens) if step[place]]


def _distance(view: View, leaving: Tensor, staying: Tensor, clear: bool) -> Tensor:
    """2 - both cosines, float32 [batch, leaving, staying]; too far for protected tokens and padding with real ones.

    Args:
        clear: None of those that stay is protected.
    """
    keys = view.key.transpose(1, 2).flatten(2)
    token = torch.cat((_unit(view.hidden.to(torch.float32)), _unit(keys.to(torch.float32))), -1)
    distance = 2 - torch.matmul(token.index_select(1, leaving), token.index_select(1, staying).transpose(-1, -2))
    if view.held:
        held = view.protected.to(torch.float32) * _UNFIT
        distance = distance + held.index_select(1, leaving).unsqueeze(-1)
        distance = distance if clear else distance + held.index_select(1, staying).unsqueeze(-2)
    if view.valid is not None:
        valid = view.valid.to(torch.float32) * _UNFIT
        between = valid.index_select(1, leaving).unsqueeze(-1) - valid.index_select(1, staying).unsqueeze(-2)
        distance = distance + between.abs()
    return distance


def _unit(values: Tensor) -> Tensor:
    return values / (values * values).sum(-1, keepdim=True).sqrt().clamp(min=_SHORT)
