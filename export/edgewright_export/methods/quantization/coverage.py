"""What became integers, layer by layer, and what that costs each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from edgewright_runtime.bundle.manifest import QuantizedLayer

from ...state import Example
from .by_token import FEW, as_read, is_by_token, names_read
from .calls import Call, run
from .graph import tapped, tensor_at
from .grid import stored_bits
from .plan import Plan, simulated
from .sites import Product, number, products
from .stored import Stored, stored, with_weights
from .storing import part

_RUNS = 8
"""Calibration inputs on which errors are measured."""
_DTYPES = {"static": "int8", "dynamic": "int8 of each run", "float": "float32"}


def coverage(plan: Plan, given: Sequence[Call], example: Example) -> tuple[QuantizedLayer, ...]:
    """One row for each convolution, linear layer, embedding and recurrent layer of the model, quantized or not.

    Args:
        plan: What is quantized.
        given: Inputs on which errors are measured.
        example: Inputs of the run whose multiply-accumulates are counted.
    """
    rows = by_name(plan, sqnr(plan, given))
    found = [rows[node.name] for node in plan.module.graph.nodes if node.name in rows]
    captured, own = _samples(plan.module, example)
    return tuple(replace(row, macs=row.macs * own // captured) for row in found)


def by_name(plan: Plan, errors: Mapping[str, float | None]) -> dict[str, QuantizedLayer]:
    """These rows by the names of their nodes, with the errors that are known and multiply-accumulates as captured."""
    rows = {p.name: _float_row(plan, p.path, _op(plan, p), (p.weight,), p.macs) for p in products(plan.module)}
    rows |= {layer.name: _float_row(plan, layer.path, layer.op, layer.weights, layer.macs) for layer in stored(plan.module)}
    nodes = {node.name: node for node in plan.module.graph.nodes}
    rows |= {p.name: _row(plan, p, nodes[p.name], errors.get(p.name)) for p in plan.products}
    rows |= {layer.name: _stored_row(plan, layer, errors.get(layer.name)) for layer in plan.stored}
    return rows


def _samples(module: fx.GraphModule, example: Example) -> tuple[int, int]:
    """First axes of the inputs that the graph was captured with, more than the example's where it has an open batch, and
    of the example's own."""
    values = [node.meta.get("val") for node in module.graph.find_nodes(op="placeholder")]
    leaves = pytree.tree_leaves((example.args, example.kwargs))
    pairs = [(a, b) for a, b in zip(values, leaves, strict=False) if isinstance(a, Tensor) and a.dim()]
    return (number(pairs[0][0].shape[0]), len(pairs[0][1])) if pairs else (1, 1)


def sqnr(plan: Plan, given: Sequence[Call]) -> dict[str, float | None]:
    """Signal over noise of each quantized layer alone, dB: its input is that of the float graph; None: no noise."""
    whole = simulated(plan)
    parts = {p.name: whole.get_submodule(f"{p.name}__integer") for p in plan.products}
    nodes = {node.name: node for node in plan.module.graph.nodes}
    inputs = {name for p in plan.products for name in names_read(plan.module, nodes[p.name])}
    sums = {name: [0.0, 0.0] for name in (*parts, *(layer.name for layer in plan.stored))}
    read = {path: whole.get_submodule(part(plan.tables, path)) for path in plan.tables}
    operands = {arg.name for layer in plan.stored for arg in nodes[layer.name].all_input_nodes}
    ends = {p.result for p in plan.products} | {layer.name for layer in plan.stored}
    values: dict[str, Any] = {}
    watched = tapped(plan.module, {*inputs, *operands, *ends}, values.__setitem__)
    for call in given[:_RUNS]:
        run(watched, [call])
        with torch.no_grad():
            for p in plan.products:
                _add(sums[p.name], values[p.result], parts[p.name](as_read(plan.module, nodes[p.name], values)))
            for layer in plan.stored:
                _add(sums[layer.name], values[layer.name], _of_integers(layer, nodes[layer.name], read, values))
    return {name: _decibels(*both) for name, both in sums.items()}


def _of_integers(layer: Stored, node: fx.Node, read: Mapping[str, nn.Module], values: Mapping[str, Any]) -> Any:
    """The result of a layer with stored weights for the values that the float layer read."""
    arguments = with_weights(layer, node, {path: read[path]() for path in layer.weights})
    target: Any = node.target
    return target(*fx.node.map_arg(arguments, lambda arg: values[arg.name]))


def _add(sums: list[float], wanted: Any, found: Any) -> None:
    """Of the first result, where there are several."""
    wanted, found = (value if isinstance(value, Tensor) else value[0] for value in (wanted, found))
    sums[0] += float(wanted.double().square().sum())
    sums[1] += float((wanted.double() - found.double()).square().sum())


def _decibels(signal: float, noise: float) -> float | None:
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _row(plan: Plan, product: Product, node: fx.Node, error: float | None) -> QuantizedLayer:
    weight, scales = tensor_at(plan.module, product.weight), plan.scales[product.name]
    bits = plan.bits_of(product)
    size = math.ceil(weight.numel() * bits / 8) + 4 * scales.numel()
    activations = _DTYPES[plan.modes[product.name]]
    if is_by_token(plan.module, node):
        activations += f", some tokens int{FEW}"
    op = _op(plan, product)
    return QuantizedLayer(product.path, op, f"int{bits}", activations, error, product.macs, 4 * weight.numel(), size)


def _stored_row(plan: Plan, layer: Stored, error: float | None) -> QuantizedLayer:
    grids = [plan.tables[path] for path in layer.weights]
    counts = [tensor_at(plan.module, path).numel() for path in layer.weights]
    kind = "embedding" if layer.op == "embedding" else "float"
    bits = stored_bits(grids[0].most, plan.bits.get(kind, ()))
    size = sum(math.ceil(count * bits / 8) + 4 * grid.scales.numel() for count, grid in zip(counts, grids, strict=True))
    return QuantizedLayer(layer.path, layer.op, f"int{bits}", "float32", error, layer.macs, 4 * sum(counts), size)


def _float_row(plan: Plan, path: str, op: str, weights: Sequence[str], macs: int) -> QuantizedLayer:
    size = 4 * sum(tensor_at(plan.module, weight).numel() for weight in weights)
    return QuantizedLayer(path, op, "float32", "float32", None, macs, size, size)


def _op(plan: Plan, product: Product) -> str:
    return "linear" if tensor_at(plan.module, product.weight).dim() == 2 else "conv"


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
