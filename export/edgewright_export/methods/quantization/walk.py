"""Runs a graph part by part on several inputs, so that what is done to one part can follow from what it really reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx

from edgewright_runtime.quiet import quiet

from .calls import Call, run
from .graph import tapped
from .plan import Plan

_SAMPLES = 32
"""Calibration inputs that run together."""
_MOST = 256
"""Calls that are walked with, drawn evenly: what is alive of all of them lies in memory."""
Values = dict[fx.Node, Any]


class Walk:
    """What a graph's nodes return, on the way from its inputs to its outputs.

    Args:
        module: The graph.
        inputs: Of each run, by the names of placeholders.

    Attributes:
        values: Of each run, by node, those that are still read.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[dict[str, Any]]) -> None:
        self._interpreter = fx.Interpreter(module)
        self._nodes = list(module.graph.nodes)
        self._next = 0
        given = [node for node in self._nodes if node.op == "placeholder"]
        self.values: list[Values] = [{node: one[node.name] for node in given} for one in inputs]

    def before(self, node: fx.Node) -> None:
        """Goes on to right before a node."""
        with torch.no_grad(), quiet():
            while self._nodes[self._next] is not node:
                current = self._nodes[self._next]
                for values in self.values:
                    self._step(current, values)
                    for dead in self._interpreter.user_to_last_uses.get(current, ()):
                        values.pop(dead, None)
                self._next += 1

    def run(self, nodes: Iterable[fx.Node], values: Values) -> Values:
        """All values once these nodes ran, which come next; the given values stay as they are."""
        found = {node: value.clone() if isinstance(value, Tensor) else value for node, value in values.items()}
        with quiet():
            for node in nodes:
                self._step(node, found)
        return found

    def _step(self, node: fx.Node, values: Values) -> None:
        if node.op not in ("placeholder", "output"):
            self._interpreter.env = values
            values[node] = self._interpreter.run_node(node)


def inputs_of(plan: Plan, given: Sequence[Call]) -> list[dict[str, Any]]:
    """Calibration inputs by the names of placeholders; several in one where the graph takes that and computes the same.

    A grid that is found in each run over all of its values would be another for several inputs.
    """
    return together(plan.module, given, alone=not plan.rows and "dynamic" in plan.modes.values())


def together(module: fx.GraphModule, given: Sequence[Call], *, alone: bool = False) -> list[dict[str, Any]]:
    """Calibration inputs by the names of placeholders; several in one where the graph takes that, and they are not ``alone``."""
    names = [node.name for node in module.graph.nodes if node.op == "placeholder"]
    found: list[dict[str, Any]] = []
    watched = tapped(module, names, lambda name, value: found[-1].__setitem__(name, value))
    for call in given[:: -(-len(given) // _MOST)]:
        found.append({})
        run(watched, [call])
    if alone or not is_open(module):
        return found
    alike = groupby(found, lambda one: [value.shape for value in one.values()])
    return [joined for _, group in alike for joined in _joined(list(group))]


def is_open(module: fx.GraphModule) -> bool:
    """Whether all inputs have a first axis of any size."""
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    return all(isinstance(v, Tensor) and v.dim() > 0 and isinstance(v.shape[0], torch.SymInt) for v in values)


def _joined(alike: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    samples = sum(len(next(iter(one.values()))) for one in alike) / len(alike)
    count = max(1, int(_SAMPLES / samples))
    parts = [alike[i : i + count] for i in range(0, len(alike), count)]
    return [{name: torch.cat([one[name] for one in part]) for name in part[0]} for part in parts]
