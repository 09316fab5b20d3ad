"""Ten epochs of cross entropy; until the last part each image shows a quarter of its patches.

Training on a random part of the patches: Liu et al. 2022, "PatchDropout", section 3; it costs a quarter of the
time, and the last part on all patches closes the gap to the full image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_models import training
from tests.reference_models.data import fashion_mnist
from tests.reference_models.images import augment
from tests.reference_models.trained import Trained
from tests.reference_models.vit_fmnist.model import ViT

BATCH, EPOCHS, LR, KEPT, WHOLE_FROM = 64, 10, 1.5e-3, 49, 0.88


def train(name: str, seed: int) -> Trained:
    """Trains the one variant there is."""
    torch.manual_seed(seed)
    data = fashion_mnist.load()
    model = ViT()
    generator = torch.Generator().manual_seed(seed)

    def loss(images: Tensor, labels: Tensor, done: float) -> Tensor:
        tokens = model.tokens(augment(fashion_mnist.pixels(images), 0, generator))
        if done < WHOLE_FROM:
            tokens = _some(tokens, generator)
        return functional.cross_entropy(model.classify(tokens), labels)

    steps = EPOCHS * (len(data.train_x) // BATCH)
    batches = training.epochs(data.train_x, data.train_y, BATCH, seed)
    minutes = training.fit(model, batches, loss, steps=steps, lr=LR)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {"test_accuracy_percent": training.accuracy(trained, fashion_mnist.pixels(data.test_x), data.test_y)}

    task, source = "label of a 28 x 28 grey image, 10 classes", "Fashion-MNIST 60,000 / 10,000"
    return Trained(model, evaluate, task, source, data.sha256, seed, steps, minutes)


def _some(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The class token and ``KEPT`` random patches of each image."""
    order = torch.rand(tokens.shape[0], tokens.shape[1] - 1, generator=generator).argsort(1)[:, :KEPT] + 1
    patches = tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], patches], 1)
