"""Inputs of ``train=`` in the place of ``calibration=``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils import _pytree as pytree

from .. import calibration
from ..state import Context, Example
from .batches import Batch, Train
from .loop import seeded

SAMPLES = 256
"""As many as are read, but for those of the last batch."""


def calibrated(ctx: Context, example: Example, seed: int) -> Context:
    """With inputs of ``train=`` where the user passed none for calibration."""
    if ctx.calibration is not None or ctx.train is None:
        return ctx
    return replace(ctx, calibration=inputs(ctx.train, example, seed))


def inputs(train: Train, example: Example, seed: int) -> tuple[tuple[Any, ...], ...] | None:
    """The first inputs that training sees, as the user would pass them for calibration.

    The random numbers of the caller are as before.

    Args:
        train: Of which one epoch is read at most.
        example: Says how inputs are named, and how many samples make one.
        seed: Of everything random, shuffling by a data loader among it.

    Raises:
        OptionError: There is no batch, one is no pair, or one has a value that is NaN or infinite.
    """
    found: list[tuple[Any, ...]] = []
    with seeded(seed):
        for batch in train.epoch():
            found.append(_in_order(batch, example))
            if calibration.samples(tuple(found), (example.args, example.kwargs)) >= SAMPLES:
                break
    return calibration.read(found)


def _in_order(batch: Batch, example: Example) -> tuple[Any, ...]:
    """Named inputs in the order of the example's."""
    named = {name: batch.kwargs[name] for name in (*example.kwargs, *batch.kwargs) if name in batch.kwargs}
    return tuple(pytree.tree_leaves((batch.args, named)))
