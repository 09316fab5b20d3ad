"""Rounds weights one input at a time and lets those that are still to come make up for the error.

Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative pre-trained transformers", section 3: what
counts is the layer's result on calibration inputs, whose second derivative by the weights of an output is the inputs'
covariance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from .calls import Call, run
from .graph import tapped, tensor_at
from .grid import least, spread
from .plan import Plan

_DAMPING = 0.01
"""Share of the mean variance of the inputs that is added to each, so that the covariance can be inverted."""


def compensated(plan: Plan, given: Sequence[Call]) -> Plan:
    """The plan with the weights of its linear layers rounded so; convolutions are rounded to the nearest.

    Args:
        plan: With the scales that stay.
        given: Calibration inputs.
    """
    linear = [p for p in plan.products if tensor_at(plan.module, p.weight).dim() == 2]
    covariances = _covariances(plan.module, {p.x for p in linear}, given)
    rounded = {
        p.name: round_weights(
            tensor_at(plan.module, p.weight).detach(), plan.scales[p.name], plan.most[p.name], covariances[p.x]
        )
        for p in linear
    }
    return replace(plan, rounded={**plan.rounded, **rounded})


def _covariances(module: fx.GraphModule, names: Iterable[str], given: Sequence[Call]) -> dict[str, Tensor]:
    """Sums of products of each two channels, [channels, channels], float64."""
    sums: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        rows = value.detach().flatten(0, -2)
        own = (rows.T @ rows).double()
        sums[name] = sums[name] + own if name in sums else own

    run(tapped(module, names, add), given)
    return sums


def round_weights(weight: Tensor, scales: Tensor, most: int, covariance: Tensor) -> Tensor:
    """Weights on their grid.

    Args:
        weight: [outputs, inputs].
        scales: [outputs] or [outputs, groups].
        most: The largest integer.
        covariance: Of the inputs, [inputs, inputs].

    Returns:
        ``scale * q``, [outputs, inputs].
    """
    steps = spread(scales, weight).expand_as(weight).double()
    order = covariance.diagonal().argsort(descending=True)
    damped = covariance + torch.eye(len(covariance)) * (_DAMPING * covariance.diagonal().mean()).clamp(min=1e-12)
    damped = damped[order][:, order]
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, steps = weight.double()[:, order].clone(), steps[:, order]
    for i in range(left.shape[1]):
        nearest = (left[:, i] / steps[:, i]).round().clamp(least(most), most) * steps[:, i]
        error = (left[:, i] - nearest) / inverse[i, i]
        left[:, i + 1 :] -= error[:, None] * inverse[i, i + 1 :]
        left[:, i] = nearest
    return left[:, order.argsort()].float()
