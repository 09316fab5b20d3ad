"""Merging of similar tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..select import rank
from ..view import Merged, View

_UNFIT = -3.0
"""Below every cosine: such a pair is not merged while another can be."""


@dataclass(frozen=True)
class Merge:
    """Bolya et al. 2023, "Token merging: your ViT but faster", section 3: bipartite soft matching.

    Every second token looks for the most similar one of the others, by the cosine of their keys, the mean of all
    heads.  The most similar pairs become one token each, their mean.  Where more than half must go, fewer tokens
    stay to be looked at: every third, every fourth.
    """

    def reduce(self, view: View, count: int) -> Merged:
        leaving, staying = _sides(view.hidden.shape[1], max(1, count - view.held))
        similar = _similar(view, leaving, staying)
        nearest = similar.amax(-1)
        gone = rank(nearest) < len(leaving) + len(staying) - count
        found = torch.where(similar == nearest.unsqueeze(-1), torch.tensor(staying), staying[-1]).amin(-1)
        target = torch.where(gone, found, torch.tensor(leaving))
        return Merged(_with(target, leaving, staying))


def _sides(tokens: int, most: int) -> tuple[list[int], list[int]]:
    """Places that may go, the first among them, and those that stay, every second one unless that is too many."""
    stride = max(2, tokens // (most + 1) + 1)
    step = [place % stride == stride - 1 for place in range(tokens)]
    return [place for place in range(tokens) if not step[place]], [place for place in range(tokens) if step[place]]


def _similar(view: View, leaving: list[int], staying: list[int]) -> Tensor:
    """float32 [batch, leaving, staying]; protected tokens neither go nor take others in, padding mixes with padding."""
    key = normalize(view.key.mean(1).to(torch.float32), dim=-1)
    similar = torch.matmul(key[:, leaving], key[:, staying].transpose(-1, -2))
    unfit = view.protected[:, leaving].unsqueeze(-1) + view.protected[:, staying].unsqueeze(-2)
    if view.valid is not None:
        unfit = unfit + (view.valid[:, leaving].unsqueeze(-1) - view.valid[:, staying].unsqueeze(-2)).abs()
    fit = (unfit == 0) & (similar >= -2)
    return torch.where(fit, similar, _UNFIT)


def _with(target: Tensor, leaving: list[int], staying: list[int]) -> Tensor:
    """Targets of all tokens, in their order: int64 [batch, tokens]."""
    mixed = leaving + staying
    everyone = torch.cat([target, torch.tensor(staying).expand(target.shape[0], -1)], -1)
    return everyone[:, [mixed.index(place) for place in range(len(mixed))]]
