"""What became sparse, in rows and in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from edgewright_runtime.bundle.manifest import SparseLayer

from ..inside import zeros_of_macs
from ..quantization.graph import tensor_at
from ..quantization.sites import Product
from .layers import Layers
from .learn import Lesson


def rows(module: nn.Module, found: Layers, pattern: Any) -> tuple[SparseLayer, ...]:
    """One a convolution or linear layer.

    Args:
        module: With its zeros.
        found: Its layers.
        pattern: As the user named it.
    """
    return tuple(_row(module, product, found.dense.get(product.name), pattern) for product in found.all)


def _row(module: nn.Module, product: Product, why: str | None, pattern: Any) -> SparseLayer:
    weight = tensor_at(module, product.weight)
    zeros = float((weight == 0).float().mean())
    op = "linear" if weight.dim() == 2 else "conv"
    return SparseLayer(product.path, op, str(pattern) if why is None else "dense", zeros, weight.numel(), product.macs, why)


def described(rows: Sequence[SparseLayer], lesson: Lesson, losses: tuple[float, float] | None) -> str:
    """What was done, in one line.

    Args:
        rows: Of all layers.
        lesson: How they learned.
        losses: Of the first and the last steps; None: it did not learn.
    """
    sparse = [row for row in rows if row.why_dense is None]
    weights = sum(row.weights for row in sparse)
    zeros = sum(row.zeros * row.weights for row in sparse) / max(1, weights)
    learned = "not trained"
    if losses is not None:
        learned = f"trained on {lesson.steps} batches, loss {losses[0]:.3g} -> {losses[1]:.3g}"
    return (
        f"{zeros:.1%} zeros {sparse[0].pattern if sparse else ''} in {len(sparse)} of {len(rows)} layers, "
        f"{zeros_of_macs(rows):.1%} of all multiply-accumulates; {lesson.schedule}, {learned}"
    )
