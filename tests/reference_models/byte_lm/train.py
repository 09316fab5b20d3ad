"""Next-byte prediction on random windows of 256 bytes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_models import training
from tests.reference_models.byte_lm.model import ByteLM, byte_lm
from tests.reference_models.byte_lm.text import bits_per_byte, windows
from tests.reference_models.data import sotu
from tests.reference_models.trained import Trained

BATCH, STEPS, LR = 16, 1800, 3e-3
ACTIVATION_OF = {"byte_lm": "silu", "byte_lm_relu": "relu"}
TASK, SOURCE = "next byte of English text", "State of the Union addresses, every twelfth file held out"


def train(name: str, seed: int) -> Trained:
    """Trains the variant whose activation the name says."""
    torch.manual_seed(seed)
    data = sotu.load()
    model = byte_lm(ACTIVATION_OF[name])
    minutes = next_byte(model, data.train, seed, STEPS)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {"validation_bits_per_byte": bits_per_byte(trained, data.validation, model.context)}

    return Trained(model, evaluate, TASK, SOURCE, data.sha256, seed, STEPS, minutes)


def next_byte(model: ByteLM, text: Tensor, seed: int, steps: int, extra: float = 0.0) -> float:
    """Trains in place on bits per byte, plus ``extra`` times the layers' own balance losses; returns minutes."""

    def loss(ids: Tensor, following: Tensor, done: float) -> Tensor:
        value = functional.cross_entropy(model(ids).flatten(0, 1), following.flatten())
        if extra:
            value = value + extra * sum(layer.feed_forward.balance_loss for layer in model.layers)
        return value

    batches = windows(text, model.context, BATCH, seed)
    return training.fit(model, batches, loss, steps=steps, lr=LR)
