"""Which of successive inputs stay is learned, together with the weights.

Fang et al. 2024, "MaskLLM: learnable semi-structured sparsity for large language models", section 3.3: each group of inputs draws
one of all masks that there can be, by Gumbel softmax, from logits that the loss teaches; draws become sharper on the way.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .masks import Masks
from .pattern import Pattern

MOST_CANDIDATES = 128
RATE = 0.1
"""Highest learning rate of logits."""
_TEMPERATURES = (4.0, 0.05)
_SCALES = (1.0, 5.0)
"""Of logits against Gumbel noise, in the beginning and in the end."""


def candidates(pattern: Pattern) -> int:
    """Masks of which a group draws one."""
    return math.comb(pattern.of, pattern.kept)


class Choosing(nn.Module):
    """A module whose weights are multiplied with masks that are drawn anew in each run.

    Args:
        module: It.
        masks: Of its weights, with a pattern "N:M"; logits begin with what these know of their importance.
    """

    def __init__(self, module: nn.Module, masks: Masks) -> None:
        super().__init__()
        pattern = masks.pattern
        self._module, self._masks, self._part = [module], masks, 0.0
        rows = [[place in kept for place in range(pattern.of)] for kept in combinations(range(pattern.of), pattern.kept)]
        self._all = torch.tensor(rows, dtype=torch.float32)
        self._names = list(masks.kept)
        self.logits = nn.ParameterList(nn.Parameter(self._prior(masks.importance(name))) for name in self._names)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module with one draw."""
        (module,) = self._module
        drawn = {name: module.get_parameter(name) * self._drawn(name, logits) for name, logits in self._pairs()}
        return functional_call(module, drawn, args, kwargs)

    def go_on(self, part: float) -> None:
        """To this part of the way, 0 to 1."""
        self._part = part

    def decide(self) -> None:
        """The likeliest mask of each group is that of its weights."""
        for name, logits in self._pairs():
            self._masks.kept[name] = self._spread(self._all[logits.argmax(1)], name).bool()
        self._masks.apply()

    def _pairs(self) -> list[tuple[str, Tensor]]:
        return list(zip(self._names, self.logits, strict=True))

    def _prior(self, importance: Tensor) -> Tensor:
        """What each mask would keep, as a share of the most; standardized."""
        kept = self._masks.pattern.groups(importance) @ self._all.T
        kept = kept / kept.amax(1, keepdim=True).clamp(min=1e-30)
        return (kept - kept.mean()) / kept.std().clamp(min=1e-6)

    def _drawn(self, name: str, logits: Tensor) -> Tensor:
        noise = -torch.empty_like(logits).exponential_().log()
        scale, temperature = (a * (b / a) ** self._part for a, b in (_SCALES, _TEMPERATURES))
        return self._spread(((logits * scale + noise) / temperature).softmax(1) @ self._all, name)

    def _spread(self, groups: Tensor, name: str) -> Tensor:
        return self._masks.pattern.ungrouped(groups, self._masks.kept[name])
