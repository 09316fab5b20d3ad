"""Which layers become sparse, and why the others do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import fx

from ..by_name import is_named
from ..quantization.graph import aten, tensor_at
from ..quantization.sites import Product, products
from .pattern import Pattern

_LEAST_INPUTS = 16
"""Channels below which a kernel has nothing to leave out, as in the first convolution of an image; such layers become sparse
only where ``only`` names them."""


@dataclass(frozen=True)
class Choice:
    """What the user says of which weights become zero.

    Args:
        pattern: Has to divide the weights of a layer.
        only: Names and patterns of modules, empty: all.
        exclude: Names and patterns of modules that stay dense.
    """

    pattern: Pattern
    only: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The convolutions and linear layers of a graph.

    Args:
        all: In the order in which they run.
        dense: By the name of those that stay dense, why.
    """

    all: tuple[Product, ...]
    dense: Mapping[str, str]

    @property
    def sparse(self) -> tuple[Product, ...]:
        """Those that become sparse, each weight once, where it is first multiplied."""
        found: dict[str, Product] = {}
        for product in self.all:
            if product.name not in self.dense:
                found.setdefault(product.weight, product)
        return tuple(found.values())


def layers(graph: fx.GraphModule, parameters: Collection[str], choice: Choice) -> Layers:
    """Finds them.

    Args:
        graph: The float graph, with the weights of the user's model.
        parameters: Qualified names of the model's parameters.
        choice: What the user says.
    """
    found, shared = products(graph), _read_elsewhere(graph)
    nodes = {node.name: node for node in graph.graph.nodes}

    def why(product: Product) -> str | None:
        weight = tensor_at(graph, product.weight)
        rules = (
            (is_named(product.path, choice.exclude), "excluded"),
            (choice.only and not is_named(product.path, choice.only), "not among only"),
            (product.weight not in parameters, "its weights are no parameter"),
            (_is_grouped(nodes[product.name]), "its channels are in groups"),
            (weight.data_ptr() in shared, "its weights are read by something else too"),
            (weight.shape[1] < _LEAST_INPUTS and not choice.only, f"fewer than {_LEAST_INPUTS} inputs"),
        )
        return next((text for holds, text in rules if holds), choice.pattern.misfit(weight))

    reasons = {product.name: why(product) for product in found}
    return Layers(found, {name: text for name, text in reasons.items() if text is not None})


def _is_grouped(node: fx.Node) -> bool:
    return node.target is not aten.linear.default and node.args[6:7] not in ((), (1,))


def _read_elsewhere(graph: fx.GraphModule) -> set[int]:
    """Where the tensors lie that other operations than convolutions and linear layers read."""
    names = {product.name for product in products(graph)}
    found = [node for node in graph.graph.nodes if node.op == "get_attr"]
    others = [node for node in found if any(user.name not in names for user in node.users)]
    return {tensor_at(graph, str(node.target)).data_ptr() for node in others}
