"""Fewer bits for the layers that lose least by them, until all weights fit into so many bytes (the idea of Huang et al.
2024, "SliM-LLM: salience-driven mixed-precision quantization for large language models", section 3, for whole layers).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, fx

from device_profiles.errors import MethodError

from .calls import Call
from .graph import tensor_at
from .plan import Plan, simulated
from .sites import Product, products, sites
from .walk import Walk, inputs_of

_SAMPLES = 32
"""Calibration inputs on which layers are compared."""
Fewer = Sequence[tuple[Mapping[str, int], Mapping[str, Tensor]]]
"""Largest weights and their scales, by the names of products, with fewer and fewer bits."""


@dataclass(frozen=True)
class _Step:
    """A layer with some number of bits.

    Args:
        most: The largest weight.
        scales: Of the weights.
        size: Bytes of both.
        error: As of :func:`errors_alone`, over what it is with the most bits.
    """

    most: int
    scales: Tensor
    size: int
    error: float = 0.0


def within_bytes(plan: Plan, given: Sequence[Call], fewer: Fewer, limit: int) -> Plan:
    """The plan with fewer bits for some layers.

    Of all layers and all that each can go down, first comes what adds the least error of the model's outputs for each byte
    that it saves, with the weights of this layer alone on their grid.  What is not needed in the end goes up again, first
    where that takes the largest error away.

    Args:
        plan: With as many bits as wanted.
        given: Calibration inputs.
        fewer: With the bits that the target stores.
        limit: Bytes of the weights of all convolutions and linear layers, with their scales.

    Raises:
        MethodError: All layers together do not save as much.
    """
    layers = {p.name: p for p in plan.products}
    steps = {name: _steps(plan, product, fewer) for name, product in layers.items()}
    total = sum(size_of(plan, p) for p in products(plan.module))
    least = total - sum(several[0].size - several[-1].size for several in steps.values())
    if least > limit:
        raise MethodError(f"max_bytes={limit}: the weights take {least} bytes with as few bits as the target stores")
    if total <= limit:
        return plan
    _measure(plan, layers, steps, given)
    at = _up_again(steps, _down(steps, total - limit), limit - total)
    chosen = {name: steps[name][i] for name, i in at.items()}
    return replace(
        plan,
        most={**plan.most, **{name: step.most for name, step in chosen.items()}},
        scales={**plan.scales, **{name: step.scales for name, step in chosen.items()}},
    )


def _steps(plan: Plan, product: Product, fewer: Fewer) -> list[_Step]:
    """As the plan has it, and all that is smaller, each smaller than the one before."""
    weight = tensor_at(plan.module, product.weight)
    found = [_Step(plan.most[product.name], plan.scales[product.name], size_of(plan, product))]
    for most, scales in fewer:
        small = replace(plan, most=most, scales=scales)
        size = bytes_of(weight, scales[product.name], small.bits_of(product))
        if size < found[-1].size:
            found.append(_Step(most[product.name], scales[product.name], size))
    return found


def _measure(
    plan: Plan, layers: Mapping[str, Product], steps: dict[str, list[_Step]], given: Sequence[Call]
) -> None:
    """Sets the errors of all steps but the first."""
    for i in range(1, max(map(len, steps.values()))):
        now = {name: several[i] for name, several in steps.items() if len(several) > i}
        low = replace(
            plan,
            most={**plan.most, **{name: step.most for name, step in now.items()}},
            scales={**plan.scales, **{name: step.scales for name, step in now.items()}},
        )
        errors = errors_alone(low, [layers[name] for name in now], given)
        for name, step in now.items():
            steps[name][i] = replace(step, error=errors[name])


def _down(steps: Mapping[str, Sequence[_Step]], excess: int) -> dict[str, int]:
    """By layer the step to which it goes, until so many bytes are saved."""
    at = dict.fromkeys(steps, 0)
    while excess > 0:
        possible = [(name, i) for name, several in steps.items() for i in range(at[name] + 1, len(several))]

        def cost(place: tuple[str, int]) -> float:
            before, after = steps[place[0]][at[place[0]]], steps[place[0]][place[1]]
            return (after.error - before.error) / (before.size - after.size)

        name, i = min(possible, key=cost)
        excess -= steps[name][at[name]].size - steps[name][i].size
        at[name] = i
    return at


def _up_again(steps: Mapping[str, Sequence[_Step]], at: Mapping[str, int], room: int) -> dict[str, int]:
    """The steps after as many as possible went up by as much as possible.

    Args:
        steps: Of each layer.
        at: Where it is.
        room: Bytes that all may take more than with the most bits; negative.
    """
    at = dict(at)
    room += sum(several[0].size - several[at[name]].size for name, several in steps.items())
    while True:
        possible = [
            (steps[name][now].error - steps[name][i].error, name, i)
            for name, now in at.items()
            for i in range(now)
            if steps[name][i].size - steps[name][now].size <= room and steps[name][i].error < steps[name][now].error
        ]
        if not possible:
            return at
        _, name, i = max(possible)
        room -= steps[name][i].size - steps[name][at[name]].size
        at[name] = i


def few_bits(plan: Plan) -> str:
    """How many layers have fewer than 8 bits, in words."""
    counts = Counter(plan.bits_of(p) for p in plan.products)
    return ", ".join(f"{counts[bits]} of them have {bits} bits" for bits in (4, 3, 2) if counts[bits] or bits == 4)


def size_of(plan: Plan, product: Product) -> int:
    """Bytes of the weights of a layer with their scales, of one that is not quantized in float32."""
    weight, scales = tensor_at(plan.module, product.weight), plan.scales.get(product.name)
    return bytes_of(weight, scales, plan.bits_of(product) if scales is not None else 32)


def bytes_of(weight: Tensor, scales: Tensor | None, bits: int) -> int:
    """Bytes of weights with their scales; None: they have none."""
    return math.ceil(weight.numel() * bits / 8) + (0 if scales is None else 4 * scales.numel())


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
