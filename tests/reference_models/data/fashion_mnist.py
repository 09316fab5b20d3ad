"""Fashion-MNIST, all of it (Xiao, Rasul, Vollgraf 2017; MIT): the publishers' 60,000 / 10,000 split."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apps import assets
from tests.reference_models.data.digest import digest

MEAN, STD = 0.2860, 0.3530


@dataclass(frozen=True)
class FashionMnist:
    """``train_x`` uint8 [60000, 28, 28], ``test_x`` uint8 [10000, 28, 28], labels int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def sha256(self) -> str:
        return digest(self.train_x, self.train_y, self.test_x, self.test_y)


def load() -> FashionMnist:
    """The whole data set, from the cache or its package."""
    return FashionMnist(_images("train"), _labels("train"), _images("t10k"), _labels("t10k"))


def pixels(images: Tensor) -> Tensor:
    """uint8 [N, 28, 28] to normalized float32 [N, 1, 28, 28]."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)


def _images(split: str) -> Tensor:
    return torch.from_numpy(_read(f"{split}-images-idx3-ubyte", 16).reshape(-1, 28, 28).copy())


def _labels(split: str) -> Tensor:
    return torch.from_numpy(_read(f"{split}-labels-idx1-ubyte", 8).astype(np.int64))


def _read(name: str, header_bytes: int) -> np.ndarray:
    folder = assets.folder("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    with gzip.open(folder / f"{name}.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_bytes)
