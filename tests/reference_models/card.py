"""What is known of a checkpoint: one JSON file beside its weights, written by the script that trained it."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class Card:
    """The record of one training run.

    ``figures`` are measured on the stored float16 weights, computed in float32; percent and bits are in their names.
    """

    name: str
    task: str
    data: str
    data_sha256: str
    seed: int
    minutes: float
    steps: int
    parameters: int
    weights_bytes: int
    weights_sha256: str
    figures: dict[str, float]
    notes: dict[str, object] = field(default_factory=dict)
    threads: int = field(default_factory=torch.get_num_threads)
    torch: str = torch.__version__
    machine: str = field(default_factory=platform.machine)


def write(card: Card, path: Path) -> None:
    """Writes through a temporary file, so that an interrupted run leaves the old card."""
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(json.dumps(asdict(card), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> Card:
    """The card of a file that :func:`write` wrote."""
    return Card(**json.loads(path.read_text()))
