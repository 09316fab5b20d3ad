"""Leaves the fewest layers in float32 that a limit of quality asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from edgewright_runtime.quiet import quiet

from ...predict import module_predictor
from ...state import Context, State
from .calls import Call
from .plan import Plan, simulated
from .sites import Product, sites
from .stored import Stored

_RUNS = 4
"""Calibration inputs on which outputs are compared."""


def within_drop(
    plan: Plan, state: State, ctx: Context, given: Sequence[Call], without: Callable[[tuple[str, ...]], Plan]
) -> tuple[Plan, tuple[str, ...]]:
    """The plan if it keeps to ``max_quality_drop``, else one without the layers that lose most.

    Layers are left out in the order in which each alone changes the outputs; how many is found by bisection.

    Args:
        plan: With all layers.
        state: Its reference is what quality is compared with.
        ctx: Holds the limit and ``evaluate``.
        given: Inputs on which the layers are compared.
        without: A plan without the layers of these module paths.

    Returns:
        The plan, and the paths of the layers that are left out: all but one at most, for which the export's own check
        of quality may fail.
    """
    evaluate, limit = ctx.evaluate, ctx.budget.quality_drop
    if evaluate is None or limit is None:
        return plan, ()
    least = float(evaluate(module_predictor(state.reference))) - limit

    def holds(candidate: Plan) -> bool:
        return float(evaluate(module_predictor(simulated(candidate)))) >= least

    order = _worst_first(plan, given) if not holds(plan) else ()
    if len(order) < 2:
        return plan, ()
    low, high = 1, len(order) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(without(order[:middle])) else (middle + 1, high)
    return without(order[:low]), order[:low]


def _worst_first(plan: Plan, given: Sequence[Call]) -> tuple[str, ...]:
    """Module paths of the layers, first the one whose quantization alone changes the outputs most."""
    wanted = _outputs(plan.module, given)
    layers: tuple[Product | Stored, ...] = (*plan.products, *plan.stored)
    errors = {layer.name: _apart(_outputs(simulated(alone(plan, layer)), given), wanted) for layer in layers}
    ordered = sorted(layers, key=lambda layer: -errors[layer.name])
    return tuple(dict.fromkeys(layer.path for layer in ordered))


def alone(plan: Plan, layer: Product | Stored) -> Plan:
    """The plan with this layer alone."""
    if isinstance(layer, Stored):
        tables = {path: plan.tables[path] for path in layer.weights}
        return replace(plan, products=(), sites=sites(plan.module, []), grids={}, stored=(layer,), tables=tables)
    static = sites(plan.module, [layer] if plan.modes[layer.name] == "static" else [])
    grids = {name: plan.grids[plan.sites.grids[name]] for name in static.roots}
    return replace(plan, products=(layer,), sites=static, grids=grids, stored=(), tables={})


def _outputs(module: fx.GraphModule, given: Sequence[Call]) -> list[Tensor]:
    with torch.no_grad(), quiet():
        leaves = pytree.tree_leaves([module(*call.args, **call.kwargs) for call in given[:_RUNS]])
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _apart(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Squared error over what is wanted, the sum of all outputs."""
    pairs = zip(found, wanted, strict=True)
    return sum(float((a - b).double().square().sum() / b.double().square().sum().clamp(min=1e-30)) for a, b in pairs)
