"""Makes the channels between two layers alike (Nagel et al. 2019, "Data-free quantization through weight equalization and
bias correction", section 4.1).

What follows a layer scales with it where it is without limit, as ReLU is: each output is divided by a factor, and the
weights of the next layer that meet it are multiplied with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .graph import finished, put, tensor_at, twin
from .sites import Product

aten = torch.ops.aten
_ROUNDS = 40
_LITTLE = 0.01
"""A round is the last if the logarithms of its factors are no more than this."""
_MOST = 16.0
"""A channel is moved by no more than this, else a bias would grow to be the largest value of a layer whose weights for it
are next to nothing."""
_ELEMENTWISE = (aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default)
_POOLS = (
    aten.max_pool1d.default, aten.max_pool2d.default, aten.avg_pool1d.default, aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
)  # fmt: skip
_PADS = (aten.pad.default, aten.constant_pad_nd.default)
_MOVES = (aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.squeeze.dim, aten.squeeze.dims)


@dataclass(frozen=True)
class Pair:
    """Two products, the second of which alone reads the result of the first; nodes by their names.

    Args:
        first: Its outputs are divided.
        second: Its inputs are multiplied.
        groups: Of the second.
    """

    first: str
    second: str
    groups: int


def equalized(module: fx.GraphModule, found: Sequence[Product]) -> fx.GraphModule:
    """The graph, which computes the same, with weights whose channels are more alike.

    Args:
        module: The float graph.
        found: Its products that are quantized.
    """
    pairs = pairs_in(module, found)
    weights = {p.name: tensor_at(module, p.weight).detach().double() for p in found}
    biases = {p.name: tensor_at(module, p.bias).detach().double() for p in found if p.bias is not None}
    moved = {pair: torch.ones(len(weights[pair.first]), dtype=torch.float64) for pair in pairs}
    for _ in range(_ROUNDS):
        if max((_equalize(pair, weights, biases, moved) for pair in pairs), default=0.0) <= _LITTLE:
            break
    graph = twin(module)
    made = fx.GraphModule(module, graph)
    nodes = {node.name: node for node in graph.nodes}
    for name in dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)):
        _put(made, nodes[name], 1, f"{name}_equal", weights[name])
        if name in biases:
            _put(made, nodes[name], 2, f"{name}_equal_bias", biases[name])
    return finished(made, graph)


def _equalize(pair: Pair, weights: dict[str, Tensor], biases: dict[str, Tensor], moved: Mapping[Pair, Tensor]) -> float:
    """One round for one pair; the logarithm of the factor farthest from 1."""
    first, second = weights[pair.first], _grouped(weights[pair.second], pair.groups)
    factor = (first.flatten(1).abs().amax(1) / second.abs().amax((1, 3)).flatten()).sqrt()
    usable = factor.isfinite() & (factor > 0)
    wanted = (moved[pair] * torch.where(usable, factor, torch.ones_like(factor))).clamp(1 / _MOST, _MOST)
    factor = wanted / moved[pair]
    moved[pair].copy_(wanted)
    weights[pair.first] = first / factor.view(-1, *[1] * (first.dim() - 1))
    if pair.first in biases:
        biases[pair.first] = biases[pair.first] / factor
    weights[pair.second] = (second * factor.view(pair.groups, 1, -1, 1)).view(weights[pair.second].shape)
    return float(factor.log().abs().max())


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """As [groups, outputs, inputs, rest]."""
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)


def _put(made: fx.GraphModule, node: fx.Node, position: int, name: str, value: Tensor) -> None:
    with made.graph.inserting_before(node):
        node.update_arg(position, made.graph.get_attr(put(made, name, value.float())))


def pairs_in(module: fx.GraphModule, found: Sequence[Product]) -> tuple[Pair, ...]:
    """Those of these products that follow each other so that channels can be scaled between them."""
    nodes = {node.name: node for node in module.graph.nodes}
    second = {p.name: tensor_at(module, p.weight) for p in found}
    pairs = []
    for product in found:
        follower = _next(nodes[product.name], second, len(second[product.name]))
        if follower is not None:
            groups = follower.args[6] if second[follower.name].dim() > 2 and len(follower.args) > 6 else 1
            assert isinstance(groups, int)
            pairs.append(Pair(product.name, follower.name, groups))
    return tuple(pairs)


def _next(node: fx.Node, products: Mapping[str, Tensor], channels: int) -> fx.Node | None:
    """The product that alone reads a product's result, in which each channel is what the first made of it."""
    axis = _dims(node) - 1 if products[node.name].dim() == 2 else _dims(node) - products[node.name].dim() + 1
    while len(node.users) == 1:
        (user,) = node.users
        if user.name in products:
            dims = products[user.name].dim()
            return user if axis == (_dims(node) - 1 if dims == 2 else _dims(node) - dims + 1) else None
        if not _keeps(user, node, axis, channels):
            return None
        node = user
    return None


def _keeps(user: fx.Node, node: fx.Node, axis: int, channels: int) -> bool:
    """Whether a channel of the result is scaled as that of ``node`` is, in the same place."""
    rest = _dims(node) - axis - 1
    options: Any = user.args[1] if len(user.args) > 1 else ()
    if user.target in _ELEMENTWISE:
        return True
    if user.target in _POOLS:
        return rest == (1 if "1d" in str(user.target) else 2)
    if user.target in _PADS:
        modes, values = (user.args[2:3], user.args[3:4]) if user.target is aten.pad.default else ((), user.args[2:3])
        return len(options) <= 2 * rest and (modes not in ((), ("constant",)) or not any(values))
    if user.target is aten.mean.dim:
        return all(place % _dims(node) > axis for place in options or (0,))
    if user.target in _MOVES:
        before, after = node.meta["val"].shape, user.meta["val"].shape
        return len(after) == axis + 1 and after[axis] == channels and all(size == 1 for size in before[axis + 1 :])
    return False


def _dims(node: fx.Node) -> int:
    return int(node.meta["val"].dim())
