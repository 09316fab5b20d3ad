"""Calibration inputs in the place of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ...training.batches import Batch
from ..quantization.calls import Call
from ..quantization.walk import is_open

_TOGETHER = 16
"""Calls that are learned from at once, where the model takes any number of samples."""


def batches(module: nn.Module, graph: fx.GraphModule, given: Sequence[Call], seed: int) -> Iterator[Batch]:
    """Calls in any order, again and again, without targets.

    Args:
        module: What learns; a program insists on the shapes that it was captured with.
        graph: The float graph; says whether samples can be put together.
        given: Calibration inputs.
        seed: Of the order.
    """
    draw = torch.Generator().manual_seed(seed)
    count = _TOGETHER if is_open(graph) and not isinstance(module, fx.GraphModule) else 1
    while True:
        for places in _drawn(len(given), draw, count):
            yield _joined([given[place] for place in places])


def _drawn(count: int, draw: torch.Generator, most: int) -> Iterator[list[int]]:
    order = torch.randperm(count, generator=draw).tolist()
    return (order[i : i + most] for i in range(0, count, most))


def _joined(found: Sequence[Call]) -> Batch:
    """Those that are shaped like the first as one."""
    leaves = [pytree.tree_leaves((call.args, call.kwargs)) for call in found]
    alike = [own for own in leaves if _shapes(own) == _shapes(leaves[0])]
    joined = [torch.cat(several) if isinstance(several[0], Tensor) else several[0] for several in zip(*alike, strict=True)]
    args, kwargs = pytree.tree_unflatten(joined, pytree.tree_structure((found[0].args, found[0].kwargs)))
    return Batch(args, kwargs, None)


def _shapes(leaves: Sequence[Any]) -> list[Any]:
    return [leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in leaves]
