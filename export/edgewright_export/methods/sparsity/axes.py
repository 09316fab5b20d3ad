"""Which axes of a model's parameters and buffers can be permuted, and which of them only together.

Axes are alike where an operation computes the same, permuted, once all of them are permuted.  An axis of which no rule says
so stays in place, and with it all that are alike: those of inputs and outputs, and all that an operation without a rule
reads or returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ..quantization.graph import CONVOLUTIONS, aten

Axis = tuple[str, int]
"""Of a parameter or buffer, by its qualified name."""


class _Place(NamedTuple):
    """An axis of a node's value, or of what lies at a place in memory."""

    of: Any
    axis: int
    size: str


_Axes = Sequence[_Place]
_Rule = Callable[[fx.Node, _Axes, Sequence[_Axes]], Iterable[Sequence[_Place]]]
"""Of a node, of the axes of its value and of those of its arguments: sets of axes that are alike."""


def free(graph: fx.GraphModule, module: nn.Module) -> list[tuple[Axis, ...]]:
    """Sets of axes such that the model computes the same when one permutation is done to all of a set.

    Args:
        graph: Of the model, with its names of parameters and buffers.
        module: The model.
    """
    search = _Search(graph, module)
    for node in graph.graph.nodes:
        search.visit(node)
    return search.found()


class _Search:
    """Axes that are alike, by union and find."""

    def __init__(self, graph: fx.GraphModule, module: nn.Module) -> None:
        several: Any = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
        self._graph, self._named = graph, {name: tensor for pairs in several for name, tensor in pairs}
        self._above: dict[_Place, _Place] = {}
        self._fixed: set[_Place] = set()
        self._own: dict[Axis, _Place] = {}

    def visit(self, node: fx.Node) -> None:
        """Joins the axes that are alike in a node; its others, and the others of what it reads, stay."""
        if node.op == "get_attr":
            self._enter(node)
            return
        said: set[_Place] = set()
        for first, *others in self._alike(node):
            said |= {first, *others}
            for other in others:
                self._above[self._root(other)] = self._root(first)
        self._fixed |= {place for value in (node, *node.all_input_nodes) for place in self._axes(value)} - said

    def found(self) -> list[tuple[Axis, ...]]:
        """The sets of which nothing stays."""
        fixed, sets = {self._root(place) for place in self._fixed}, defaultdict[_Place, list[Axis]](list)
        for axis, place in self._own.items():
            sets[self._root(place)].append(axis)
        return [tuple(axes) for root, axes in sets.items() if root not in fixed]

    def _enter(self, node: fx.Node) -> None:
        tensor = self._named.get(str(node.target))
        if tensor is None or not tensor.numel() or 0 in tensor.stride():
            self._fixed |= set(self._axes(node))
        else:
            self._own |= {(str(node.target), place.axis): place for place in self._axes(node)}

    def _alike(self, node: fx.Node) -> Iterable[Sequence[_Place]]:
        known = all(value.op == "get_attr" or "val" in value.meta for value in (node, *node.all_input_nodes))
        apart = all(value in node.args for value in node.all_input_nodes if self._axes(value))
        rule = _rule(node) if known and apart and node.op == "call_function" else None
        return () if rule is None else rule(node, self._axes(node), [self._axes(value) for value in node.args])

    def _axes(self, value: Any) -> _Axes:
        if not isinstance(value, fx.Node):
            return ()
        of: Any = value
        tensor = value.meta.get("val")
        if value.op == "get_attr":
            tensor = attrgetter(str(value.target))(self._graph)
            own = self._named.get(str(value.target))
            of = value if own is None else (own.data_ptr(), own.stride(), own.shape)
        return [_Place(of, i, str(n)) for i, n in enumerate(tensor.shape)] if isinstance(tensor, Tensor) else ()

    def _root(self, place: _Place) -> _Place:
        while place in self._above and self._above[place] != place:
            place = self._above[place]
        return place


def _rule(node: fx.Node) -> _Rule | None:
    found = _RULES.get(node.target)
    if found is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return _elementwise
    return None if node.kwargs else found


def _elementwise(_: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    """Arguments are aligned at their last axes; those that are spread out stay."""
    for back in range(1, len(out) + 1):
        place = out[-back]
        yield [place, *(x[-back] for x in given if len(x) >= back and x[-back].size == place.size)]


def _convolution(node: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    x, weight, bias = (*given[:3], ())[:3]
    groups = (*node.args[6:7], 1)[0]
    if len(x) != len(weight):
        return
    yield [x[0], out[0]]
    if groups == 1:
        yield [x[1], weight[1]]
        yield [out[1], weight[0], *bias]
    elif weight[1].size == "1" and weight[0].size == x[1].size:
        yield [x[1], out[1], weight[0], *bias]


def _linear(_: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    x, weight, bias = (*given, ())[:3]
    if len(weight) == 2:
        yield from zip(x[:-1], out[:-1], strict=True)
        yield [x[-1], weight[1]]
        yield [out[-1], weight[0], *bias]


def _by_channel(_: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    """Parameters hold a number for each channel, or one for all."""
    x, *parameters = given
    for place, own in zip(out, x, strict=True):
        yield [place, own, *(p[0] for p in parameters if p and place.axis == 1 and p[0].size == place.size)]


def _but_last(count: int) -> _Rule:
    """Of so many axes at the end each place of the result may read several."""

    def rule(_: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
        return zip(out[:-count], given[0][:-count], strict=True)

    return rule


def _pad(node: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    pads: Any = node.args[1]
    return _but_last(len(pads) // 2)(node, out, given) if len(pads) > 1 else ()


def _mean(node: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    """Of its result, the axes that were there before."""
    x = given[0]
    axes: Any = node.args[1]
    gone = {axis % len(x) for axis in axes} if isinstance(axes, (list, tuple)) else set(range(len(x)))
    kept = [place for place in x if place.axis not in gone]
    return zip(kept, out if len(out) == len(kept) else [out[place.axis] for place in kept], strict=True)


def _view(_: fx.Node, out: _Axes, given: Sequence[_Axes]) -> Iterable[Sequence[_Place]]:
    """Axes stay what they are up to the first that is joined or cut; those of one element do not count."""
    pairs = zip(*([place for place in axes if place.size != "1"] for axes in (given[0], out)), strict=False)
    return takewhile(lambda pair: pair[0].size == pair[1].size, pairs)


_UNTAGGED = (
    aten.hardswish.default, aten.hardswish_.default, aten.contiguous.default, aten.dropout.default, aten.dropout_.default,
)  # fmt: skip
"""Elementwise operations of which torch does not say so."""
_VIEWS = (
    aten.reshape.default, aten.view.default, aten.flatten.using_ints,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
)  # fmt: skip
_RULES: dict[Any, _Rule] = {
    aten.linear.default: _linear,
    aten.batch_norm.default: _by_channel,
    aten.prelu.default: _by_channel,
    aten.mean.dim: _mean,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(_UNTAGGED, _elementwise),
    **dict.fromkeys((aten.max_pool1d.default, aten.avg_pool1d.default, aten.adaptive_avg_pool1d.default), _but_last(1)),
    **dict.fromkeys((aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default), _but_last(2)),
    **dict.fromkeys((aten.pad.default, aten.constant_pad_nd.default), _pad),
    **dict.fromkeys(_VIEWS, _view),
}
