"""How many zeros each layer gets.

What a share of zeros in one layer costs is measured in the model's outputs, with all other layers dense; such costs are added
up (Frantar and Alistarh 2022, "SPDY: accurate pruning with speedup guarantees", section 3, choose shares by a sum of the
layers' costs too).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, fx

from edgewright_runtime.quiet import quiet

from ...training.distill import outputs_apart
from ...training.loop import progress
from ..quantization.calls import Call
from ..quantization.graph import tensor_at
from ..quantization.sites import Product
from ..quantization.walk import Values, Walk, together
from .importance import moments, values_of
from .make_up import solved, write
from .pattern import Pattern

ALLOCATIONS = ("auto", "uniform", "weights", "macs")
LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of zeros that are tried."""
_HELD_OUT = 6
"""One sample of so many is not solved with: it says what zeros cost."""

Curve = Sequence[float]
"""What each of :data:`LEVELS` costs."""


def measured(
    graph: fx.GraphModule, found: Sequence[Product], known: Mapping[str, Tensor], pattern: Pattern, given: Sequence[Call]
) -> dict[str, Curve]:
    """What zeros of each layer cost, by the name of weights.

    Args:
        graph: The dense graph.
        found: The layers in the order in which they run.
        known: By the name of weights, what their squares cost.
        pattern: Which weights become zero together.
        given: Calibration inputs.
    """
    with quiet():
        graph = copy.deepcopy(graph)
    held = together(graph, given[_HELD_OUT - 1 :: _HELD_OUT] or given)[:1]
    learned = together(graph, [one for i, one in enumerate(given) if (i + 1) % _HELD_OUT])
    walk, order = Walk(graph, held + learned), list(graph.graph.nodes)
    nodes, costs = {node.name: node for node in order}, dict[str, Curve]()
    wanted = _outputs(walk, order, walk.values[0])
    for number, product in enumerate(found):
        node, weight = nodes[product.name], tensor_at(graph, product.weight)
        walk.before(node)
        values = values_of(walk, node)[1:]
        seen, curve, cost = moments(node, weight, values, values), [0.0], weight.detach().square() * known[product.weight]
        for share in LEVELS[1:]:
            new = solved(graph, product, node, pattern.mask(cost, share), seen)
            before = {name: tensor_at(graph, name).detach().clone() for name in new}
            write(graph, new)
            apart = outputs_apart(_outputs(walk, order[order.index(node) :], walk.values[0]), wanted, None)
            write(graph, before)
            curve.append(float(apart))
        costs[product.weight] = curve
        progress.info("sparsity: what zeros cost, layer %d of %d", number + 1, len(found))
    return costs


def _outputs(walk: Walk, nodes: Sequence[fx.Node], values: Values) -> list[Tensor]:
    with torch.no_grad(), quiet():
        reached = walk.run(nodes, values)
    return [reached[node] for node in nodes[-1].all_input_nodes]


def cheapest(costs: Mapping[str, Curve], gains: Mapping[str, Curve], wanted: float) -> dict[str, float]:
    """Shares with which the sum of all costs is least; between two levels a cost and a gain lie on a line.

    Args:
        costs: By layer.
        gains: By layer, what each of :data:`LEVELS` brings, 0 at first: weights that become zero, or seconds.
        wanted: Sum of all gains.
    """
    left, shares = wanted, dict.fromkeys(costs, 0.0)
    edges = [edge for layer, curve in costs.items() for edge in _edges(layer, curve, gains[layer])]
    for _, name, (low, high), gain in sorted(edges):
        part = min(1.0, left / gain)
        shares[name] = low + part * (high - low)
        left -= part * gain
        if left <= 0:
            break
    return shares


def of_sizes(sizes: Mapping[str, float]) -> dict[str, Curve]:
    """Gains of layers of which each zero counts the same.

    Args:
        sizes: What all of a layer counts.
    """
    return {name: [level * size for level in LEVELS] for name, size in sizes.items()}


class _Point(NamedTuple):
    gain: float
    cost: float
    level: float


def _edges(name: str, costs: Curve, gains: Curve) -> list[tuple[float, str, tuple[float, float], float]]:
    """Cost for what is gained, layer, levels and gain of each edge of the lower convex hull, along which it gets dearer."""
    hull: list[_Point] = []
    for point in sorted(map(_Point, gains, costs, LEVELS)):
        if hull and point.gain <= hull[-1].gain:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [(_slope(a, b), name, (a.level, b.level), b.gain - a.gain) for a, b in pairwise(hull)]


def _slope(a: _Point, b: _Point) -> float:
    return (b.cost - a.cost) / (b.gain - a.gain)
