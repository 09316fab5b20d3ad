"""Models that the command line can name."""

from __future__ import annotations

import torch

from .models import DataDependent, MobileNetV1, ViT, seeded


class Small(MobileNetV1):
    """A model with a name of its own."""


def build() -> torch.nn.Module:
    """A model that exports."""
    return seeded(Small)


def forks() -> torch.nn.Module:
    """A model that cannot be captured."""
    return seeded(DataDependent)


def vit() -> torch.nn.Module:
    """A transformer."""
    return seeded(ViT)
