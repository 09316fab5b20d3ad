"""Layer after layer, the weights that stay make up for zeros: those of their own layer, and those of all before.

Each layer is given what the sparse layers before deliver, and solved to give what the dense one gives with what it is given
(Frantar and Alistarh 2022, "Optimal brain compression", section 5, take the inputs of the sparse model so).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edgewright_runtime.quiet import quiet

from ...training.loop import progress
from ..quantization.calls import Call
from ..quantization.columns import columns
from ..quantization.compensate import damped
from ..quantization.graph import factor_behind, tensor_at
from ..quantization.sites import Product
from ..quantization.walk import Walk, together
from .importance import PLACES

_MOST_STEPS = 100
_EXACT = 1e-8
"""Square of what may be left of the gradient, over what it was."""


def made_up(
    graph: fx.GraphModule, found: Sequence[Product], kept: Mapping[str, Tensor], given: Sequence[Call]
) -> dict[str, Tensor]:
    """New weights, and new biases or means of batch norms, by qualified name.

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
        weight = tensor_at(graph, product.weight).detach()
        moments = _moments(node, weight, _values(theirs, node), _values(ours, twin))
        new = _solved(graph, product, node, kept[product.weight], moments)
        write(sparse, new)
        made |= new
        progress.info("sparsity: layer %d of %d", number + 1, len(found))
    return made


def write(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Puts values in the place of parameters and buffers."""
    with torch.no_grad():
        for name, value in values.items():
            tensor_at(module, name).data.copy_(value)


def _values(walk: Walk, node: fx.Node) -> list[Tensor]:
    return [values[node.args[0]] for values in walk.values]  # type: ignore[index]


@dataclass(frozen=True)
class _Moments:
    """Of what an output multiplies: x in the sparse graph, d in the dense one.

    Args:
        squares: Mean of x x', [inputs, inputs], float64.
        cross: Mean of d x'.
        x: Mean of x, [inputs].
        d: Mean of d.
    """

    squares: Tensor
    cross: Tensor
    x: Tensor
    d: Tensor

    def around_means(self) -> _Moments:
        """Of the same without the means."""
        return _Moments(
            self.squares - self.x.outer(self.x), self.cross - self.d.outer(self.x), torch.zeros_like(self.x), torch.zeros_like(self.d)
        )


def _moments(node: fx.Node, weight: Tensor, dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> _Moments:
    count, sums = 0, [torch.zeros(())] * 4
    for theirs, ours in zip(dense, sparse, strict=True):
        d, x = (columns(node, weight, value, PLACES)[0] for value in (theirs, ours))
        own = (x @ x.mT, d @ x.mT, x.sum(1), d.sum(1))
        sums = [total + one.double() for total, one in zip(sums, own, strict=True)]
        count += x.shape[1]
    return _Moments(*(total / max(1, count) for total in sums))


def _solved(graph: fx.GraphModule, product: Product, node: fx.Node, kept: Tensor, moments: _Moments) -> dict[str, Tensor]:
    """Weights, and what takes the difference of the means, where there is something."""
    weight = tensor_at(graph, product.weight).detach()
    rows, mask = weight.flatten(1).double(), kept.flatten(1)
    offset = _offset(graph, product, node)
    used = moments if offset is None else moments.around_means()
    new = solve(rows * mask, rows @ used.cross, damped(used.squares), mask)
    found = {product.weight: new.view(weight.shape).float()}
    if offset is not None:
        name, sign = offset
        missing = rows @ moments.d - new @ moments.x
        found[name] = (tensor_at(graph, name).detach().double() + sign * missing).float()
    return found


def _offset(graph: fx.GraphModule, product: Product, node: fx.Node) -> tuple[str, float] | None:
    """What is added to results, and with which sign: the bias, or the mean of a batch norm behind."""
    if product.bias is not None:
        return product.bias, 1.0
    if factor_behind(graph, node) is None:
        return None
    (norm,) = node.users
    return str(norm.args[3].target), -1.0  # type: ignore[union-attr]


def solve(start: Tensor, wanted: Tensor, normal: Tensor, mask: Tensor) -> Tensor:
    """Rows r, zero outside of the mask, with ``r normal`` nearest to what is wanted, in the norm of its inverse.

    Conjugate gradients for all rows at once (Hestenes and Stiefel 1952), preconditioned with the diagonal; each step is
    nearer, so it does not matter much where they end.

    Args:
        start: [rows, inputs], float64, zero outside of the mask.
        wanted: [rows, inputs].
        normal: [inputs, inputs], positive definite.
        mask: [rows, inputs], bool.
    """
    found = start
    left = (wanted - found @ normal) * mask
    way = scaled = left / normal.diagonal()
    energy = first = (left * scaled).sum(1, keepdim=True)
    for _ in range(_MOST_STEPS):
        if bool((energy <= _EXACT * first).all()):
            break
        change = way @ normal * mask
        part = energy / (way * change).sum(1, keepdim=True).clamp(min=1e-300)
        found, left = found + part * way, left - part * change
        scaled = left / normal.diagonal()
        before, energy = energy, (left * scaled).sum(1, keepdim=True)
        way = scaled + energy / before.clamp(min=1e-300) * way
    return found
