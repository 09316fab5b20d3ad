"""Dropping of whole rows of an image's patches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..attended import attended_by_protected
from ..select import best
from ..view import Kept, View


@dataclass(frozen=True)
class Rows:
    """Jiang et al. 2024, "FoPru", the row strategy: those rows of the square of patches stay that get the most attention.

    Of a last row that does not fit the first patches stay.  Tokens before the square, such as a class token, are a row
    of their own.
    """

    def reduce(self, view: View, count: int) -> Kept:
        width = math.isqrt(view.whole)
        row = ((view.position - (view.whole - width * width)) / width).floor()
        together = (row.unsqueeze(-1) == row.unsqueeze(-2)).to(torch.float32)
        share = torch.matmul(together, attended_by_protected(view).unsqueeze(-1)).squeeze(-1)
        return Kept(best(share, count, view.valid, view.protected))
