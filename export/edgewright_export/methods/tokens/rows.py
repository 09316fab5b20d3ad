"""Takes tokens out of tensors, each image by its own list."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding


def take(values: Tensor, index: Tensor) -> Tensor:
    """Some rows of each image, as a lookup: of all that gather, what converters write shortest.

    Args:
        values: [batch, tokens, width].
        index: int64 [batch, kept].

    Returns:
        [batch, kept, width].
    """
    batch, tokens, _ = values.shape
    first = torch.arange(batch).unsqueeze(1) * tokens
    return embedding(index if batch == 1 else index + first, values.flatten(0, 1))


def narrow(values: Tensor, index: Tensor, tokens: int) -> Tensor:
    """A mask, a rotary table or positions of all tokens, for those that are left.

    Args:
        values: One axis has the length ``tokens``, of a mask the last two may have; the first axis may be the batch.
            Without one it gets one where the batch is larger than 1, and broadcasts against [batch, heads, tokens, x].
        index: int64 [batch, left].
        tokens: How many there were.

    Returns:
        ``values`` itself if no axis has that length.
    """
    batch = index.shape[0]
    axes = [axis for axis, size in enumerate(values.shape) if size == tokens]
    if not axes:
        return values
    has_batch = values.dim() > 1 and values.shape[0] in (1, batch) and axes[-1] > 0
    if not has_batch:
        narrowed = _axes(values.unsqueeze(0), index, [axis + 1 for axis in axes])
        return narrowed.squeeze(0) if batch == 1 else _over_heads(narrowed)
    return _axes(values, index, [axis for axis in axes if axis > 0])


def _axes(values: Tensor, index: Tensor, axes: list[int]) -> Tensor:
    """Both of the last axes of a mask, else the first that is meant."""
    last = values.dim() - 1
    is_mask = axes[-2:] == [last - 1, last] and (values.dim() == 4 or values.dtype == torch.bool)
    for axis in axes[-2:] if is_mask else axes[:1]:
        values = _axis(values, index, axis)
    return values


def _axis(values: Tensor, index: Tensor, axis: int) -> Tensor:
    moved = values.movedim(axis, 1)
    rest = moved.shape[2:]
    rows = moved.flatten(2) if rest else moved.unsqueeze(2)
    rows = take(rows.expand(index.shape[0], -1, -1), index)
    return rows.reshape(*rows.shape[:2], *rest).movedim(1, axis)


def _over_heads(values: Tensor) -> Tensor:
    return values.unsqueeze(1) if values.dim() == 3 else values
