"""Trains block after block to give what it gives in float (Li et al. 2021, "BRECQ: pushing the limit of post-training
quantization by block reconstruction", section 3).

A block reads what the blocks before it, quantized and trained already, deliver (Wei et al. 2022, "QDrop", section 3).  It
ends where one value alone goes on, so that what is between residual paths, or bridges two kinds of layers, is one block
(Lee et al. 2024, "Q-HyViT").  No labels are needed: calibration inputs are all that is learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from ...training.loop import progress
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
_DECAYS = (0.9, 0.999)
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
    twins, done = _twins(plan, module), set[nn.Module]()
    found, order = blocks(module), list(plan.module.graph.nodes)
    for number, block in enumerate(found):
        integers.before(block.nodes[0])
        floats.before(max((twins[end] for end in block.ends), key=order.index).next)
        wanted = [[values[twins[end]] for end in block.ends] for values in floats.values]
        parts = [module.get_submodule(str(node.target)) for node in block.nodes if node.op == "call_module"]
        own = [part for part in dict.fromkeys(m for part in parts for m in part.modules()) if part not in done]
        done.update(own)
        before, after = _train(block, integers, wanted, _rates(own), steps)
        progress.info("reconstruction: block %d of %d, error %.3g -> %.3g", number + 1, len(found), before, after)
    return _read(plan, module)


def blocks(module: fx.GraphModule) -> list[Block]:
    """The blocks of a simulated graph that hold products."""
    nodes = list(module.graph.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    last = {node: max((places[user] for user in node.users), default=-1) for node in nodes}
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
    ends = tuple(node for node in nodes[-1].all_input_nodes if node in rounded and _is_tensor(node))
    if products and ends:
        found.append(Block(tuple(nodes[begun:-1]), ends))
    return found


def _is_product(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).endswith("__integer")


def _is_number(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _is_tensor(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _twins(plan: Plan, module: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """By node of the simulated graph, that of the float graph with the same value."""
    results = {f"{product.name}__integer": product.result for product in plan.products}
    nodes = {node.name: node for node in plan.module.graph.nodes}
    names = {
        node: results.get(str(node.target), str(node.target).removesuffix("__grid"))
        if node.op == "call_module"
        else node.name
        for node in module.graph.nodes
    }
    return {node: nodes[name] for node, name in names.items()}


def _rates(own: Sequence[nn.Module]) -> list[tuple[nn.Parameter, Tensor]]:
    """What a block learns, with the highest rates."""
    found = []
    for module in own:
        if isinstance(module, IntegerProduct):
            found.append((module.weight, _WEIGHT_RATE * spread(module.scales().detach().abs(), module.weight)))
            if module.bias is not None:
                found.append((module.bias, torch.tensor(_BIAS_RATE)))
        elif isinstance(module, Scale):
            found.append((module.change, torch.tensor(_SCALE_RATE)))
    return found


def _train(
    block: Block,
    walk: Walk,
    wanted: Sequence[Sequence[Tensor]],
    rates: Sequence[tuple[nn.Parameter, Tensor]],
    steps: int,
) -> tuple[float, float]:
    """Squared error over what is wanted, before and after."""
    parameters, count = [parameter for parameter, _ in rates], len(walk.values)
    held = list(range(_HELD_OUT - 1, count, _HELD_OUT)) or [count - 1]
    learned = [i for i in range(count) if i not in held] or held

    def errors() -> tuple[float, float]:
        with torch.no_grad():
            apart = [float(_apart(block, walk, *pair)) for pair in zip(walk.values, wanted, strict=True)]
        return sum(apart) / count, sum(apart[i] for i in held) / len(held)

    before, kept = errors(), [parameter.detach().clone() for parameter in parameters]
    draw = torch.Generator().manual_seed(0)
    order = (learned[int(i)] for _ in range(steps) for i in torch.randperm(len(learned), generator=draw))
    adam = _Adam(rates)
    for parameter in parameters:
        parameter.requires_grad_()
    for step, i in zip(range(steps), order, strict=False):
        with torch.enable_grad():
            loss = _apart(block, walk, walk.values[i], wanted[i])
            if not loss.requires_grad:
                break
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        if not all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients):
            break
        adam.step(gradients, 0.5 * (1 + math.cos(math.pi * step / steps)))
    for parameter in parameters:
        parameter.requires_grad_(False)
    after = errors()
    if all(new < old for new, old in zip(after, before, strict=True)):
        return before[0], after[0]
    for parameter, value in zip(parameters, kept, strict=True):
        parameter.data.copy_(value)
    return before[0], before[0]


def _apart(block: Block, walk: Walk, values: Values, wanted: Sequence[Tensor]) -> Tensor:
    found = walk.run(block.nodes, values)
    pairs = [(found[end], want) for end, want in zip(block.ends, wanted, strict=True)]
    apart = [(a - b).square().mean() / b.square().mean().clamp(min=1e-30) for a, b in pairs]
    return torch.stack(apart).sum()


class _Adam:
    """Kingma and Ba 2015, "Adam", algorithm 1, with a rate for each number.

    Args:
        rates: Parameters and their highest rates.
    """

    def __init__(self, rates: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
        self._rates = rates
        self._means = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in rates]
        self._steps = 0

    def step(self, gradients: Sequence[Tensor | None], share: float) -> None:
        """One step with this share of the highest rates."""
        self._steps += 1
        for (parameter, rate), (mean, square), gradient in zip(self._rates, self._means, gradients, strict=True):
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - _DECAYS[0])
            square.lerp_(gradient.square(), 1 - _DECAYS[1])
            unbiased = [m / (1 - d**self._steps) for m, d in zip((mean, square), _DECAYS, strict=True)]
            parameter.data.sub_(share * rate * unbiased[0] / (unbiased[1].sqrt() + 1e-12))


def _read(plan: Plan, module: fx.GraphModule) -> Plan:
    """The plan with what a simulated graph learned; the float graph stays what it is."""
    rounded, scales, biases = {}, {}, {}
    for product in plan.products:
        part = module.get_submodule(f"{product.name}__integer")
        assert isinstance(part, IntegerProduct)
        scales[product.name] = part.scales().detach().clone()
        rounded[product.name] = part.integers().detach() * spread(scales[product.name], part.weight.detach())
        if part.bias is not None:
            biases[product.name] = part.bias.detach().clone()
    return replace(plan, grids=grids_in(plan, module), scales=scales, rounded=rounded, biases=biases)
