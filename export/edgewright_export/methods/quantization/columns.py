"""What a convolution or linear layer multiplies with the weights of an output, as columns of a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx


def columns(node: fx.Node, weight: Tensor, x: Tensor, most: int) -> Tensor:
    """What the outputs of a product multiply at its places, [groups, inputs, places].

    Args:
        node: A convolution or linear layer.
        weight: Its weights, outputs first.
        x: Its input.
        most: Places of one sample; of more, so many are taken evenly.
    """
    if weight.dim() == 2:
        rows = x.reshape(-1, x.shape[-1])
        return rows[:: -(-len(rows) // (most * len(x)))].mT[None]
    x = x if x.dim() == weight.dim() else x[None]
    kernel = weight.shape[2:]
    stride, padding, dilation, groups = _geometry(node, len(kernel))
    reach = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        ends = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
    else:
        ends = [(size, size) for size in padding]
    windows = torch.nn.functional.pad(x, [size for pair in reversed(ends) for size in pair])
    for axis, (length, step, gap) in enumerate(zip(reach, stride, dilation, strict=True)):
        windows = windows.unfold(axis + 2, length + 1, step)[..., ::gap]
    places = list(windows.shape[2 : 2 + len(kernel)])
    count = math.prod(places)
    chosen: tuple[Any, ...] = torch.unravel_index(torch.arange(0, count, -(-count // most)), places)
    picked = windows[:, :, *chosen].flatten(3)
    grouped = picked.view(len(x), groups, -1, *picked.shape[2:])
    return grouped.permute(1, 2, 4, 0, 3).reshape(groups, weight[0].numel(), -1)


def _geometry(node: fx.Node, axes: int) -> tuple[list[int], list[int] | str, list[int], int]:
    """Stride, padding, dilation and groups of a convolution."""
    given: list[Any] = [*node.args[3:], *(1, 0, 1, 1)[max(0, len(node.args) - 3) :]]
    stride, padding, dilation = (one if isinstance(one, str) else _of_each_axis(one, axes) for one in given[:3])
    return stride, padding, dilation, int(given[3])  # type: ignore[return-value]


def _of_each_axis(given: int | Sequence[int], axes: int) -> list[int]:
    several = [given] if isinstance(given, int) else list(given)
    return several * (axes // len(several))
