"""Dropping of prompt tokens that the question does not look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attended import attended, attended_by_protected
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Query:
    """Jin et al. 2025, "PromptDistill", section 3: once, behind an early block, by the attention of the question.

    The protected tokens ask; without any, the last real one, as a language model that goes on from there.
    """

    def reduce(self, view: View, count: int) -> Kept:
        score = attended_by_protected(view) if view.held else attended(view, _last(view))
        return Kept(best(score, count, view.valid, view.protected))


def _last(view: View) -> Tensor:
    place = view.position if view.valid is None else torch.where(view.valid > 0, view.position, -1)
    return (place == place.amax(-1, keepdim=True)).to(torch.float32).unsqueeze(1)
