"""Trains block after block to give what it gives in float (Li et al. 2021, "BRECQ: pushing the limit of post-training
quantization by block reconstruction", section 3).

A block reads what the blocks before it, quantized and trained already, deliver (Wei et al. 2022, "QDrop", section 3).  It
ends where one value alone goes on, so that what is between residual paths, or bridges two kinds of layers, is one block
(Lee et al. 2024, "Q-HyViT").  No labels are needed: calibration inputs are all that is learned from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from ...training.loop import seeded
from .calls import Call
from .grid import spread
from .plan import Plan, grids_in, simulated
from .simulate import IntegerProduct, Scale
from .walk import Values, Walk, inputs_of

_LEAST = 2
"""Products of a block, but for the last: with fewer there is nothing that one could make up for in the other."""
_WEIGHT_RATE = 0.02
"""Highest learning rate of a weight, in its steps."""
_BIAS_RATE = 1e-3
_SCALE_RATE = 1e-3
"""Highest learning rate of the logarithm of a scale."""
_HELD_OUT = 8
"""One run of so many is not learned from, and with the others says whether a block became better."""


@dataclass(frozen=True)
class Block:
    """Nodes of a simulated graph that follow each other.

    Args:
        nodes: In their order.
        ends: Those whose values other blocks or the outputs read.
    """

    nodes: tuple[fx.Node, ...]
    ends: tuple[fx.Node, ...]


def reconstructed(plan: Plan, given: Sequence[Call], steps: int) -> Plan:
    """The plan with weights, biases, scales and grids with which its blocks are nearer to the float graph's.

    A block that training made worse stays what it was.

    Args:
        plan: Where training begins.
        given: Calibration inputs.
        steps: Of each block.
    """
    module, inputs = simulated(plan), inputs_of(plan, given)
    floats, integers = Walk(plan.module, inputs), Walk(module, inputs)
    twins = twins_of(plan, module)
    done: set[nn.Module] = set()
    for block in blocks(module):
        behind = block.nodes[-1].next
        integers.before(block.nodes[0])
        floats.before(_last(plan.module, [twins[end] for end in block.ends]).next)
        wanted = [[values[twins[end]] for end in block.ends] for values in floats.values]
        parts = [_module(module, node) for node in block.nodes if node.op == "call_module"]
        own = [m for part in parts for m in part.modules() if m not in done]
        done.update(own)
        _train(block, integers, wanted, own, steps)
        integers.before(behind)
    return _read(plan, module)


def blocks(module: fx.GraphModule) -> list[Block]:
    """The blocks of a simulated graph that hold products."""
    nodes = list(module.graph.nodes)
    last = {node: max((nodes.index(user) for user in node.users), default=-1) for node in nodes}
    found, alive, begun, products = [], set[fx.Node](), 0, 0
    rounded: set[fx.Node] = set()
    for place, node in enumerate(nodes[:-1]):
        products += _is_product(node)
        if (node.op == "call_module" or rounded & set(node.all_input_nodes)) and not _is_number(node):
            rounded.add(node)
            alive.add(node)
        alive = {value for value in alive if last[value] > place}
        if products >= _LEAST and len(alive) == 1 and all(map(_is_tensor, alive)):
            found.append(Block(tuple(nodes[begun : place + 1]), tuple(alive)))
            begun, products = place + 1, 0
    if products:
        ends = tuple(node for node in nodes[-1].all_input_nodes if node in rounded and _is_tensor(node))
        found.append(Block(tuple(nodes[begun:-1]), ends))
    return found


def _is_product(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).endswith("__integer")


def _is_number(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _is_tensor(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()
