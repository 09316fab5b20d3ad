"""Windows of text for training, and bits per byte on a whole text."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional


def windows(text: Tensor, length: int, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows without end: bytes [batch, length] and the byte after each."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        start = torch.randint(0, len(text) - length, (batch, 1), generator=generator)
        window = text[start + torch.arange(length + 1)].long()
        yield window[:, :-1], window[:, 1:]


def bits_per_byte(model: nn.Module, text: Tensor, length: int) -> float:
    """Mean bits for each byte after the first ``length / 2``, each predicted from at least that many before it.

    Windows of ``length`` bytes overlap by half; only the second half of each is counted, and a rest at the
    end that fills no half window is left out.
    """
    half = length // 2
    starts = torch.arange(0, len(text) - length, half)
    nats, count = 0.0, 0
    with torch.no_grad():
        for chosen in starts.split(32):
            window = text[chosen[:, None] + torch.arange(length + 1)].long()
            logits = model(window[:, :-1])[:, half:]
            target = window[:, 1 + half :]
            nats += functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum").item()
            count += target.numel()
    return nats / count / math.log(2)
