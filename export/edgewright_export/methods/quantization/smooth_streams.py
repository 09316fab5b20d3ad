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
from .factors import best_factor
from .graph import finished, put, tapped, tensor_at, twin
from .grid import integers, spread, weight_scales
from .simulate import OnGridOfRun
from .sites import Product, products
from .streams import Stream, largest_met, with_inputs_scaled

_CALLS = 8
"""Calibration inputs on which factors are judged."""


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


def _values(module: fx.GraphModule, names: Iterable[str], given: Sequence[Call]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    watched = tapped(module, names, lambda name, value: found.setdefault(name, []).append(value.detach()))
    run(watched, given[:: -(-len(given) // _CALLS)])
    return found


def _best_factor(stream: Stream, readers: Sequence[_Reader]) -> Tensor | None:
    """What each channel is divided by; None where nothing is better than to leave it."""
    seen = [x.abs().movedim(stream.axis, -1).flatten(0, -2).amax(0) for reader in readers for x in reader.seen]
    largest = torch.stack(seen).amax(0)
    weights = torch.stack([largest_met(reader.weight, len(largest)) for reader in readers]).amax(0)
    return best_factor(largest, weights, lambda factor: sum(_error(stream, reader, factor) for reader in readers))


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
