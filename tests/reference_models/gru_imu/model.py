"""A small recurrent classifier of motion: one GRU (Cho et al. 2014) over two seconds of six channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GruClassifier(nn.Module):
    """Args: ``mean`` and ``std`` float32 [channels] of the training data, kept as buffers."""

    def __init__(self, channels: int = 6, hidden: int = 48, classes: int = 7) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.gru = nn.GRU(channels, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, series: Tensor) -> Tensor:
        """float32 [N, length, channels], raw units, to logits [N, classes]."""
        states, _ = self.gru((series - self.mean) / self.std)
        return self.head(states.mean(1))
