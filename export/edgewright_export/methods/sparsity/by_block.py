"""Block after block of a sparse graph learns to give what it gives in the dense one, as PTQ's blocks do (``reconstruct.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, fx, nn

from ...training.loop import progress
from ..quantization.calls import Call
from ..quantization.graph import aten, tensor_at
from ..quantization.reconstruct import Block, blocks, train
from ..quantization.sites import Product
from ..quantization.walk import Walk, together

_RATE = 0.01
"""Highest learning rate, over the root of the mean square of what is learned."""
_LEAST_RATE = 1e-4
_LEARNS = (aten.conv1d.default, aten.conv2d.default, aten.linear.default, aten.batch_norm.default, aten.layer_norm.default)


def taught(
    graph: fx.GraphModule,
    sparse: fx.GraphModule,
    found: Sequence[Product],
    kept: Mapping[str, Tensor],
    given: Sequence[Call],
    steps: int,
) -> dict[str, Tensor]:
    """Trains the parameters of a sparse graph in place; a block that training made worse stays what it was.

    Args:
        graph: The dense graph.
        sparse: The same with zeros.
        found: The layers that have them.
        kept: By the name of weights, which stay.
        given: Calibration inputs.
        steps: Of each block.

    Returns:
        All that was trained, by qualified name.
    """
    made: dict[str, Tensor] = {}
    inputs, names = together(graph, given), {product.name for product in found}
    floats, ours = Walk(graph, inputs), Walk(sparse, inputs)
    order = list(graph.graph.nodes)
    places = {node: place for place, node in enumerate(sparse.graph.nodes)}
    own = {node for node in places if order[places[node]].name in names}
    parts = blocks(sparse, own.__contains__, own.__contains__)
    for number, block in enumerate(parts):
        ours.before(block.nodes[0])
        ends = [places[end] for end in block.ends]
        floats.before(order[max(ends) + 1])
        wanted = [[values[order[end]] for end in ends] for values in floats.values]
        rates = _rates(sparse, block, kept)
        before, after = train(block, ours, wanted, list(rates.values()), steps)
        made |= {name: parameter.detach() for name, (parameter, _) in rates.items()}
        progress.info("sparsity: block %d of %d, error %.3g -> %.3g", number + 1, len(parts), before, after)
    return made


def _rates(
    sparse: fx.GraphModule, block: Block, kept: Mapping[str, Tensor]
) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """What a block learns, by name: weights, biases, and what norms multiply with and add."""
    readers = [node for node in block.nodes if node.target in _LEARNS]
    names = dict.fromkeys(str(n.target) for node in readers for n in node.all_input_nodes if n.op == "get_attr")
    found = {}
    for name in names:
        tensor = tensor_at(sparse, name)
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
            rate = (_RATE * tensor.detach().square().mean().sqrt()).clamp(min=_LEAST_RATE)
            found[name] = tensor, rate * kept[name] if name in kept else rate
    return found
