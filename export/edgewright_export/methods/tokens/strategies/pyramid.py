"""Dropping of ever more tokens, the deeper the block."""

from __future__ import annotations

from dataclasses import dataclass

from ..attended import attended_by_protected, standing_out
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Pyramid:
    """Xing et al. 2024, "PyramidDrop", section 3.2: stages of equal length, behind each the same share goes.

    Shallow blocks need all tokens, deep ones few; those go that get little attention from those that ask.

    Args:
        reach: See ``Attention``.
    """

    reach: int = 2

    def reduce(self, view: View, count: int) -> Kept:
        score = standing_out(view, attended_by_protected(view), self.reach)
        return Kept(best(score, count, view.valid, view.protected))
