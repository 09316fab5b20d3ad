"""Dropping of tokens that get little attention."""

from __future__ import annotations

from dataclasses import dataclass

from ..attended import attended_by_protected, standing_out
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Attention:
    """Liang et al. 2022, "Not all patches are what you need", section 3.2: those stay that the class token looks at.

    Args:
        reach: Over how many tokens on either side the attention is compared, so that no place loses every token; 0
            compares all tokens with each other, as the paper does.
    """

    reach: int = 2

    def reduce(self, view: View, count: int) -> Kept:
        score = standing_out(view, attended_by_protected(view), self.reach)
        return Kept(best(score, count, view.valid, view.protected))
