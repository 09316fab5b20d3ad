"""Stored weights in a graph: as modules that can be trained, and as integers that targets write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import fx

from .graph import put, tensor_at
from .grid import integers
from .simulate import StoredWeight
from .stored import EMBEDDING, Stored, Table, with_weights

aten = torch.ops.aten
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_channel.default


def simulate(
    made: fx.GraphModule, layers: Sequence[Stored], tables: Mapping[str, Table], *, fixed_point: bool
) -> dict[str, StoredWeight]:
    """Puts the weights as they are read in place of float ones.

    Args:
        made: Whose graph is edited.
        layers: Whose weights are stored as integers.
        tables: The grids of the weights, by qualified name.
        fixed_point: Whether scales are powers of two.

    Returns:
        The modules that hold the weights, by the same names.
    """
    nodes = {node.name: node for node in made.graph.nodes}
    weights = {path: StoredWeight(tensor_at(made, path), t.scales, t.most, fixed_point) for path, t in tables.items()}
    for path, weight in weights.items():
        made.add_module(part(tables, path), weight)
    for layer in layers:
        node = nodes[layer.name]
        with made.graph.inserting_before(node):
            if node.target is EMBEDDING:
                rows = made.graph.call_module(part(tables, layer.weights[0]), node.args[1:4])
                rows.meta = dict(node.meta)
                node.replace_all_uses_with(rows)
            else:
                read = {path: made.graph.call_module(part(tables, path)) for path in layer.weights}
                node.args = with_weights(layer, node, read)
    return weights


def part(tables: Mapping[str, Table], path: str) -> str:
    """Where :func:`simulate` puts the module of a weight."""
    return f"stored_{list(tables).index(path)}__weight"


def write(made: fx.GraphModule, layers: Sequence[Stored], tables: Mapping[str, Table]) -> None:
    """Puts integers in place of float weights.

    Embeddings look up integers and their scales and multiply them: only the rows that are read are made float.
    Recurrent layers read their matrices through ``dequantize_per_channel``.

    Args:
        made: Whose graph is edited.
        layers: Whose weights are stored as integers.
        tables: The grids of the weights, by qualified name.
    """
    nodes = {node.name: node for node in made.graph.nodes}
    whole = {path: integers(tensor_at(made, path).detach(), t.scales, t.most) for path, t in tables.items()}
    names = {path: put(made, part(tables, path), value.to(torch.int8)) for path, value in whole.items()}
    for layer in layers:
        node = nodes[layer.name]
        with made.graph.inserting_before(node):
            if node.target is EMBEDDING:
                path = layer.weights[0]
                node.replace_all_uses_with(_rows(made, node, names[path], tables[path]))
            else:
                read = {path: _matrix(made, node, names[path], tables[path]) for path in layer.weights}
                node.args = with_weights(layer, node, read)


def _rows(made: fx.GraphModule, node: fx.Node, name: str, table: Table) -> fx.Node:
    graph, groups = made.graph, table.scales[0].numel()
    places = name, put(made, f"{name}_scale", table.scales.view(-1, groups).float())
    rows, factor = (graph.call_function(EMBEDDING, (graph.get_attr(one), node.args[1])) for one in places)
    value = graph.call_function(aten.to.dtype, (rows, torch.float32))
    if groups > 1:
        value = graph.call_function(aten.unflatten.int, (value, -1, [groups, -1]))
        factor = graph.call_function(aten.unsqueeze.default, (factor, -1))
    result = graph.call_function(aten.mul.Tensor, (value, factor))
    if groups > 1:
        result = graph.call_function(aten.flatten.using_ints, (result, -2))
    for new in (rows, factor, value, result):
        new.meta = _origin(node)
    return result


def _matrix(made: fx.GraphModule, node: fx.Node, name: str, table: Table) -> fx.Node:
    graph = made.graph
    scales = put(made, f"{name}_scales", table.scales.float())
    zeros = put(made, f"{name}_zero", torch.zeros(table.scales.shape, dtype=torch.int64))
    options = (0, -table.most, table.most, torch.int8)
    read = graph.call_function(_DEQUANTIZE, (*map(graph.get_attr, (name, scales, zeros)), *options))
    read.meta = _origin(node)
    return read


def _origin(node: fx.Node) -> dict[str, Any]:
    """Where in the user's model a node came from."""
    return {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
