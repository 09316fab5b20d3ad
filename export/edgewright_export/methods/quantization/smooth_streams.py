"""Moves what makes the results of layers hard to quantize into the weights of the layers behind (the idea of Xiao et al.
2023, "SmoothQuant", section 4, for what layers write and read without a normalization between).

In a network with residual sums all layers that write the sum divide, and all that read it multiply, with the same factors.
Where weights have a scale for each output, those that divide lose nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .calls import Call, run
from .graph import finished, put, tapped, tensor_at, twin
from .grid import integers, spread, weight_scales
from .simulate import OnGridOfRun
from .sites import Product, products
from .streams import Stream, with_inputs_scaled

STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
"""Shares of the differences that go into the weights; the best is chosen."""
_CALLS = 8
"""Calibration inputs on which that is judged."""


@dataclass(frozen=True)
class _Reader:
    """A product that reads a stream.

    Args:
        node: The product.
        weight: Its weights.
        most: The largest integer of these.
        seen: Values that it reads.
    """

    node: fx.Node
    weight: Tensor
    most: int
    seen: Sequence[Tensor]

    def results(self, inputs: Iterable[Tensor], weight: Tensor) -> list[Tensor]:
        """Without bias."""
        operation: Any = self.node.target
        return [operation(x, weight, None, *self.node.args[3:]) for x in inputs]


def smooth_streams(
    module: fx.GraphModule,
    between: Sequence[Stream],
    found: Sequence[Product],
    given: Sequence[Call],
    most: Mapping[str, int],
) -> fx.GraphModule:
    """The graph, which computes the same, with channels in its streams that are more alike.

    Args:
        module: The float graph.
        between: Its streams.
        found: Its products that are quantized.
        given: Calibration inputs.
        most: The largest weight of each product, by its name.
    """
    layers, quantized = {p.name: p for p in products(module)}, {p.name for p in found}
    graph = twin(module)
    made = fx.GraphModule(module, graph)
    nodes = {node.name: node for node in graph.nodes}
    usable = [stream for stream in between if quantized & {*stream.readers}]
    seen = _values(module, {str(nodes[name].args[0]) for stream in usable for name in stream.readers}, given)
    for stream in usable:
        readers = {
            name: _Reader(nodes[name], _tensor(made, nodes[name], 1), most[name], seen[str(nodes[name].args[0])])
            for name in stream.readers
        }
        factor = _best_factor(stream, [readers[name] for name in stream.readers if name in quantized])
        if factor is None:
            continue
        for name, reader in readers.items():
            _put(made, nodes[name], 1, with_inputs_scaled(reader.weight, factor))
        for name in stream.writers:
            weight = _tensor(made, nodes[name], 1)
            _put(made, nodes[name], 1, weight / spread(factor, weight))
            if layers[name].bias is not None:
                _put(made, nodes[name], 2, _tensor(made, nodes[name], 2) / factor)
    return finished(made, graph)


def factor_of(activations: Tensor, weights: Tensor, strength: float) -> Tensor:
    """What channels are divided by, [channels], with 1 as their geometric mean.

    Args:
        activations: The largest magnitude of each channel.
        weights: The largest weight that meets it.
        strength: One of :data:`STRENGTHS`.
    """
    if not strength:
        return torch.ones_like(activations)
    factor = activations.clamp(min=1e-5) ** strength / weights.clamp(min=1e-5) ** (1 - strength)
    return torch.where(activations > 0, factor / factor.log().mean().exp(), torch.ones_like(factor))


def _values(module: fx.GraphModule, names: Iterable[str], given: Sequence[Call]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    watched = tapped(module, names, lambda name, value: found.setdefault(name, []).append(value.detach()))
    run(watched, given[:: -(-len(given) // _CALLS)])
    return found


def _best_factor(stream: Stream, readers: Sequence[_Reader]) -> Tensor | None:
    """What each channel is divided by; None where nothing is better than to leave it."""
    seen = [x.abs().movedim(stream.axis, -1).flatten(0, -2).amax(0) for reader in readers for x in reader.seen]
    largest = torch.stack(seen).amax(0)
    weights = torch.stack([_met(reader.weight, len(largest)) for reader in readers]).amax(0)
    factors = [factor_of(largest, weights, strength) for strength in STRENGTHS]
    errors = [sum(_error(stream, reader, factor) for reader in readers) for factor in factors]
    best = min(range(len(errors)), key=errors.__getitem__)
    return None if best == 0 else factors[best]


def _met(weight: Tensor, channels: int) -> Tensor:
    """The largest weight that meets each channel."""
    groups = channels // weight.shape[1]
    return weight.view(groups, len(weight) // groups, weight.shape[1], -1).abs().amax((1, 3)).flatten()


def _error(stream: Stream, reader: _Reader, factor: Tensor) -> float:
    """Squared error of the results, with quantized values and weights, over what they are in float."""
    weight = with_inputs_scaled(reader.weight, factor)
    scales = weight_scales(weight, reader.most)
    rounded = integers(weight, scales, reader.most) * spread(scales, weight)
    own = [OnGridOfRun(rows=False)(x / factor.view(-1, *[1] * (x.dim() - stream.axis - 1))) for x in reader.seen]
    pairs = list(zip(reader.results(own, rounded), reader.results(reader.seen, reader.weight), strict=True))
    apart = sum(float((found - wanted).square().sum()) for found, wanted in pairs)
    return apart / max(sum(float(wanted.square().sum()) for _, wanted in pairs), 1e-30)


def _tensor(made: fx.GraphModule, node: fx.Node, position: int) -> Tensor:
    source = node.args[position]
    assert isinstance(source, fx.Node)
    return tensor_at(made, str(source.target)).detach()


def _put(made: fx.GraphModule, node: fx.Node, position: int, value: Tensor) -> None:
    name = put(made, f"{node.name}_stream_{position}", value)
    with made.graph.inserting_before(node):
        node.update_arg(position, made.graph.get_attr(name))
