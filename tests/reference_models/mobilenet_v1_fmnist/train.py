"""Twelve epochs of cross entropy with mirrored and shifted images, then three of mirrored ones at a lower rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_models import training
from tests.reference_models.checkpoint import round_to_float16
from tests.reference_models.data import fashion_mnist
from tests.reference_models.images import augment
from tests.reference_models.mobilenet_v1_fmnist.model import MobileNetV1
from tests.reference_models.trained import Trained

BATCH = 128
PHASES = ((12, 4e-3, 2), (3, 6e-4, 0))
"""Epochs, peak learning rate, pixels by which images are shifted."""


def train(name: str, seed: int) -> Trained:
    """Trains the one variant there is."""
    torch.manual_seed(seed)
    data = fashion_mnist.load()
    model = MobileNetV1()
    generator = torch.Generator().manual_seed(seed)
    # The padding is zero after normalization too: the background is moved to zero and back.
    black = fashion_mnist.pixels(torch.zeros(1, 28, 28, dtype=torch.uint8))

    steps, minutes = 0, 0.0
    for number, (epochs, lr, shift) in enumerate(PHASES):

        def loss(images: Tensor, labels: Tensor, done: float, shift: int = shift) -> Tensor:
            moved = augment(fashion_mnist.pixels(images) - black, shift, generator) + black
            return functional.cross_entropy(model(moved), labels)

        count = epochs * (len(data.train_x) // BATCH)
        batches = training.epochs(data.train_x, data.train_y, BATCH, seed + number)
        minutes += training.fit(model, batches, loss, steps=count, lr=lr)
        steps += count
        round_to_float16(model)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {"test_accuracy_percent": training.accuracy(trained, fashion_mnist.pixels(data.test_x), data.test_y)}

    task, source = "label of a 28 x 28 grey image, 10 classes", "Fashion-MNIST 60,000 / 10,000"
    return Trained(model, evaluate, task, source, data.sha256, seed, steps, minutes)
