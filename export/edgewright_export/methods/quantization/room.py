"""Biases within 32 bits.

A layer whose result lies on a grid adds its bias as a whole number of ``s_x s_w``.  An output with next to no weights has next
to no scale ``s_w``, as batch norms leave channels that died, and such a number may not fit.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .plan import Plan, bias_of
from .sites import Product

_MOST = 2.0**30
"""Half of what 32 bits hold: the other half is for the products."""


def with_room_for_biases(plan: Plan) -> Plan:
    """The plan with scales of weights that are large enough for the biases, some times two what they were.

    Args:
        plan: With the biases and the grids that stay.
    """
    return replace(plan, scales={**plan.scales, **{p.name: _scales(plan, p) for p in plan.products}})


def _scales(plan: Plan, product: Product) -> Tensor:
    scales, bias = plan.scales[product.name], bias_of(plan, product)
    if bias is None or plan.modes[product.name] != "static" or product.result not in plan.sites.delivered:
        return scales
    unit = scales.double() * plan.grids[plan.sites.grids[product.x]].scale
    least = bias.detach().abs().amax() if len(scales) == 1 else bias.detach().abs()
    times = (least.double() / (_MOST * unit.abs())).log2().ceil().clamp(min=0)
    return (scales * torch.exp2(times)).float() if bool((times > 0).any()) else scales
