"""Teaches a module with fewer tokens what the module with all of them does."""

from __future__ import annotations

from torch import Tensor, nn

from ...training.batches import Train
from ...training.distill import Distillation
from ...training.loop import fit, seeded
from .find import Transformer

_RATE, _NEW_RATE = 2e-4, 2e-3
"""Highest learning rates of what is trained already, and of the reverse module, which is not."""


class Reverse(nn.Module):
    """All tokens out of those that are left (Zong et al. 2022, "Self-slimmed vision transformer", section on feature
    recalibration: a reverse of the module that slims).

    Each token is a mean of those left, weighted by what they hold, and then refined.

    Args:
        width: Of a token.
        tokens: How many come back.
    """

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.weight = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, tokens))
        self.refine = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, left: Tensor) -> Tensor:
        """float [batch, left, width] to [batch, tokens, width]."""
        tokens = self.weight(left).softmax(1).transpose(1, 2) @ left
        refined: Tensor = tokens + self.refine(tokens)
        return refined


def recalibrate(
    student: nn.Module, teacher: nn.Module, found: Transformer, train: Train, *, left: int, steps: int
) -> tuple[float, float]:
    """Trains the student in place; what brings its tokens back for the comparison is thrown away.

    Args:
        student: With fewer tokens.
        teacher: With all of them.
        found: Their transformer.
        train: Data and loss.
        left: Tokens behind the student's last block.
        steps: Batches that are learned from.

    Returns:
        Mean loss of the first and of the last tenth of the steps.
    """
    with seeded(0):
        reverse = nn.Identity() if left == found.tokens else Reverse(found.width, found.tokens)
    loss = Distillation(student, teacher, found.paths[-1], reverse, train.loss)
    return fit(((student, _RATE), (reverse, _NEW_RATE)), train.endless(), loss, steps=steps)
