"""Leaves the fewest layers in float32 that a limit of quality asks for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from device_profiles.errors import OptionError
from edgewright_runtime.bundle.manifest import Tried
from edgewright_runtime.quiet import quiet

from ...predict import module_predictor
from ...state import Context, State
from ...tried import figure
from .calls import Call
from .plan import Plan, simulated
from .sites import Product, sites
from .stored import Stored
from .tried import as_given, candidate, with_both

progress = logging.getLogger("edgewright.progress")
_RUNS = 4
"""Calibration inputs on which outputs are compared."""


def within_drop(
    plan: Plan, state: State, ctx: Context, given: Sequence[Call], without: Callable[[tuple[str, ...]], Plan]
) -> tuple[Plan, tuple[str, ...], State]:
    """The plan if it keeps to ``max_quality_drop``, else one without the layers that lose most.

    Layers are left out in the order in which each alone changes the outputs; how many is found by bisection.  Nothing is
    evaluated twice, and not what is left when all that was tried with fewer layers in float32 is not good enough: the
    export evaluates its files.

    Args:
        plan: With all layers.
        state: Its reference is what quality is compared with.
        ctx: Holds the limit and ``evaluate``.
        given: Inputs on which the layers are compared.
        without: A plan without the layers of these module paths.

    Returns:
        The plan, the paths of the layers that are left out: all but one at most, for which the export's own check of
        quality may fail; and the state with what was tried.

    Raises:
        OptionError: ``evaluate`` returned no finite number on the module as it was given.
    """
    evaluate, limit = ctx.evaluate, ctx.budget.quality_drop
    if evaluate is None or limit is None:
        return plan, (), with_both(state, plan)
    progress.info("evaluating the module as it was given")
    before = float(evaluate(module_predictor(state.reference)))
    if not math.isfinite(before):
        raise OptionError(f"evaluate returned {before} on the module; expected a finite number")
    trials = _Trials(evaluate, before - limit, [replace(as_given(plan), quality=before, evaluated="module")])
    order = _worst_first(plan, given) if not trials.holds(plan, ()) else ()
    if len(order) < 2:
        return plan, (), trials.chosen(state, plan, ())
    low, high, best = 1, len(order) - 1, None
    while low < high:
        middle = (low + high) // 2
        fewer = without(order[:middle])
        if trials.holds(fewer, order[:middle]):
            high, best = middle, fewer
        else:
            low = middle + 1
    best = best or without(order[:low])
    return best, order[:low], trials.chosen(state, best, order[:low])


@dataclass
class _Trials:
    """Evaluates plans, and keeps what came out.

    Args:
        evaluate: As the user passed it.
        least: The quality that is good enough.
        tried: First the module as it was given.
    """

    evaluate: Callable[[Callable[..., object]], float]
    least: float
    tried: list[Tried]

    def holds(self, plan: Plan, left: Sequence[str]) -> bool:
        """Whether a plan, with these layers in float32, is good enough."""
        own = candidate(plan, left)
        progress.info("evaluating %s", own.what)
        quality = float(self.evaluate(module_predictor(simulated(plan))))
        self.tried.append(replace(own, quality=figure(quality), evaluated="module"))
        return quality >= self.least

    def chosen(self, state: State, plan: Plan, left: Sequence[str]) -> State:
        """The state with all that was tried, and a plan, evaluated or not, as what is chosen."""
        own = candidate(plan, left)
        known = own.what in [one.what for one in self.tried]
        tried = self.tried if known else [*self.tried, own]
        return replace(state, tried=tuple(replace(one, chosen=one.what == own.what) for one in tried))


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
