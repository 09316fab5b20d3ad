"""Dropping of ever more tokens, the deeper the block."""

from __future__ import annotations

from dataclasses import dataclass

from ..attended import askers, attended
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Pyramid:
    """Xing et al. 2024, "PyramidDrop", section 3.2: stages of equal length, behind each the same share goes.

    Shallow blocks need all tokens, deep ones few; the tokens go that the query of those that ask sees least.
    """

    def reduce(self, view: View, count: int) -> Kept:
        return Kept(best(attended(view, askers(view)), count, view.valid, view.protected))
