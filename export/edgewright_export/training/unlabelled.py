"""Calibration inputs in the place of ``train=``: a student learns from them what its teacher gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .batches import Batch


def batches(given: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], samples: int) -> Iterator[Batch]:
    """Batches without targets in a random order, epoch after epoch.

    Args:
        given: Positional and named arguments of each run.
        samples: Runs whose tensors are joined at their first axis where the shapes of all others are one; 1: none are.
    """
    while True:
        order = torch.randperm(len(given)).tolist()
        for begin in range(0, len(given), samples):
            runs = [given[i] for i in order[begin : begin + samples]]
            alike = len({tuple(map(_shape, pytree.tree_leaves(run))) for run in runs}) == 1
            for joined in [runs] if alike else [[run] for run in runs]:
                args, kwargs = pytree.tree_map(_join, joined[0], *joined[1:])
                yield Batch(args, kwargs, None)


def _shape(leaf: Any) -> Any:
    return leaf.shape[1:] if isinstance(leaf, Tensor) else leaf


def _join(first: Any, *others: Any) -> Any:
    return torch.cat((first, *others)) if isinstance(first, Tensor) else first
