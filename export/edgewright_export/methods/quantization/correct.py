"""Takes the mean error of each output out of the bias (Nagel et al. 2019, "Data-free quantization through weight
equalization and bias correction", section 4.2, the empirical form).

Rounded weights and inputs move the mean of a layer's outputs, and all that follows is moved with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from .calls import Call
from .grid import spread
from .plan import Plan, simulated
from .simulate import IntegerProduct
from .walk import Walk, inputs_of


def corrected(plan: Plan, given: Sequence[Call]) -> Plan:
    """The plan with biases for which the mean of each output, before its activation, is that of the float graph.

    One layer after the other, so that each makes up for what is left of the errors before it.

    Args:
        plan: With the weights and grids that stay.
        given: Calibration inputs.
    """
    module = simulated(plan)
    inputs = inputs_of(plan, given)
    floats, integers = Walk(plan.module, inputs), Walk(module, inputs)
    nodes = {node.name: node for node in plan.module.graph.nodes}
    places = {node.target: node for node in module.graph.nodes if node.op == "call_module"}
    biases = {}
    for product in plan.products:
        node, place = nodes[product.name], places[f"{product.name}__integer"]
        part = module.get_submodule(str(place.target))
        assert isinstance(part, IntegerProduct) and isinstance(node.args[0], fx.Node)
        assert isinstance(place.args[0], fx.Node)
        floats.before(node.next)
        integers.before(place)
        axis = 1 - part.weight.dim()
        wanted = _mean([values[node] for values in floats.values], axis)
        with torch.no_grad():
            found = _mean([_linear(part, node, values[place.args[0]]) for values in integers.values], axis)
        before = torch.zeros_like(found) if part.bias is None else part.bias.detach().double()
        biases[product.name] = (before + wanted - found).float()
        part.bias = nn.Parameter(biases[product.name], requires_grad=False)
    return replace(plan, biases={**plan.biases, **biases})


def _linear(part: IntegerProduct, node: fx.Node, x: Tensor) -> Tensor:
    """The result before its activation and its grid."""
    weight = part.integers() * spread(part.scales(), part.weight)
    value: Tensor = node.target(x if part.x is None else part.x(x), weight, part.bias, *node.args[3:])  # type: ignore[operator]
    return value


def _mean(values: Sequence[Tensor], axis: int) -> Tensor:
    """Of each channel over all values, float64."""
    rows = [value.double().movedim(axis, -1).reshape(-1, value.shape[axis]) for value in values]
    return torch.stack([row.sum(0) for row in rows]).sum(0) / sum(map(len, rows))
