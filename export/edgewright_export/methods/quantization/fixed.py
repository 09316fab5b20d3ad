"""Grids whose scales are powers of two: numbers with a binary point, which rescaling only moves.

After QFX (trainable fixed-point quantization; only its abstract was at hand): the binary point of every output's weights
and of every value is learned, and weights can be limited to sums of at most two powers of two.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .grid import nearest_power
from .plan import Plan


def fixed_point(plan: Plan) -> Plan:
    """The plan with each scale at the nearest power of two, where learning keeps it."""
    grids = {
        name: replace(grid, scale=float(nearest_power(torch.tensor(grid.scale)))) for name, grid in plan.grids.items()
    }
    scales = {name: nearest_power(scale) for name, scale in plan.scales.items()}
    tables = {path: replace(table, scales=nearest_power(table.scales)) for path, table in plan.tables.items()}
    return replace(plan, grids=grids, scales=scales, tables=tables, fixed_point=True)

