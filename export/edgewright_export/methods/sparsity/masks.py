"""Which weights of a model are zero, and how that changes while it learns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .pattern import Pattern


class Masks:
    """Zeros of a module's weights.

    Args:
        module: Its weights are changed in place.
        pattern: Which weights become zero together.
        shares: Of zeros in the end, by the name of weights.
        curvature: What the square of each weight costs when it becomes zero, by the name of weights.
    """

    def __init__(
        self, module: nn.Module, pattern: Pattern, shares: Mapping[str, float], curvature: Mapping[str, Tensor]
    ) -> None:
        self.pattern, self._shares, self._curvature = pattern, shares, curvature
        self._weights = {name: module.get_parameter(name) for name in shares}
        self.kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self._weights.items()}

    def choose(self, done: float = 1.0, regrown: float = 0.0) -> None:
        """Chooses the zeros anew.

        Args:
            done: Part of the shares in the end.
            regrown: Of the weights that stay, the part that is chosen by how fast they would grow from zero, as far as
                gradients are there (Liu et al. 2021, "Sparse training via boosting pruning plasticity with neuroregeneration",
                section 4, "GraNet").
        """
        for name, weight in self._weights.items():
            share = done * self._shares[name]
            importance = self.importance(name)
            gradient = weight.grad
            if gradient is None or not regrown:
                self.kept[name] = self.pattern.mask(importance, share)
                continue
            sure = self.pattern.mask(importance, 1 - (1 - share) * (1 - regrown))
            fast = gradient.square().masked_fill(sure, torch.inf)
            self.kept[name] = self.pattern.mask(fast, share)
        self.apply()

    def apply(self) -> None:
        """Makes what is masked zero."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.mul_(self.kept[name])

    def importance(self, name: str) -> Tensor:
        """What each weight costs when it becomes zero."""
        return self._weights[name].detach().square() * self._curvature[name]
