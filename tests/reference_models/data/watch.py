"""Shoulder exercises worn on a wrist (seglearn's watch data, BSD-3-Clause): 6 channels at 50 Hz, 7 exercises.

Split by person, so that no window of a test person was seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apps import assets
from tests.reference_models.data.digest import digest

EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
TEST_SUBJECTS = (8, 9, 10)
WINDOW_SAMPLES, STEP_SAMPLES = 100, 50


@dataclass(frozen=True)
class Watch:
    """Windows float32 [N, 100, 6] (acceleration, then rotation), labels int64 [N]."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def sha256(self) -> str:
        return digest(self.train_x, self.train_y, self.test_x, self.test_y)


def load() -> Watch:
    """Windows of two seconds, half overlapping, from the cache or the package."""
    file = assets.folder("seglearn") / "seglearn/data/watch_dataset.npy"
    content = np.load(file, allow_pickle=True).item()  # the package's hash was checked
    people = np.asarray(content["subject"]).astype(int)
    test = np.isin(people, TEST_SUBJECTS)
    return Watch(*_windows(content, ~test), *_windows(content, test))


def _windows(content: dict, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    windows, labels = [], []
    for index in np.flatnonzero(chosen):
        series = np.asarray(content["X"][index], np.float32)
        for start in range(0, len(series) - WINDOW_SAMPLES + 1, STEP_SAMPLES):
            windows.append(series[start : start + WINDOW_SAMPLES])
            labels.append(int(content["y"][index]))
    return torch.from_numpy(np.stack(windows)), torch.tensor(labels)
