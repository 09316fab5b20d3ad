"""Which operations of a graph work on integers, and which values therefore lie on a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ... import place
from .graph import CONVOLUTIONS, tensor_at

aten = torch.ops.aten
_RELUS = (aten.relu.default, aten.relu_.default)
_CLAMPS = {
    aten.relu6.default: (0.0, 6.0),
    aten.hardtanh.default: (-1.0, 1.0),
    aten.hardtanh_.default: (-1.0, 1.0),
    aten.clamp.default: (-math.inf, math.inf),
}
_MOVES = (
    aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.permute.default, aten.transpose.int,
    aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default, aten.slice.Tensor, aten.select.int,
)  # fmt: skip
SUMS = (aten.add.Tensor, aten.add_.Tensor)
_MEANS = (aten.mean.dim, aten.adaptive_avg_pool2d.default)
_PADS = (aten.pad.default, aten.constant_pad_nd.default)


@dataclass(frozen=True)
class Product:
    """A convolution or linear layer with constant weights; nodes by their names.

    Args:
        name: The node.
        path: Of the module in the user's model.
        x: The value whose integers it multiplies: its input, or what is padded with zeros to be that.
        weight: Qualified name of the weights in the graph's module, outputs first.
        bias: Likewise, or None.
        low: Lowest result, by the activation behind it; -inf without one.
        high: Highest result.
        result: The activation, or the node itself.
        macs: Multiply-accumulates of one run.
    """

    name: str
    path: str
    x: str
    weight: str
    bias: str | None
    low: float
    high: float
    result: str
    macs: int


@dataclass(frozen=True)
class Sites:
    """What works on integers.

    Args:
        products: Convolutions and linear layers whose inputs are among them.
        grids: By the name of each value on a grid, the name of the value that the grid is of: its own, or that of the
            value that was moved to be this one.
        delivered: The values that integer operations deliver, and those moved from them: everybody reads them from the
            grid.  The others are read so by products alone.
    """

    products: tuple[Product, ...]
    grids: Mapping[str, str]
    delivered: frozenset[str]

    @property
    def roots(self) -> tuple[str, ...]:
        """The values that have a grid of their own."""
        return tuple(dict.fromkeys(self.grids.values()))


def products(module: fx.GraphModule) -> tuple[Product, ...]:
    """All convolutions and linear layers with constant weights, in the order in which they run."""
    return tuple(_product(module, node) for node in module.graph.nodes if _is_product(node))


def sites(module: fx.GraphModule, chosen: Sequence[Product], *, whole: bool = False) -> Sites:
    """The values that lie on grids when these products work on integers.

    Args:
        module: The float graph.
        chosen: The products.
        whole: Whether the engine computes on integers only what ends on a grid too.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    ends = {product.result for product in chosen}
    readers = {nodes[product.name] for product in chosen}
    joins = _joins(module, ends, readers)
    ends |= {_activated(join)[0].name for join in joins}
    grids: dict[str, str] = {}
    delivered: set[str] = set()
    for value in [nodes[p.x] for p in chosen] + [arg for join in joins for arg in _operands(join)]:
        root, moved = _root(value)
        if root.name in ends:
            delivered |= {root.name, *moved}
            grids |= dict.fromkeys((root.name, *moved), root.name)
        else:
            grids.setdefault(value.name, value.name)
    if whole:
        delivered |= {product.result for product in chosen}
        grids |= {product.result: product.result for product in chosen}
    order = {name: grids[name] for name in nodes if name in grids}
    return Sites(tuple(chosen), order, frozenset(delivered))


def _is_product(node: fx.Node) -> bool:
    if node.target not in (*CONVOLUTIONS, aten.linear.default):
        return False
    return all(c is None or (isinstance(c, fx.Node) and c.op == "get_attr") for c in node.args[1:3])


def _product(module: fx.GraphModule, node: fx.Node) -> Product:
    x, weight, bias = (*node.args[:3], None)[:3]
    assert isinstance(x, fx.Node) and isinstance(weight, fx.Node)
    result, low, high = _activated(node)
    return Product(
        name=node.name,
        path=place.module_path(node),
        x=(_padded(x) or x).name,
        weight=str(weight.target),
        bias=str(bias.target) if isinstance(bias, fx.Node) else None,
        low=low,
        high=high,
        result=result.name,
        macs=math.prod(map(number, node.meta["val"].shape)) * tensor_at(module, str(weight.target))[0].numel(),
    )


def number(size: int | torch.SymInt) -> int:
    """A size; of an open one that of the example."""
    return size if isinstance(size, int) else int(size.node.hint or 1)


def _activated(node: fx.Node) -> tuple[fx.Node, float, float]:
    """The activation that alone reads a node, with its limits; the node itself where there is none."""
    users = list(node.users)
    if len(users) == 1 and users[0].target in _RELUS:
        return users[0], 0.0, math.inf
    if len(users) == 1 and users[0].target in _CLAMPS:
        given = (*users[0].args[1:3], None, None)[:2]
        low, high = (own if x is None else x for x, own in zip(given, _CLAMPS[users[0].target], strict=True))
        if (
            isinstance(low, (int, float))
            and isinstance(high, (int, float))
            and low <= 0 <= high
            and not users[0].kwargs
        ):
            return users[0], float(low), float(high)
    return node, -math.inf, math.inf


def _padded(node: fx.Node) -> fx.Node | None:
    """What is padded with zeros for one reader alone."""
    if node.target not in _PADS or len(node.users) != 1 or not isinstance(node.args[0], fx.Node):
        return None
    modes, values = (node.args[2:3], node.args[3:4]) if node.target is aten.pad.default else ((), node.args[2:3])
    return node.args[0] if modes in ((), ("constant",)) and not any(values) else None


def _joins(module: fx.GraphModule, ends: set[str], readers: set[fx.Node]) -> list[fx.Node]:
    """Sums and means of what integer operations deliver, whose results integer operations read."""
    found = [node for node in module.graph.nodes if _may_join(node)]
    while True:
        delivered = ends | {_activated(join)[0].name for join in found}
        kept = [
            join
            for join in found
            if all(_root(arg)[0].name in delivered for arg in _operands(join))
            and _is_read(_activated(join)[0], readers | set(found))
        ]
        if len(kept) == len(found):
            return kept
        found = kept


def _may_join(node: fx.Node) -> bool:
    if node.target not in (*SUMS, *_MEANS):
        return False
    shapes = [operand.meta["val"].shape for operand in _operands(node) if "val" in operand.meta]
    if node.target in SUMS:
        return len(shapes) == len(node.args) == 2 and not node.kwargs and shapes[0] == shapes[1]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return False
    axes: Any = node.args[1]
    if node.target is aten.mean.dim:
        return {axis % 4 for axis in axes} == {2, 3}
    return list(axes) == [1, 1]


def _operands(join: fx.Node) -> list[fx.Node]:
    return [arg for arg in join.args[:2] if isinstance(arg, fx.Node)]


def _is_read(node: fx.Node, readers: set[fx.Node]) -> bool:
    """Whether integer operations read it, moved or padded perhaps."""
    return any(
        user in readers or ((user.target in _MOVES or _padded(user) is node) and _is_read(user, readers))
        for user in node.users
    )


def _root(node: fx.Node) -> tuple[fx.Node, tuple[str, ...]]:
    """The value that was moved to be this one, and the moves between; the value itself where it was not moved."""
    moved: list[str] = []
    while node.target in _MOVES and isinstance(node.args[0], fx.Node):
        moved.append(node.name)
        node = node.args[0]
    return node, tuple(moved)
