"""Makes the channels between two layers alike (Nagel et al. 2019, "Data-free quantization through weight equalization and
bias correction", section 4.1).

What follows a layer scales with it where it is without limit, as ReLU is: each output is divided by a factor, and the
weights of the next layer that meet it are multiplied with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from .graph import finished, put, tensor_at, twin
from .sites import Product
from .streams import largest_met, streams, with_inputs_scaled

_ROUNDS = 40
_LITTLE = 0.01
"""A round is the last if the logarithms of its factors are no more than this."""
_MOST = 16.0
"""A channel is moved by no more than this, else a bias would grow to be the largest value of a layer whose weights for it
are next to nothing."""


Pair = tuple[str, str]
"""Two products, the second of which alone reads the result of the first: its inputs are multiplied, outputs of the first
divided; nodes by their names."""


def equalized(module: fx.GraphModule, found: Sequence[Product]) -> fx.GraphModule:
    """The graph, which computes the same, with weights whose channels are more alike.

    Args:
        module: The float graph.
        found: Its products that are quantized.
    """
    pairs = pairs_in(module, found)
    weights = {p.name: tensor_at(module, p.weight).detach().double() for p in found}
    biases = {p.name: tensor_at(module, p.bias).detach().double() for p in found if p.bias is not None}
    moved = {pair: torch.ones(len(weights[pair[0]]), dtype=torch.float64) for pair in pairs}
    for _ in range(_ROUNDS):
        if max((_equalize(pair, weights, biases, moved) for pair in pairs), default=0.0) <= _LITTLE:
            break
    graph = twin(module)
    made = fx.GraphModule(module, graph)
    nodes = {node.name: node for node in graph.nodes}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        _put(made, nodes[name], 1, f"{name}_equal", weights[name])
        if name in biases:
            _put(made, nodes[name], 2, f"{name}_equal_bias", biases[name])
    return finished(made, graph)


def _equalize(pair: Pair, weights: dict[str, Tensor], biases: dict[str, Tensor], moved: Mapping[Pair, Tensor]) -> float:
    """One round for one pair; the logarithm of the factor farthest from 1."""
    writer, reader = pair
    first, second = weights[writer], weights[reader]
    factor = (first.flatten(1).abs().amax(1) / largest_met(second, len(first))).sqrt()
    usable = factor.isfinite() & (factor > 0)
    wanted = (moved[pair] * torch.where(usable, factor, torch.ones_like(factor))).clamp(1 / _MOST, _MOST)
    factor = wanted / moved[pair]
    moved[pair].copy_(wanted)
    weights[writer] = first / factor.view(-1, *[1] * (first.dim() - 1))
    if writer in biases:
        biases[writer] = biases[writer] / factor
    weights[reader] = with_inputs_scaled(second, factor)
    return float(factor.log().abs().max())


def _put(made: fx.GraphModule, node: fx.Node, position: int, name: str, value: Tensor) -> None:
    with made.graph.inserting_before(node):
        node.update_arg(position, made.graph.get_attr(put(made, name, value.float())))


def pairs_in(module: fx.GraphModule, found: Sequence[Product]) -> tuple[Pair, ...]:
    """Those of these products that follow each other so that channels can be scaled between them."""
    between = (stream for stream in streams(module, found) if len(stream.writers) == len(stream.readers) == 1)
    return tuple((stream.writers[0], stream.readers[0]) for stream in between)
