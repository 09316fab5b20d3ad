"""Layer after layer, the weights that stay make up for zeros: those of their own layer, and those of all before.

Each layer is given what the sparse layers before deliver, and solved to give what the dense one gives with what it is given
(Frantar and Alistarh 2022, "Optimal brain compression", section 5, take the inputs of the sparse model so).  What inputs do not
tell, as where they are fewer than a layer's weights, stays what it was.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from edgewright_runtime.quiet import quiet

from ...training.loop import progress
from ..quantization.calls import Call
from ..quantization.compensate import damped
from ..quantization.graph import tensor_at
from ..quantization.sites import Product
from ..quantization.walk import Walk, together
from .importance import Moments, moments, offset, values_of

_MOST_STEPS = 100
_EXACT = 1e-8
"""Square of what may be left of the gradient, over what it was."""


def made_up(
    graph: fx.GraphModule, found: Sequence[Product], kept: Mapping[str, Tensor], given: Sequence[Call]
) -> dict[str, Tensor]:
    """What replaces weights, and biases or means of batch norms, by qualified name.

    Args:
        graph: The dense graph, which stays what it is.
        found: The layers in the order in which they run.
        kept: By the name of weights, which stay.
        given: Calibration inputs.
    """
    with quiet():
        sparse = copy.deepcopy(graph)
    twins = {node.name: twin for node, twin in zip(graph.graph.nodes, sparse.graph.nodes, strict=True)}
    nodes = {node.name: node for node in graph.graph.nodes}
    inputs = together(graph, given)
    theirs, ours = Walk(graph, inputs), Walk(sparse, inputs)
    made: dict[str, Tensor] = {}
    for number, product in enumerate(found):
        node, twin = nodes[product.name], twins[product.name]
        theirs.before(node)
        ours.before(twin)
        seen = moments(node, tensor_at(graph, product.weight), values_of(theirs, node), values_of(ours, twin))
        new = solved(graph, product, node, kept[product.weight], seen)
        write(sparse, new)
        made |= new
        progress.info("sparsity: layer %d of %d", number + 1, len(found))
    return made


def write(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Puts values in the place of parameters and buffers."""
    with torch.no_grad():
        for name, value in values.items():
            tensor_at(module, name).data.copy_(value)


def solved(graph: fx.GraphModule, product: Product, node: fx.Node, kept: Tensor, seen: Moments) -> dict[str, Tensor]:
    """Weights of a layer, and what takes the difference of the means, where there is something.

    Args:
        graph: The dense graph.
        product: The layer.
        node: It, in the graph.
        kept: Which weights stay.
        seen: What it multiplies.
    """
    weight, moved = tensor_at(graph, product.weight).detach(), offset(graph, product, node)
    rows, mask = weight.flatten(1).double(), kept.flatten(1)
    used = seen if moved is None else seen.around_means()
    normal = damped(used.squares)
    new = solve(rows * mask, rows @ (used.cross + normal - used.squares), normal, mask)
    found = {product.weight: new.view(weight.shape).float()}
    if moved is not None:
        name, sign = moved
        found[name] = (tensor_at(graph, name).detach().double() + sign * (rows @ seen.d - new @ seen.x)).float()
    return found


def solve(start: Tensor, wanted: Tensor, normal: Tensor, mask: Tensor) -> Tensor:
    """Rows r, zero outside of the mask, with ``r normal`` nearest to what is wanted, in the norm of its inverse.

    Conjugate gradients for all rows at once (Hestenes and Stiefel 1952), preconditioned with the diagonal; each step is
    nearer, so it does not matter much where they end.  A row stops where inputs tell nothing.

    Args:
        start: [rows, inputs], float64, zero outside of the mask.
        wanted: [rows, inputs].
        normal: [inputs, inputs], positive semidefinite.
        mask: [rows, inputs], bool.
    """
    found = start
    left = (wanted - found @ normal) * mask
    sizes = normal.diagonal().clamp(min=1e-300)
    way = scaled = left / sizes
    energy = first = (left * scaled).sum(1, keepdim=True)
    for _ in range(_MOST_STEPS):
        if bool((energy <= _EXACT * first).all()):
            break
        change = way @ normal * mask
        bend = (way * change).sum(1, keepdim=True)
        part = torch.where(bend > 0, energy / bend, 0.0)
        found, left = found + part * way, left - part * change
        scaled = left / sizes
        before, energy = energy, (left * scaled).sum(1, keepdim=True)
        way = scaled + energy / before.clamp(min=1e-300) * way
    return found
