"""Six epochs from labels and a convolutional teacher; at first each image shows a quarter of its patches, then half.

Training on a random part of the patches: Liu et al. 2022, "PatchDropout", section 3; its cost falls with the part,
and the last steps on all patches close the gap to the full image.  A convolutional teacher for a transformer:
Touvron et al. 2021, "Training data-efficient image transformers", section 4 (here soft labels, without a token of
its own).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests import reference_models
from tests.reference_models import training
from tests.reference_models.data import fashion_mnist
from tests.reference_models.images import augment
from tests.reference_models.trained import Trained
from tests.reference_models.vit_fmnist.model import ViT

TEACHER, TEACHER_SHARE, TEMPERATURE = "mobilenet_v1_fmnist", 0.5, 2.0
BATCH, EPOCHS, LR = 64, 6, 1.5e-3
PATCHES = ((0.65, 49), (0.88, 98), (1.0, 196))
"""Until this part of the steps, so many random patches of each image."""


def train(name: str, seed: int) -> Trained:
    """Trains the one variant there is."""
    torch.manual_seed(seed)
    data = fashion_mnist.load()
    model, teacher = ViT(), reference_models.load(TEACHER)
    generator = torch.Generator().manual_seed(seed)

    def loss(images: Tensor, labels: Tensor, done: float) -> Tensor:
        seen = augment(fashion_mnist.pixels(images), 0, generator)
        kept = next(patches for until, patches in PATCHES if done < until)
        logits = model.classify(_some(model.tokens(seen), kept, generator))
        with torch.no_grad():
            wanted = teacher(seen)
        return torch.lerp(functional.cross_entropy(logits, labels), _divergence(logits, wanted), TEACHER_SHARE)

    steps = EPOCHS * (len(data.train_x) // BATCH)
    batches = training.epochs(data.train_x, data.train_y, BATCH, seed)
    minutes = training.fit(model, batches, loss, steps=steps, lr=LR)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return {"test_accuracy_percent": training.accuracy(trained, fashion_mnist.pixels(data.test_x), data.test_y)}

    task, source = "label of a 28 x 28 grey image, 10 classes", "Fashion-MNIST 60,000 / 10,000"
    return Trained(model, evaluate, task, source, data.sha256, seed, steps, minutes)


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2."""
    ours, theirs = ((x / TEMPERATURE).log_softmax(-1) for x in (logits, wanted))
    return TEMPERATURE**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def _some(tokens: Tensor, kept: int, generator: torch.Generator) -> Tensor:
    """The class token and ``kept`` random patches of each image."""
    patches = tokens.shape[1] - 1
    if kept == patches:
        return tokens
    order = torch.rand(tokens.shape[0], patches, generator=generator).argsort(1)[:, :kept] + 1
    chosen = tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], chosen], 1)
