"""Real models, real data, and what counts as quality of a quantized one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from apps import assets, models
from tests import reference_models
from tests.reference_models.byte_lm import text
from tests.reference_models.data import fashion_mnist, sotu, watch
from tests.token_dropping import cases as dropping

Predict = Callable[..., Any]
Inputs = tuple[Tensor, ...]
CALIBRATION = 256
"""Samples, none of which is evaluated."""
BATCH = 64


@dataclass(frozen=True)
class Case:
    """A model, its data and its quality.

    Args:
        inputs: Example inputs.
        calibration: Inputs that are not evaluated.
        unit: Of the quality.
        evaluate: ``evaluate(predict)`` as ``sdk.export`` takes it, higher is better.
        train: As ``sdk.export`` takes it.
    """

    module: nn.Module
    inputs: Inputs
    calibration: Sequence[Inputs]
    unit: str
    evaluate: Callable[[Predict], float]
    train: tuple[Any, Callable[..., Tensor]] | None = None


def fmnist(name: str) -> Case:
    """Accuracy on all 10,000 test images; it learns from the 60,000 others, and is calibrated with 256 of these."""
    data = fashion_mnist.load()
    images = fashion_mnist.pixels(data.test_x)
    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0))

    def evaluate(predict: Predict) -> float:
        right = [int(predict(image[None]).argmax()) == label for image, label in zip(images, data.test_y, strict=True)]
        return 100 * sum(right) / len(right)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.randperm(len(data.train_x)).split(BATCH):
            images = fashion_mnist.pixels(data.train_x[part])
            mirrored = torch.rand(len(part), 1, 1, 1) < 0.5
            yield torch.where(mirrored, images.flip(-1), images), data.train_y[part]

    calibration = [(image[None],) for image in fashion_mnist.pixels(data.train_x[order[:CALIBRATION]])]
    module = reference_models.load(name)
    return Case(module, calibration[0], calibration, "% accuracy", evaluate, (batches, functional.cross_entropy))


def gru_imu() -> Case:
    """Accuracy on all windows of the three persons that are held out."""
    data = watch.load()

    def evaluate(predict: Predict) -> float:
        right = [
            int(predict(series[None]).argmax()) == label for series, label in zip(data.test_x, data.test_y, strict=True)
        ]
        return 100 * sum(right) / len(right)

    calibration = [(series[None],) for series in data.train_x[:: max(1, len(data.train_x) // CALIBRATION)]]
    return Case(reference_models.load("gru_imu"), calibration[0], calibration, "% accuracy", evaluate)


def byte_lm() -> Case:
    """Minus the bits for each byte of held-out text, 96 windows of 256; it learns from the rest."""
    data, length = sotu.load(), 256
    starts = torch.linspace(0, len(data.validation) - length - 1, 96).long()
    windows = data.validation[starts[:, None] + torch.arange(length + 1)].long()

    def evaluate(predict: Predict) -> float:
        nats = [functional.cross_entropy(predict(window[None, :-1])[0], window[1:]).item() for window in windows]
        return -sum(nats) / len(nats) / math.log(2)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return text.windows(data.train, length, 8, int(torch.randint(1 << 30, ())))

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    draw = torch.Generator().manual_seed(0)
    places = torch.randint(len(data.train) - length, (32,), generator=draw)
    calibration = [(data.train[place : place + length][None].long(),) for place in places]
    module = reference_models.load("byte_lm")
    return Case(module, calibration[0], calibration, "- bits per byte", evaluate, (batches, loss))


def minilm() -> Case:
    """Cosine with the float module's sentence embedding, the median of 200 sentences of 64 tokens; 64 others calibrate."""
    module, given = dropping.embedding(), dropping.sentences()
    with torch.no_grad():
        wanted = [module(*one) for one in given]

    def evaluate(predict: Predict) -> float:
        return statistics.median(dropping.cosine(predict(*one), want) for one, want in zip(given, wanted, strict=True))

    return Case(module, given[0], dropping.sentences("train")[:64], "median cosine", evaluate)


def efficientnet_lite0() -> Case:
    """Share of 597 images with the float module's first class; 199 others of the same kind calibrate."""
    return _efficientnet_lite0(lambda i: i % 4 == 0)


def efficientnet_lite0_more() -> Case:
    """The same with more to learn from: share of 266 images; the 530 others calibrate."""
    return _efficientnet_lite0(lambda i: i % 3 != 0)


def _efficientnet_lite0(calibrates: Callable[[int], bool]) -> Case:
    module = models.efficientnet_lite0()
    stamps = [_on_white(path) for path in sorted(assets.folder("tuxpaint-stamps").rglob("*.png"))]
    calibration = [(image,) for i, image in enumerate(stamps) if calibrates(i)]
    others = [image for i, image in enumerate(stamps) if not calibrates(i)]
    return Case(module, calibration[0], calibration, "% agreement", _agreement(module, others))


def efficientnet_lite0_photos() -> Case:
    """The same module and calibration, of 20 photos how many have the float module's first class."""
    case = efficientnet_lite0()
    photos = [torch.from_numpy(models.EFFICIENTNET_IMAGE.load(path)) for path, _ in models.photos()]
    return replace(case, evaluate=_agreement(case.module, photos))


def _agreement(module: nn.Module, images: Sequence[Tensor]) -> Callable[[Predict], float]:
    with torch.no_grad():
        wanted = [int(module(image).argmax()) for image in images]

    def evaluate(predict: Predict) -> float:
        same = [int(predict(image).argmax()) == want for image, want in zip(images, wanted, strict=True)]
        return 100 * sum(same) / len(same)

    return evaluate


def _on_white(path: Path) -> Tensor:
    """A drawing or photo without background, on white."""
    with Image.open(path) as image:
        drawn = image.convert("RGBA")
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return torch.from_numpy(models.EFFICIENTNET_IMAGE.load(page.convert("RGB")))


CASES: dict[str, Callable[[], Case]] = {
    "mobilenet_v1_fmnist": lambda: fmnist("mobilenet_v1_fmnist"),
    "vit_fmnist": lambda: fmnist("vit_fmnist"),
    "gru_imu": gru_imu,
    "byte_lm": byte_lm,
    "minilm": minilm,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite0_more": efficientnet_lite0_more,
    "efficientnet_lite0_photos": efficientnet_lite0_photos,
}
