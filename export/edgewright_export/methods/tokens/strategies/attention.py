"""Dropping of tokens that get little attention."""

from __future__ import annotations

from dataclasses import dataclass

from ..attended import askers, attended
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Attention:
    """Liang et al. 2022, "EViT", section 3.1: the tokens stay that the class token attends to most."""

    def reduce(self, view: View, count: int) -> Kept:
        return Kept(best(attended(view, askers(view)), count, view.valid, view.protected))
