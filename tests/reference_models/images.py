"""Augmentation of 28 x 28 images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirrors half of the images [N, 1, 28, 28] and moves each by up to ``shift`` pixels, zeros coming in."""
    count, _, height, width = images.shape
    mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(-1), images)
    if not shift:
        return images
    windows = functional.pad(images, [shift] * 4).unfold(2, height, 1).unfold(3, width, 1)
    row, column = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    return windows[torch.arange(count), :, row, column]
