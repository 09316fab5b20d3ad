"""Plans as what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgewright_runtime.bundle.manifest import Tried

from ...state import State
from .plan import Plan
from .sites import products
from .size import weight_bytes
from .stored import stored

_SHOWN = 3
"""Layers that are named."""


def as_given(plan: Plan) -> Tried:
    """The float module that a plan quantizes."""
    size = weight_bytes(replace(plan, products=(), stored=(), tables={}, biases={}))
    return Tried("float32, as given", size, None, None, chosen=False)


def candidate(plan: Plan, left: Sequence[str] = ()) -> Tried:
    """A plan, not evaluated yet.

    Args:
        plan: What is quantized.
        left: Module paths of the layers that stay float32 for the sake of quality.
    """
    count, whole = len(plan.products) + len(plan.stored), len(products(plan.module)) + len(stored(plan.module))
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    stay = f"; float32 stay {', '.join(left[:_SHOWN])}{more}" if left else ""
    return Tried(f"{count} of {whole} layers quantized{stay}", weight_bytes(plan), None, None, chosen=False)


def with_both(state: State, plan: Plan) -> State:
    """The state with the float module and a plan, which is chosen, as what was tried."""
    return replace(state, tried=(as_given(plan), replace(candidate(plan), chosen=True)))
