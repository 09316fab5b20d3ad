"""What became integers, layer by layer, and what that costs each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewright_runtime.bundle.manifest import QuantizedLayer

from .calls import Call, run
from .graph import tapped, tensor_at
from .grid import largest
from .plan import Plan, simulated
from .sites import Product, products

_RUNS = 8
"""Calibration inputs on which errors are measured."""
_DTYPES = {"static": "int8", "dynamic": "int8 of each run", "float": "float32"}


def coverage(plan: Plan, given: Sequence[Call]) -> tuple[QuantizedLayer, ...]:
    """One row for each convolution and linear layer of the model, quantized or not.

    Args:
        plan: What is quantized.
        given: Inputs on which errors are measured.
    """
    errors = sqnr(plan, given)
    done = {p.name for p in plan.products}
    return tuple(
        _row(plan, p, errors[p.name]) if p.name in done else _float_row(plan, p) for p in products(plan.module)
    )


def sqnr(plan: Plan, given: Sequence[Call]) -> dict[str, float | None]:
    """Signal over noise of each quantized layer alone, dB: its input is that of the float graph; None: no noise."""
    whole = simulated(plan)
    parts = {p.name: whole.get_submodule(f"{p.name}__integer") for p in plan.products}
    nodes = {node.name: node for node in plan.module.graph.nodes}
    inputs = {p.name: nodes[p.name].args[0].name for p in plan.products}
    sums = {p.name: [0.0, 0.0] for p in plan.products}
    values: dict[str, Any] = {}
    watched = tapped(plan.module, {*inputs.values(), *(p.result for p in plan.products)}, values.__setitem__)
    for call in given[:_RUNS]:
        run(watched, [call])
        for p in plan.products:
            with torch.no_grad():
                _add(sums[p.name], values[p.result], parts[p.name](values[inputs[p.name]]))
    return {name: _decibels(*both) for name, both in sums.items()}


def _add(sums: list[float], wanted: Tensor, found: Tensor) -> None:
    sums[0] += float(wanted.double().square().sum())
    sums[1] += float((wanted.double() - found.double()).square().sum())


def _decibels(signal: float, noise: float) -> float | None:
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _row(plan: Plan, product: Product, error: float | None) -> QuantizedLayer:
    weight, scales = tensor_at(plan.module, product.weight), plan.scales[product.name]
    small = plan.most[product.name] <= largest(4) and plan.modes[product.name] in plan.four_bits
    bits = 4 if small else 8
    size = math.ceil(weight.numel() * bits / 8) + 4 * scales.numel()
    activations = _DTYPES[plan.modes[product.name]]
    op = _op(weight)
    return QuantizedLayer(product.path, op, f"int{bits}", activations, error, product.macs, 4 * weight.numel(), size)


def _float_row(plan: Plan, product: Product) -> QuantizedLayer:
    weight = tensor_at(plan.module, product.weight)
    size = 4 * weight.numel()
    return QuantizedLayer(product.path, _op(weight), "float32", "float32", None, product.macs, size, size)


def _op(weight: Tensor) -> str:
    return "linear" if weight.dim() == 2 else "conv"


def share_of_macs(rows: Sequence[QuantizedLayer]) -> float:
    """Multiply-accumulates on integers, of those of all rows."""
    return _share([row.macs for row in rows], [row.activations != "float32" for row in rows])


def share_of_bytes(rows: Sequence[QuantizedLayer]) -> float:
    """Bytes of float weights that are stored as integers now, of those of all rows."""
    return _share([row.bytes_before for row in rows], [row.weights != "float32" for row in rows])


def _share(amounts: Sequence[int], counted: Sequence[bool]) -> float:
    return sum(a for a, c in zip(amounts, counted, strict=True) if c) / max(1, sum(amounts))


def worst(rows: Sequence[QuantizedLayer], count: int = 5) -> list[QuantizedLayer]:
    """The rows with the least signal over noise."""
    measured = [row for row in rows if row.sqnr_db is not None]
    return sorted(measured, key=lambda row: row.sqnr_db or 0.0)[:count]
