"""Weights on disk: float16 safetensors; in memory: float32."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn


def store(model: nn.Module, path: Path) -> None:
    """Writes every parameter and buffer, floating ones as float16, through a temporary file."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(save(tensors))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(model: nn.Module, path: Path) -> nn.Module:
    """Fills ``model`` in place and returns it in evaluation mode."""
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    with torch.no_grad():
        model.load_state_dict(tensors)
    return model.eval()


def round_to_float16(model: nn.Module) -> None:
    """What :func:`store` and :func:`restore` do to a module, in place."""
    with torch.no_grad():
        model.load_state_dict(
            {k: v.half().to(v.dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
        )
