"""What the user passes as ``calibration=``, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from device_profiles.errors import OptionError

MOST = 512
"""Tuples that are read; calibration gains nothing from more."""


def read(calibration: Any) -> tuple[tuple[Any, ...], ...] | None:
    """``calibration=`` as the user passed it, read once; None for None.

    Raises:
        OptionError: It is no iterable of example inputs, it is empty, or a value in it is NaN or infinite.
    """
    if calibration is None:
        return None
    if isinstance(calibration, (str, Tensor)) or not isinstance(calibration, Iterable):
        what = type(calibration).__name__
        raise OptionError(f"calibration is a {what}; expected an iterable of tuples of example inputs")
    found = tuple(tuple(one) if isinstance(one, (tuple, list)) else (one,) for one in islice(calibration, MOST))
    if not found:
        raise OptionError("calibration= is empty; pass some tuples of inputs, a few hundred at best")
    for i, one in enumerate(found):
        _check(i, one)
    return found


def samples(calibration: tuple[tuple[Any, ...], ...], example: Any) -> int:
    """How many samples there are, when inputs of the example hold one: the first axis of larger ones is a batch."""
    one = _first_axis(example)
    return sum(max(1, _first_axis(given) // max(1, one)) for given in calibration)


def _first_axis(values: Any) -> int:
    tensors = [t for t in pytree.tree_leaves(values) if isinstance(t, Tensor) and t.dim()]
    return int(tensors[0].shape[0]) if tensors else 1


def _check(place: int, values: tuple[Any, ...]) -> None:
    for i, tensor in enumerate(pytree.tree_leaves(values)):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            what = "NaN" if bool(tensor.isnan().any()) else "an infinity"
            raise OptionError(f"calibration[{place}] has {what} in input {i}; take such samples out")
