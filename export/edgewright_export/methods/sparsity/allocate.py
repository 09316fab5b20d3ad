"""How many zeros each layer gets.

What a share of zeros in one layer costs is measured in the model's outputs, with all other layers dense; such costs are added
up (Frantar and Alistarh 2022, "SPDY: accurate pruning with speedup guarantees", section 3, choose shares by a sum of the
layers' costs too).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

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


def cheapest(costs: Mapping[str, Curve], sizes: Mapping[str, float], share: float) -> dict[str, float]:
    """Shares with which the sum of all costs is least; between two levels a cost lies on a line.

    Args:
        costs: By layer.
        sizes: What all of a layer counts.
        share: Of all that counts, what becomes zero.
    """
    steps = [step for name, curve in costs.items() for step in _steps(name, curve, sizes[name])]
    left, shares = share * sum(sizes.values()), dict.fromkeys(costs, 0.0)
    for _, name, width in sorted(steps):
        part = min(width, left / sizes[name])
        shares[name] += part
        left -= part * sizes[name]
    return shares


def _steps(name: str, curve: Curve, size: float) -> list[tuple[float, str, float]]:
    """Cost for what counts, layer and width of each edge of a curve's lower convex hull, along which it gets dearer."""
    hull: list[tuple[float, float]] = []
    for point in zip(LEVELS, curve, strict=True):
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [(_slope(a, b) / size, name, b[0] - a[0]) for a, b in zip(hull, hull[1:], strict=False)]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
