"""How well a quantized module agrees with itself when float operations round otherwise.

Engines add in other orders than PyTorch, so float values differ in their last bits.  A value that lies between two steps
of a grid then comes out on the other one, and behind a grid that is found in each run all values move.  What a module
does to itself in this way no file can do better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from edgewright_runtime.quiet import quiet

from .calls import Call
from .plan import Plan
from .walk import inputs_of

_LAST_BITS = 2.0**-22
"""Relative, standard deviation: two units in the last place of float32."""
_RUNS = 8


def steadiness_db(plan: Plan, module: fx.GraphModule, given: Sequence[Call]) -> float:
    """The least signal over noise of an output, dB, inf where nothing changes.

    Args:
        plan: What is quantized.
        module: It, simulated.
        given: Inputs, of which some are run twice.
    """
    steady, shaken, least = fx.Interpreter(module), _Shaken(module), math.inf
    for one in inputs_of(plan, given[:_RUNS]):
        arguments = [one[node.name] for node in module.graph.find_nodes(op="placeholder")]
        with torch.no_grad(), quiet():
            results = [pytree.tree_leaves(interpreter.run(*arguments)) for interpreter in (steady, shaken)]
        least = min([least, *(_decibels(*pair) for pair in zip(*results, strict=True))])
    return least


def _decibels(wanted: Any, found: Any) -> float:
    if not isinstance(wanted, Tensor) or not wanted.is_floating_point():
        return math.inf
    noise = float((wanted.double() - found.double()).square().sum())
    return 10 * math.log10(max(float(wanted.double().square().sum()), 1e-300) / noise) if noise > 0 else math.inf


class _Shaken(fx.Interpreter):
    """Runs a graph with float operations whose results are changed in their last bits."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self._draw = torch.Generator().manual_seed(0)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the operation returns, changed so."""
        value = super().call_function(target, args, dict(kwargs))
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        return value * (1 + _LAST_BITS * torch.randn(value.shape, generator=self._draw))
