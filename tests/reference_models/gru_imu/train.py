"""Cross entropy on windows of twelve persons' exercises with scaled and noisy copies; other persons are the test."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_models import training
from tests.reference_models.data import watch
from tests.reference_models.gru_imu.model import GruClassifier
from tests.reference_models.trained import Trained

BATCH, STEPS, LR, NOISE, SCALE = 64, 1500, 4e-3, 0.1, 0.1


def train(name: str, seed: int) -> Trained:
    """Trains the one variant there is."""
    torch.manual_seed(seed)
    data = watch.load()
    model = GruClassifier()
    model.mean.copy_(data.train_x.mean((0, 1)))
    model.std.copy_(data.train_x.std((0, 1)))
    generator = torch.Generator().manual_seed(seed)

    def loss(series: Tensor, labels: Tensor, done: float) -> Tensor:
        noise = torch.randn(series.shape, generator=generator) * model.std * NOISE
        scale = 1 + SCALE * torch.randn(len(series), 1, 1, generator=generator)
        return functional.cross_entropy(model(series * scale + noise), labels)

    batches = training.epochs(data.train_x, data.train_y, BATCH, seed)
    minutes = training.fit(model, batches, loss, steps=STEPS, lr=LR)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {"test_accuracy_percent": training.accuracy(trained, data.test_x, data.test_y)}

    task = "exercise in two seconds of a watch's acceleration and rotation, 7 classes"
    source = "seglearn watch data, persons 8 to 10 held out"
    return Trained(model, evaluate, task, source, data.sha256, seed, STEPS, minutes)
