"""What a training script hands back, and how it becomes weights and a card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from tests.reference_models import MODELS, checkpoint
from tests.reference_models.card import Card, write


@dataclass(frozen=True)
class Trained:
    """A finished run; ``evaluate`` gives the figures of a module, ``notes`` what else belongs on the card."""

    model: nn.Module
    evaluate: Callable[[nn.Module], dict[str, float]]
    task: str
    data: str
    data_sha256: str
    seed: int
    steps: int
    minutes: float
    notes: Callable[[nn.Module], dict[str, object]] = field(default=lambda model: {})


def store(name: str, trained: Trained, weights: Path, card: Path) -> Card:
    """Stores the weights, measures what was stored, and writes its card."""
    checkpoint.store(trained.model, weights)
    model = checkpoint.restore(MODELS[name].build(), weights)
    content = weights.read_bytes()
    record = Card(
        name=name,
        task=trained.task,
        data=trained.data,
        data_sha256=trained.data_sha256,
        seed=trained.seed,
        minutes=round(trained.minutes, 1),
        steps=trained.steps,
        parameters=sum(p.numel() for p in model.parameters()),
        weights_bytes=len(content),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        figures={key: round(value, 4) for key, value in trained.evaluate(model).items()},
        notes=trained.notes(model),
    )
    write(record, card)
    return record
