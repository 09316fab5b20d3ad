"""Calibration inputs as a model is called with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from device_profiles.errors import MethodError
from edgewright_runtime.quiet import quiet

from ...state import Example


@dataclass(frozen=True)
class Call:
    """Arguments of one run."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def calls(calibration: Iterable[Any], example: Example) -> list[Call]:
    """Tuples of tensors in the places of the example's tensors.

    Raises:
        MethodError: One has not as many tensors as the example.
    """
    leaves, spec = pytree.tree_flatten((example.args, example.kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    return [_call(i, pytree.tree_leaves(one), list(leaves), places, spec) for i, one in enumerate(calibration)]


def _call(number: int, given: Sequence[Any], leaves: list[Any], places: Sequence[int], spec: Any) -> Call:
    if len(given) != len(places):
        raise MethodError(f"calibration[{number}] has {len(given)} tensors; the model takes {len(places)}")
    for i, tensor in zip(places, given, strict=True):
        leaves[i] = tensor
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    return Call(args, kwargs)


def run(module: nn.Module, given: Iterable[Call]) -> None:
    """Runs a module on each of the inputs.

    Raises:
        MethodError: It fails on one.
    """
    for number, call in enumerate(given):
        try:
            with torch.no_grad(), quiet():
                module(*call.args, **call.kwargs)
        except Exception as error:
            first = str(error).strip().partition("\n")[0][:160]
            raise MethodError(f"calibration[{number}] does not fit the model: {first}") from error
