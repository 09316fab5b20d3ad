"""The byte-level language model with sparse mixtures of experts: 16 experts a layer, two of them for each byte.

Top-2 softmax routing with renormalized weights as in Mixtral (Jiang et al. 2024, section 2.1), load balance loss of
Switch Transformer (Fedus et al. 2021, equations 4 to 6).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_models.byte_lm.model import ByteLM, GatedFeedForward

DIM, DEPTH, EXPERTS, TOP, EXPERT_HIDDEN = 128, 4, 16, 2, 96


class MixtureOfExperts(nn.Module):
    """A router and its experts; each expert is a module of its own, ``experts.<n>``."""

    def __init__(self, dim: int, hidden: int, experts: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.router = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList(GatedFeedForward(dim, hidden, "silu") for _ in range(experts))
        self.balance_loss: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, length, dim] to the same shape."""
        probabilities = self.router(x).softmax(-1)
        weight, chosen = probabilities.topk(self.top, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        if torch.compiler.is_exporting():
            return self._every_expert(x, torch.zeros_like(probabilities).scatter(-1, chosen, weight))
        self.balance_loss = self._balance(probabilities, chosen)
        return self._chosen_experts(x.flatten(0, -2), weight.flatten(0, -2), chosen.flatten(0, -2)).view_as(x)

    def _chosen_experts(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        """Each expert on its own rows only: sizes follow the data, so this form cannot be exported."""
        result = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            row, rank = (chosen == index).nonzero(as_tuple=True)
            result.index_add_(0, row, expert(x[row]) * weight[row, rank, None])
        return result

    def _every_expert(self, x: Tensor, weight: Tensor) -> Tensor:
        """The same sum with every expert on every row and weight zero for those that were not chosen."""
        return torch.stack([expert(x) * weight[..., i, None] for i, expert in enumerate(self.experts)]).sum(0)

    def _balance(self, probabilities: Tensor, chosen: Tensor) -> Tensor:
        experts = len(self.experts)
        share = functional.one_hot(chosen, experts).float().flatten(0, -2).mean(0)
        return experts * (share * probabilities.flatten(0, -2).mean(0)).sum()


def byte_moe() -> ByteLM:
    """Four layers of sixteen experts."""
    return ByteLM(lambda dim: MixtureOfExperts(dim, EXPERT_HIDDEN, EXPERTS, TOP), dim=DIM, depth=DEPTH)


def dense_control() -> ByteLM:
    """As many active parameters without a router: one feed-forward layer as wide as the chosen experts together."""
    return ByteLM(lambda dim: GatedFeedForward(dim, TOP * EXPERT_HIDDEN, "silu"), dim=DIM, depth=DEPTH)
