"""Rounds weights one input at a time and lets those that are still to come make up for the error.

Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative pre-trained transformers", section 3: what
counts is the layer's result on calibration inputs, whose second derivative by the weights of an output is the inputs'
covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from .calls import Call, run
from .columns import columns
from .graph import tapped, tensor_at
from .grid import least, spread
from .plan import Plan
from .sites import Product

_Reads = tuple[str, str]
"""The same for products that multiply the same: the value, and how."""
_DAMPING = 0.01
"""Share of the mean variance of the inputs that is added to each, so that the covariance can be inverted."""
_PLACES = 1024
"""Places of one sample at which it is looked at what a layer multiplies."""


def compensated(plan: Plan, given: Sequence[Call]) -> Plan:
    """The plan with weights rounded so.

    Args:
        plan: With the scales that stay.
        given: Calibration inputs.
    """
    nodes = {node.name: node for node in plan.module.graph.nodes}
    reads = {p.name: _reads(plan, p, nodes[p.name]) for p in plan.products}
    covariances = _covariances(plan, given, {reads[p.name]: (nodes[p.name], p.weight) for p in plan.products})
    rounded = {p.name: _rounded(plan, p, covariances[reads[p.name]]) for p in plan.products}
    return replace(plan, rounded={**plan.rounded, **rounded})


def _rounded(plan: Plan, product: Product, covariance: Tensor) -> Tensor:
    weight = tensor_at(plan.module, product.weight).detach()
    steps = spread(plan.scales[product.name], weight).expand_as(weight)
    rows, steps = (value.reshape(len(covariance), -1, covariance.shape[-1]) for value in (weight, steps))
    return round_weights(rows, steps, plan.most[product.name], covariance).view(weight.shape)


def _reads(plan: Plan, product: Product, node: fx.Node) -> _Reads:
    kernel = list(tensor_at(plan.module, product.weight).shape[1:])
    return str(node.args[0]), f"{kernel} {node.args[3:]}"


def _covariances(
    plan: Plan, given: Sequence[Call], kinds: Mapping[_Reads, tuple[fx.Node, str]]
) -> dict[_Reads, Tensor]:
    """Sums of products of each two numbers that an output multiplies, [groups, inputs, inputs], float64.

    Args:
        plan: Holds the float graph.
        given: Calibration inputs.
        kinds: For each a product that reads so, and its weights.
    """
    sums: dict[_Reads, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        for key, (node, weight) in kinds.items():
            if key[0] == name:
                rows = columns(node, tensor_at(plan.module, weight), value.detach(), _PLACES)
                own = (rows @ rows.mT).double()
                sums[key] = sums[key] + own if key in sums else own

    run(tapped(plan.module, {name for name, _ in kinds}, add), given)
    return sums


def round_weights(weight: Tensor, steps: Tensor, most: int, covariance: Tensor) -> Tensor:
    """Weights on their grid; those that are 0 stay so.

    Args:
        weight: [groups, outputs, inputs].
        steps: The step of each.
        most: The largest integer.
        covariance: Of the inputs of each group, [groups, inputs, inputs].

    Returns:
        ``step * q``, [groups, outputs, inputs].
    """
    order = covariance.diagonal(dim1=1, dim2=2).argsort(descending=True)
    lower = torch.linalg.cholesky(damped(_ordered(_ordered(covariance, order).mT, order)))
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    left, steps = _ordered(weight.double(), order), _ordered(steps.double(), order)
    kept = left != 0
    for i in range(left.shape[2]):
        nearest = (left[:, :, i] / steps[:, :, i]).round().clamp(least(most), most) * steps[:, :, i] * kept[:, :, i]
        error = (left[:, :, i] - nearest) / inverse[:, i, i, None]
        left[:, :, i + 1 :] -= error[:, :, None] * inverse[:, None, i, i + 1 :]
        left[:, :, i] = nearest
    return _ordered(left, order.argsort()).float()


def damped(covariance: Tensor) -> Tensor:
    """Covariances [..., inputs, inputs] with a little added to each variance."""
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    added = (_DAMPING * variances.mean(-1, keepdim=True)).clamp(min=1e-12).expand_as(variances)
    return covariance + added.diag_embed()


def _ordered(values: Tensor, order: Tensor) -> Tensor:
    """Values with their last axis in the order of each group."""
    return values.gather(2, order[:, None].expand_as(values))
