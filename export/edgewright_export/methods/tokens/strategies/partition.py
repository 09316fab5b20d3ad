"""Dropping by a budget for each part of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..attended import attended_by_protected, standing_out
from ..select import best, distinct
from ..view import Kept, View


@dataclass(frozen=True)
class Partition:
    """Arif et al. 2024, "HiRED": each part of the input keeps as many tokens as is its share of the attention.

    The shares become whole numbers by Sainte-Lague's method: the n-th token of a part, counted by attention, has the
    part's share / (2 n - 1), and the greatest quotients win.  So the budgets add up to the tokens wanted, and no part
    gets more than it has.

    Args:
        parts: How many runs of equal length the input is cut into: of an image bands, of a text paragraphs.
        reach: See ``Attention``.
    """

    parts: int = 4
    reach: int = 2

    def reduce(self, view: View, count: int) -> Kept:
        score = attended_by_protected(view)
        part = (view.position * self.parts / view.whole).floor()
        together = (part.unsqueeze(-1) == part.unsqueeze(-2)).to(torch.float32)
        share = torch.matmul(together, score.unsqueeze(-1)).squeeze(-1)
        first = distinct(standing_out(view, score, self.reach), view.valid, view.protected)
        within = ((first.unsqueeze(-2) > first.unsqueeze(-1)).to(torch.float32) * together).sum(-1)
        return Kept(best(share / (2 * within + 1), count, view.valid, view.protected))
