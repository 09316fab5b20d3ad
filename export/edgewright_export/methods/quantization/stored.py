"""Weights that are integers in the file and float where they are read: tables of embeddings, matrices of recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ... import place
from .graph import tensor_at
from .grid import largest, weight_scales
from .sites import Product, number

aten = torch.ops.aten
EMBEDDING = aten.embedding.default
RECURRENT = {aten.gru.input: "gru", aten.lstm.input: "lstm"}


@dataclass(frozen=True)
class Stored:
    """An embedding or a recurrent layer with constant weights.

    Args:
        name: The node.
        path: Of the module in the user's model.
        op: ``embedding``, ``gru`` or ``lstm``.
        weights: Qualified names of its matrices, [rows, columns] each, in the order in which it takes them.
        macs: Multiply-accumulates of one run.
    """

    name: str
    path: str
    op: str
    weights: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class Table:
    """The grid of one matrix.

    Args:
        scales: [rows] or [rows, groups], float32.
        most: The largest integer.
    """

    scales: Tensor
    most: int

    @property
    def columns(self) -> Tensor:
        """The scales as [rows, groups], one group where a row has one scale."""
        return self.scales.view(len(self.scales), -1)


def stored(module: fx.GraphModule) -> tuple[Stored, ...]:
    """All embeddings and recurrent layers with constant float32 weights, in the order in which they run."""
    return tuple(_stored(module, node) for node in module.graph.nodes if _holds(module, node))


def fit_to_store(
    module: fx.GraphModule,
    products: Sequence[Product],
    kinds: Collection[str],
    is_excluded: Callable[[str], bool],
) -> tuple[Stored, ...]:
    """Those whose weights become integers.

    A matrix that something else reads too stays float32 if that does, because the file would hold it twice.

    Args:
        module: The float graph.
        products: Those that are quantized.
        kinds: Of layers whose weights the target stores as integers.
        is_excluded: By module path, whether a layer stays float32.
    """
    found = [layer for layer in stored(module) if layer.op in kinds and not is_excluded(layer.path)]
    readers = _readers(module)
    while True:
        integer = {layer.name for layer in found} | {product.name for product in products}
        kept = [layer for layer in found if all(readers[weight] <= integer for weight in layer.weights)]
        if len(kept) == len(found):
            return tuple(kept)
        found = kept


def tables(
    module: fx.GraphModule, layers: Sequence[Stored], *, bits: int, group: int | None, per_channel: bool
) -> dict[str, Table]:
    """The grids of all their matrices, by qualified name.

    Args:
        module: The float graph.
        layers: Whose weights become integers.
        bits: 8 or 4.
        group: Weights of one row of an embedding that share a scale; None: all of them.
        per_channel: One scale for each row, or one for all.
    """
    most = largest(bits)
    groups = {weight: group if layer.op == "embedding" else None for layer in layers for weight in layer.weights}
    return {
        weight: Table(_scales(tensor_at(module, weight).detach(), most, own, per_channel, search=bits < 8), most)
        for weight, own in groups.items()
    }


def _scales(weight: Tensor, most: int, group: int | None, per_channel: bool, *, search: bool) -> Tensor:
    if not per_channel:
        return weight_scales(weight.reshape(1, -1), most, search=search).expand(len(weight)).contiguous()
    fits = group is not None and weight.shape[1] % group == 0 and weight.shape[1] > group
    return weight_scales(weight, most, group=group if fits else None, search=search)


def names_of(module: fx.GraphModule) -> list[tuple[str, ...]]:
    """The qualified names of the tensors that the graph reads, those of one tensor together."""
    names: dict[Any, tuple[str, ...]] = {}
    for path in dict.fromkeys(str(node.target) for node in module.graph.find_nodes(op="get_attr")):
        value = tensor_at(module, path)
        if isinstance(value, Tensor):
            key = value.data_ptr(), value.shape
            names[key] = (*names.get(key, ()), path)
    return list(names.values())


def with_weights(layer: Stored, node: fx.Node, weights: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a layer's node with other values for its weights, by qualified name."""

    def changed(argument: fx.Node) -> Any:
        is_weight = argument.op == "get_attr" and argument.target in layer.weights
        return weights[str(argument.target)] if is_weight else argument

    arguments: Any = fx.node.map_arg(node.args, changed)
    return tuple(arguments)


def _holds(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.target in (EMBEDDING, *RECURRENT) and all(_is_constant(module, arg) for arg in _parameters(node))


def _is_constant(module: fx.GraphModule, node: Any) -> bool:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return False
    value = tensor_at(module, str(node.target))
    return value.dtype == torch.float32 and value.numel() > 0


def _parameters(node: fx.Node) -> list[Any]:
    given: Any = [node.args[0]] if node.target is EMBEDDING else node.args[2]
    return list(given)


def _stored(module: fx.GraphModule, node: fx.Node) -> Stored:
    matrices = [p for p in (str(arg.target) for arg in _parameters(node)) if tensor_at(module, p).dim() == 2]
    op = "embedding" if node.target is EMBEDDING else RECURRENT[node.target]  # type: ignore[index]
    return Stored(node.name, place.module_path(node), op, tuple(dict.fromkeys(matrices)), _macs(module, node, matrices))


def _macs(module: fx.GraphModule, node: fx.Node, matrices: Sequence[str]) -> int:
    x: Any = node.args[0]
    if node.target is EMBEDDING:
        return 0
    steps = math.prod(map(number, x.meta["val"].shape[:-1]))
    return steps * sum(tensor_at(module, matrix).numel() for matrix in matrices)


def _readers(module: fx.GraphModule) -> dict[str, set[str]]:
    """By qualified name, the names of all nodes that read a tensor, under this name or another."""
    users: dict[str, set[str]] = {}
    for node in module.graph.find_nodes(op="get_attr"):
        users.setdefault(str(node.target), set()).update(user.name for user in node.users)
    return {path: set().union(*(users[other] for other in names)) for names in names_of(module) for path in names}
