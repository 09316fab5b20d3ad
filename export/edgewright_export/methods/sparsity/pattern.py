"""Which weights of a layer become zero together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_EXPECTED = '"unstructured", "group", a block (outputs, inputs) such as (4, 1), or "N:M" such as "2:4"'


@dataclass(frozen=True)
class Pattern:
    """Blocks that stand or fall together, or how many of so many inputs stay.

    Weights are [outputs, inputs, ...]; each tap of a kernel is for itself.

    Args:
        rows: Outputs of a block.
        columns: Inputs of a block.
        kept: Of ``of`` successive inputs, how many stay; 0: there is no such rule.
        of: See ``kept``.
        rearranged: Whether channels change places first, so that blocks hold what belongs together.
    """

    rows: int = 1
    columns: int = 1
    kept: int = 0
    of: int = 1
    rearranged: bool = False

    @classmethod
    def read(cls, given: Any) -> Pattern:
        """The pattern that the user names.

        Raises:
            ValueError: There is no such one.
        """
        if given == "unstructured":
            return cls()
        if given == "group":
            return cls(4, 1, rearranged=True)
        if isinstance(given, (tuple, list)) and len(given) == 2 and all(type(n) is int and 0 < n <= 64 for n in given):
            return cls(*given)
        found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", given) if isinstance(given, str) else None
        if found is None:
            raise ValueError(f"pattern {given!r} is none of {_EXPECTED}")
        kept, of = int(found[1]), int(found[2])
        if not 0 < kept < of:
            raise ValueError(f"pattern {given!r} keeps {kept} of {of}; N must be from 1 to M - 1")
        return cls(kept=kept, of=of)

    @property
    def sparsity(self) -> float | None:
        """Share of zeros that the pattern itself says, None: any."""
        return 1 - self.kept / self.of if self.kept else None

    def misfit(self, weight: Tensor) -> str | None:
        """Why the pattern does not divide weights, None where it does."""
        outputs, inputs = weight.shape[:2]
        if outputs % self.rows:
            return f"{outputs} outputs are no multiple of {self.rows}"
        across = self.of if self.kept else self.columns
        return f"{inputs} inputs are no multiple of {across}" if inputs % across else None

    def sums(self, importance: Tensor) -> Tensor:
        """Of each block, [blocks of outputs, blocks of inputs, taps].

        Args:
            importance: Of each weight.
        """
        outputs, inputs = importance.shape[:2]
        taps = importance[0, 0].numel()
        return importance.reshape(outputs // self.rows, self.rows, inputs // self.columns, self.columns, taps).sum((1, 3))

    def mask(self, importance: Tensor, share: float) -> Tensor:
        """Which weights stay, bool, when those of least importance become zero.

        Args:
            importance: Of each weight.
            share: Of zeros.
        """
        groups = self.groups(importance)
        count = groups.shape[1] - math.floor(share * groups.shape[1] + 0.5)
        places = groups.argsort(dim=1, descending=True, stable=True)[:, :count]
        return self.ungrouped(torch.zeros_like(groups, dtype=torch.bool).scatter_(1, places, True), importance)

    def groups(self, importance: Tensor) -> Tensor:
        """Of each block, in a row those among which is chosen: successive inputs, or all.

        Args:
            importance: Of each weight.
        """
        sums = self.sums(importance).transpose(1, 2)
        return sums.reshape(-1, self.of) if self.kept else sums.reshape(1, -1)

    def ungrouped(self, groups: Tensor, weight: Tensor) -> Tensor:
        """The way back, for each weight.

        Args:
            groups: What is known of blocks.
            weight: Gives the shape.
        """
        outputs, inputs = weight.shape[:2]
        blocks = groups.view(outputs // self.rows, -1, inputs // self.columns).transpose(1, 2)
        return blocks.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1).reshape(weight.shape)
