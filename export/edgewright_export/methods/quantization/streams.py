"""Values whose channels can be scaled together, as layers write them that alone are read by layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from .graph import tensor_at
from .sites import SUMS, Product, aten

_ELEMENTWISE = (aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default)
_POOLS = (
    aten.max_pool1d.default, aten.max_pool2d.default, aten.avg_pool1d.default, aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
)  # fmt: skip
_PADS = (aten.pad.default, aten.constant_pad_nd.default)
_MOVES = (aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.squeeze.dim, aten.squeeze.dims)


@dataclass(frozen=True)
class Stream:
    """Products between which there is nothing but sums and what follows its input when that is scaled; nodes by their names.

    Args:
        writers: Their outputs can be divided by a factor for each channel.
        readers: The weights that meet these channels must then be multiplied with it.
        axis: Of the channels.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    axis: int


def streams(module: fx.GraphModule, products: Sequence[Product]) -> tuple[Stream, ...]:
    """Those of a graph; no product writes or reads two.

    Args:
        module: The graph.
        products: Those that may belong to one.
    """
    weights = {p.name: tensor_at(module, p.weight) for p in products}
    nodes = {node.name: node for node in module.graph.nodes}
    found: list[Stream] = []
    for product in products:
        if all(product.name not in stream.writers for stream in found):
            stream = _Search(nodes[product.name], weights).stream()
            found += [] if stream is None else [stream]
    return tuple(found)


def with_inputs_scaled(weight: Tensor, factor: Tensor) -> Tensor:
    """Weights of a product, those that meet a channel multiplied with its factor."""
    rows = _by_group(weight, len(factor))
    return (rows * factor.view(len(rows), 1, -1, 1)).view(weight.shape)


def largest_met(weight: Tensor, channels: int) -> Tensor:
    """The largest weight of a product that meets each channel, [channels]."""
    return _by_group(weight, channels).abs().amax((1, 3)).flatten()


def _by_group(weight: Tensor, channels: int) -> Tensor:
    """[groups, outputs, inputs, taps]"""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)


class _Search:
    """From a product to all that its result is scaled with."""

    def __init__(self, first: fx.Node, weights: dict[str, Tensor]) -> None:
        self._weights = weights
        self._axis, self._channels = self._written(first), len(weights[first.name])
        self._members, self._readers = {first: None}, dict[str, None]()
        self._usable = True

    def stream(self) -> Stream | None:
        """What was found; None where something else reads or writes these values."""
        left = list(self._members)
        while left and self._usable:
            node = left.pop()
            for member in (*self._before(node), *self._behind(node)):
                left += [] if member in self._members else [member]
                self._members[member] = None
        if not self._usable or not self._readers:
            return None
        writers = (node.name for node in self._members if node.name in self._weights)
        return Stream(tuple(writers), tuple(self._readers), self._axis)

    def _before(self, node: fx.Node) -> list[fx.Node]:
        """The values that make up this one."""
        if node.name in self._weights:
            self._usable &= self._written(node) == self._axis and len(self._weights[node.name]) == self._channels
            return []
        given = [value for value in node.args[:2] if isinstance(value, fx.Node)]
        self._usable &= _is_sum(node) or (len(given) == 1 and self._keeps(node, given[0]))
        return given

    def _behind(self, node: fx.Node) -> list[fx.Node]:
        """The values that this one is part of."""
        readers = [user for user in node.users if user.name in self._weights]
        others = [user for user in node.users if user.name not in self._weights]
        self._readers |= dict.fromkeys(reader.name for reader in readers)
        self._usable &= all(self._read(reader) == self._axis for reader in readers)
        self._usable &= all(_is_sum(user) or self._keeps(user, node) for user in others)
        return others

    def _written(self, node: fx.Node) -> int:
        dims = self._weights[node.name].dim()
        return _dims(node) - (1 if dims == 2 else dims - 1)

    def _read(self, node: fx.Node) -> int:
        x, dims = node.args[0], self._weights[node.name].dim()
        assert isinstance(x, fx.Node)
        return _dims(x) - (1 if dims == 2 else dims - 1)

    def _keeps(self, user: fx.Node, node: fx.Node) -> bool:
        """Whether a channel of the result is scaled as that of ``node`` is, in the same place."""
        rest = _dims(node) - self._axis - 1
        options: Any = user.args[1] if len(user.args) > 1 else ()
        if user.target in _ELEMENTWISE:
            return True
        if user.target in _POOLS:
            return rest == (1 if "1d" in str(user.target) else 2)
        if user.target in _PADS:
            modes, values = (user.args[2:3], user.args[3:4]) if user.target is aten.pad.default else ((), user.args[2:3])
            return len(options) <= 2 * rest and (modes not in ((), ("constant",)) or not any(values))
        if user.target is aten.mean.dim:
            return all(place % _dims(node) > self._axis for place in options or (0,))
        if user.target in _MOVES:
            before, after = node.meta["val"].shape, user.meta["val"].shape
            inside = len(after) == self._axis + 1 and after[self._axis] == self._channels
            return inside and all(size == 1 for size in before[self._axis + 1 :])
        return False


def _is_sum(node: fx.Node) -> bool:
    """Of two values of the same shape."""
    values = [value for value in node.args if isinstance(value, fx.Node) and "val" in value.meta]
    alike = len(values) == len(node.args) == 2 and values[0].meta["val"].shape == values[1].meta["val"].shape
    return node.target in SUMS and alike and not node.kwargs


def _dims(node: fx.Node) -> int:
    return int(node.meta["val"].dim())
