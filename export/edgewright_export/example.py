"""Example inputs: taken as given, or inferred where the model itself says what it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from device_profiles.errors import CaptureError, OptionError

from .state import Example

_SEED = 0
_TOKENS = 64


def given(example_inputs: Any, dynamic_shapes: Any) -> Example:
    """Example inputs as the user passed them.

    Args:
        example_inputs: A tensor, a tuple or list of positional inputs, or a dict of named inputs;
            numpy arrays count as tensors.
        dynamic_shapes: As ``torch.export.export`` takes them, or None.

    Raises:
        OptionError: Nothing a forward could take.
    """
    if isinstance(example_inputs, (torch.Tensor, np.ndarray)):
        example_inputs = (example_inputs,)
    if isinstance(example_inputs, Mapping):
        args, kwargs = (), dict(example_inputs)
    elif isinstance(example_inputs, (tuple, list)):
        args, kwargs = tuple(example_inputs), {}
    else:
        raise OptionError(
            f"example_inputs is a {type(example_inputs).__name__}; expected a tensor, a tuple of positional inputs "
            "or a dict of named inputs, for example example_inputs=(torch.randn(1, 3, 224, 224),)"
        )
    args, kwargs = torch.utils._pytree.tree_map_only(np.ndarray, torch.from_numpy, (args, kwargs))
    return Example(args, kwargs, "example_inputs=", dynamic_shapes)


def inferred(model: torch.nn.Module, dynamic_shapes: Any = None) -> Example:
    """Example inputs from what the model says about itself.

    Tried in order: Lightning's ``example_input_array``, timm's ``default_cfg``, the configuration
    of a ``transformers`` model, the first Linear or Embedding.

    Raises:
        CaptureError: The model does not say; the message has a line to paste.
    """
    for source in (_lightning, _timm, _transformers, _first_layer):
        example = source(model)
        if example is not None:
            return Example(example.args, example.kwargs, example.source, dynamic_shapes)
    raise CaptureError(_line_to_paste(model))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def _lightning(model: torch.nn.Module) -> Example | None:
    array = getattr(model, "example_input_array", None)
    if array is None:
        return None
    example = given(array, None)
    return Example(example.args, example.kwargs, "the model's example_input_array")


def _timm(model: torch.nn.Module) -> Example | None:
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else getattr(config, "input_size", None)
    if not size:
        return None
    shape = (1, *map(int, size))
    return Example((_floats(model, shape),), {}, f"the model's default_cfg, input_size {tuple(size)}")


def _transformers(model: torch.nn.Module) -> Example | None:
    config = getattr(model, "config", None)
    main = getattr(model, "main_input_name", None)
    if config is None or main is None or not hasattr(config, "to_dict"):
        return None
    source = f"the model's {type(config).__name__}"
    if main == "pixel_values":
        shape = _pixels(config)
        return None if shape is None else Example((), {main: _floats(model, shape)}, source)
    if main == "input_ids" and getattr(config, "vocab_size", None):
        length = min(_TOKENS, int(getattr(config, "max_position_embeddings", _TOKENS)))
        ids = torch.randint(1, int(config.vocab_size), (1, length), generator=_generator())
        return Example((), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, source)
    if main == "input_features" and getattr(config, "num_mel_bins", None):
        frames = 2 * int(getattr(config, "max_source_positions", 1500))
        return Example((), {main: _floats(model, (1, int(config.num_mel_bins), frames))}, source)
    return None


def _pixels(config: Any) -> tuple[int, ...] | None:
    size = getattr(config, "image_size", None)
    if size is None:
        return None
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return (1, int(getattr(config, "num_channels", 3)), int(height), int(width))


def _first_layer(model: torch.nn.Module) -> Example | None:
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            return Example((_floats(model, (1, layer.in_features)),), {}, f"the first Linear, {name or 'the model'}")
        if isinstance(layer, torch.nn.Embedding):
            ids = torch.randint(0, layer.num_embeddings, (1, _TOKENS), generator=_generator())
            return Example((ids,), {}, f"the first Embedding, {name or 'the model'}")
        if not list(layer.children()) and next(layer.parameters(), None) is not None:
            return None
    return None


def _floats(model: torch.nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), torch.float32)
    return torch.randn(shape, generator=_generator()).to(dtype)


def _line_to_paste(model: torch.nn.Module) -> str:
    name = type(model).__name__
    convolutions = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    for path, layer in model.named_modules():
        if isinstance(layer, convolutions):
            spatial = ("length",), ("height", "width"), ("depth", "height", "width")
            sizes = spatial[convolutions.index(type(layer))] if type(layer) in convolutions else ("height", "width")
            typical = {"length": 1024, "depth": 16, "height": 224, "width": 224}
            numbers = ", ".join(str(typical[size]) for size in sizes)
            return (
                f"the inputs of {name} are not known: its first layer {path} ({type(layer).__name__}) takes "
                f"{layer.in_channels} channels but does not tell {' and '.join(sizes)}\n"
                f"pass them with your sizes: example_inputs=(torch.randn(1, {layer.in_channels}, {numbers}),)"
            )
    return (
        f"the inputs of {name} are not known\n"
        "pass them, for example: example_inputs=(torch.randn(1, 3, 224, 224),)"
        " or example_inputs={'input_ids': torch.ones(1, 64, dtype=torch.int64)}"
    )
