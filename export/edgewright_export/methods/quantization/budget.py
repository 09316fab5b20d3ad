"""Fewer bits for the layers that lose least by them, until all weights fit into so many bytes (the idea of Huang et al.
2024, "SliM-LLM: salience-driven mixed-precision quantization for large language models", section 3, for whole layers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, fx

from device_profiles.errors import MethodError

from .calls import Call
from .graph import tensor_at
from .grid import largest
from .plan import Plan, simulated
from .sites import Product, products, sites
from .walk import Walk, inputs_of

_SAMPLES = 32
"""Calibration inputs on which layers are compared."""


def within_bytes(
    plan: Plan, given: Sequence[Call], most: Mapping[str, int], scales: Mapping[str, Tensor], limit: int
) -> Plan:
    """The plan with fewer bits for some layers.

    Layers go down in the order of the error of the model's outputs, with the weights of this layer alone on their grid,
    for each byte that it saves; those that are not needed in the end go up again, the one with the largest error first.

    Args:
        plan: With as many bits as wanted.
        given: Calibration inputs.
        most: The largest weights with as few bits as the target stores, by the name of the product.
        scales: Of these weights.
        limit: Bytes of the weights of all convolutions and linear layers, with their scales.

    Raises:
        MethodError: All layers together do not save as much.
    """
    low = replace(plan, most=most, scales=scales)
    layers = products(plan.module)
    saved = {p.name: size_of(plan, p) - size_of(low, p) for p in layers}
    total = sum(size_of(plan, p) for p in layers)
    possible = [p for p in plan.products if saved[p.name] > 0]
    least = total - sum(saved[p.name] for p in possible)
    if least > limit:
        raise MethodError(f"max_bytes={limit}: the weights take {least} bytes with as few bits as the target stores")
    if total <= limit:
        return plan
    errors = errors_alone(low, possible, given)
    down: list[str] = []
    for product in sorted(possible, key=lambda p: errors[p.name] / saved[p.name]):
        if total > limit:
            down.append(product.name)
            total -= saved[product.name]
    for name in sorted(down, key=lambda name: -errors[name]):
        if total + saved[name] <= limit:
            down.remove(name)
            total += saved[name]
    return replace(
        plan,
        most={**plan.most, **{name: most[name] for name in down}},
        scales={**plan.scales, **{name: scales[name] for name in down}},
    )


def size_of(plan: Plan, product: Product) -> int:
    """Bytes of the weights of a layer with their scales, of one that is not quantized in float32."""
    return bytes_of(tensor_at(plan.module, product.weight), plan.scales.get(product.name), plan.most[product.name])


def bytes_of(weight: Tensor, scales: Tensor | None, most: int) -> int:
    """Bytes of weights with their scales; None: they stay float32."""
    if scales is None:
        return 4 * weight.numel()
    return math.ceil(weight.numel() * (4 if most <= largest(4) else 8) / 8) + 4 * scales.numel()


def errors_alone(plan: Plan, wanted: Sequence[Product], given: Sequence[Call]) -> dict[str, float]:
    """Squared error of the outputs over what they are in float, with the weights of one layer on their grid."""
    floats = replace(plan, modes={p.name: "float" for p in plan.products}, sites=sites(plan.module, []), grids={})
    inputs = inputs_of(floats, given[:_SAMPLES])
    exact = _outputs(plan.module, inputs)
    found = {p.name: _outputs(simulated(replace(floats, products=(p,))), inputs) for p in wanted}
    return {name: sum(map(_apart, outputs, exact)) for name, outputs in found.items()}


def _outputs(module: fx.GraphModule, inputs: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    *_, output = module.graph.nodes
    walk = Walk(module, inputs)
    walk.before(output)
    found = [values[node] for values in walk.values for node in output.all_input_nodes]
    return [value for value in found if isinstance(value, Tensor) and value.is_floating_point()]


def _apart(found: Tensor, wanted: Tensor) -> float:
    apart = (found.double() - wanted.double()).square().sum()
    return float(apart / wanted.double().square().sum().clamp(min=1e-30))
