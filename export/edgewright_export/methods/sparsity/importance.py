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

from ..quantization.calls import Call, run
from ..quantization.columns import columns
from ..quantization.compensate import damped
from ..quantization.graph import factor_behind, tapped, tensor_at
from ..quantization.sites import Product

PLACES = 1024
"""Places of one sample at which it is looked at what a layer multiplies."""


@dataclass(frozen=True)
class Second:
    """What is known of a layer.

    Args:
        curvature: By weight, what its square costs when it becomes zero and the others make up for it; shaped like weights.
        cost: By weight, what itself costs.
        energy: Squares of all results, for the same inputs.
    """

    curvature: Tensor
    cost: Tensor
    energy: float


def looked_at(graph: fx.GraphModule, found: Sequence[Product], given: Sequence[Call]) -> dict[str, Second]:
    """What is known of layers, by the name of their weights.

    Args:
        graph: The float graph.
        found: The layers.
        given: Calibration inputs.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    sums: dict[str, Tensor] = {}
    readers: dict[str, list[Product]] = {}
    for product in found:
        readers.setdefault(nodes[product.name].args[0].name, []).append(product)

    def add(name: str, value: Tensor) -> None:
        for product in readers[name]:
            rows = columns(nodes[product.name], tensor_at(graph, product.weight), value.detach(), PLACES)[0]
            own = (rows @ rows.mT).double()
            sums[product.weight] = sums[product.weight] + own if product.weight in sums else own

    run(tapped(graph, set(readers), add), given)
    return {p.weight: _second(graph, p, nodes[p.name], sums[p.weight]) for p in found}


def _second(graph: fx.GraphModule, product: Product, node: fx.Node, covariance: Tensor) -> Second:
    weight = tensor_at(graph, product.weight).detach()
    factor = factor_behind(graph, node)
    rows = weight.flatten(1).double()
    squares = torch.ones(len(rows), 1).double() if factor is None else factor.square()[:, None]
    curvature = squares / torch.cholesky_inverse(torch.linalg.cholesky(damped(covariance))).diagonal()
    energy = float(((rows @ covariance) * rows * squares).sum())
    curvature = curvature.expand_as(rows).reshape(weight.shape).float()
    return Second(curvature, weight.square() * curvature, max(energy, 1e-30))
