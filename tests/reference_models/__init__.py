"""Small models of our own with a known quality, the ground for every edge method.

``load("vit_fmnist")`` gives the trained module, ``card("vit_fmnist")`` what is known of it;
``python -m tests.reference_models train vit_fmnist`` trains it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tests.reference_models import card as cards
from tests.reference_models import checkpoint
from tests.reference_models.byte_lm.model import byte_lm
from tests.reference_models.byte_moe.model import byte_moe
from tests.reference_models.gru_imu.model import GruClassifier
from tests.reference_models.mobilenet_v1_fmnist.model import MobileNetV1
from tests.reference_models.vit_fmnist.model import ViT

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One checkpoint: how the untrained module is built, and the folder of its definition and training script."""

    build: Callable[[], nn.Module]
    folder: str


MODELS: dict[str, Row] = {
    "mobilenet_v1_fmnist": Row(MobileNetV1, "mobilenet_v1_fmnist"),
    "vit_fmnist": Row(ViT, "vit_fmnist"),
    "byte_lm": Row(functools.partial(byte_lm, "silu"), "byte_lm"),
    "byte_lm_relu": Row(functools.partial(byte_lm, "relu"), "byte_lm"),
    "byte_moe": Row(byte_moe, "byte_moe"),
    "gru_imu": Row(GruClassifier, "gru_imu"),
}


def weights_path(name: str) -> Path:
    """The stored weights."""
    return _HERE / MODELS[name].folder / f"{name}.safetensors"


def card_path(name: str) -> Path:
    """The stored card."""
    return _HERE / MODELS[name].folder / f"{name}.json"


def load(name: str) -> nn.Module:
    """The trained module, float32, in evaluation mode."""
    return checkpoint.restore(MODELS[name].build(), weights_path(name))


def card(name: str) -> cards.Card:
    """What is known of the checkpoint."""
    return cards.read(card_path(name))
