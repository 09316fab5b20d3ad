"""What it costs to make a weight zero.

Frantar and Alistarh 2023, "SparseGPT: massive language models can be accurately pruned in one-shot", section 3, after Hassibi
and Stork 1992, "Second order derivatives for network pruning: optimal brain surgeon": what counts is the layer's result on
calibration inputs, whose second derivative by the weights of an output is the inputs' covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..quantization.calls import Call
from ..quantization.columns import columns
from ..quantization.compensate import damped
from ..quantization.graph import factor_behind, tensor_at
from ..quantization.sites import Product
from ..quantization.walk import Walk, together

_PLACES = 1024
"""Places of one sample at which it is looked at what a layer multiplies."""


@dataclass(frozen=True)
class Moments:
    """Means over what an output multiplies: x where it is sparse, d in the dense model.

    Args:
        squares: Of x x', [inputs, inputs], float64.
        cross: Of d x'.
        x: Of x, [inputs].
        d: Of d.
    """

    squares: Tensor
    cross: Tensor
    x: Tensor
    d: Tensor

    def around_means(self) -> Moments:
        """Of the same, each less its mean."""
        zero = torch.zeros_like(self.x)
        return Moments(self.squares - self.x.outer(self.x), self.cross - self.d.outer(self.x), zero, zero)


def moments(node: fx.Node, weight: Tensor, dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> Moments:
    """Of a layer.

    Args:
        node: It.
        weight: Its weights.
        dense: What it reads in the dense model, of each run.
        sparse: What it reads in the sparse one.
    """
    count, sums = 0, [torch.zeros(())] * 4
    for theirs, ours in zip(dense, sparse, strict=True):
        d = columns(node, weight, theirs, _PLACES)[0].double()
        x = d if ours is theirs else columns(node, weight, ours, _PLACES)[0].double()
        own = (x @ x.mT, d @ x.mT, x.sum(1), d.sum(1))
        sums = [total + one for total, one in zip(sums, own, strict=True)]
        count += x.shape[1]
    return Moments(*(total / max(1, count) for total in sums))


def offset(graph: fx.GraphModule, product: Product, node: fx.Node) -> tuple[str, float] | None:
    """What takes a difference of means, and with which sign: the bias, or the mean of a batch norm behind; None: nothing."""
    if product.bias is not None:
        return product.bias, 1.0
    if factor_behind(graph, node) is None:
        return None
    (norm,) = node.users
    return str(norm.args[3].target), -1.0  # type: ignore[union-attr]


def looked_at(graph: fx.GraphModule, found: Sequence[Product], given: Sequence[Call]) -> dict[str, Tensor]:
    """By the name of weights, what the square of each costs when it becomes zero and the others make up for it.

    Args:
        graph: The float graph.
        found: The layers in the order in which they run.
        given: Calibration inputs.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    walk, known = Walk(graph, together(graph, given)), {}
    for product in found:
        node, weight = nodes[product.name], tensor_at(graph, product.weight).detach()
        walk.before(node)
        values = values_of(walk, node)
        own = moments(node, weight, values, values)
        squares = own.squares if offset(graph, product, node) is None else own.around_means().squares
        known[product.weight] = _curvature(weight, squares, factor_behind(graph, node))
    return known


def values_of(walk: Walk, node: fx.Node) -> list[Tensor]:
    """What a layer reads in each run."""
    return [values[node.args[0]] for values in walk.values]  # type: ignore[index]


def _curvature(weight: Tensor, squares: Tensor, factor: Tensor | None) -> Tensor:
    """Shaped like weights; a factor behind counts with its square."""
    scale = torch.ones(len(weight), 1).double() if factor is None else factor.square()[:, None]
    found = scale / torch.cholesky_inverse(torch.linalg.cholesky(damped(squares))).diagonal()
    return found.expand(len(weight), weight[0].numel()).reshape(weight.shape).float()
