"""Moves what makes activations hard to quantize into weights (Xiao et al. 2023, "SmoothQuant", section 4).

Some channels of a transformer's activations are far larger than the others and take most of the steps of a common grid.
Each channel of the input of a linear layer is divided by a factor, and the weights that meet it are multiplied with it.
What other layers write and nothing normalizes is left to ``smooth_streams.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx

from .calls import Call, run
from .factors import best_factor
from .graph import finished, put, tapped, tensor_at, twin
from .grid import integers, weight_scales
from .simulate import OnGridOfRun
from .sites import Product, products
from .smooth_streams import smooth_streams
from .streams import streams

aten = torch.ops.aten
_ROWS = 256
"""Rows of an input on which that is judged."""
_NORMS = (aten.layer_norm.default, aten.rms_norm.default)


def smoothed(
    module: fx.GraphModule,
    found: Sequence[Product],
    given: Sequence[Call],
    most: Mapping[str, int],
    *,
    per_channel: bool = True,
) -> fx.GraphModule:
    """The graph, which computes the same, with smoother inputs of its layers.

    Args:
        module: The float graph.
        found: Its products that are quantized.
        given: Calibration inputs.
        most: The largest weight of each product, by its name.
        per_channel: Whether weights have a scale for each output; else what layers write stays as it is.
    """
    between = streams(module, products(module)) if per_channel else ()
    done = {name for stream in between for name in stream.readers}
    linear = [p for p in found if tensor_at(module, p.weight).dim() == 2 and p.name not in done]
    return _smooth_inputs(smooth_streams(module, between, found, given, most), linear, given, most)


def _smooth_inputs(
    module: fx.GraphModule, found: Sequence[Product], given: Sequence[Call], most: Mapping[str, int]
) -> fx.GraphModule:
    graph = twin(module)
    made = fx.GraphModule(module, graph)
    readers: dict[str, list[Product]] = {}
    for product in found:
        readers.setdefault(product.x, []).append(product)
    seen = _rows(module, readers, given)
    nodes = {node.name: node for node in graph.nodes}
    for name, several in readers.items():
        weights = [tensor_at(module, p.weight).detach() for p in several]
        largest = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
        error = functools.partial(_error, seen[name], weights, [most[p.name] for p in several])
        factor = best_factor(seen[name].abs().amax(0), largest, error)
        if factor is not None:
            _multiply_weights(made, nodes, several, factor)
            _divide(made, nodes[name], [nodes[p.name] for p in several], factor)
    return finished(made, graph)


def _rows(module: fx.GraphModule, names: Iterable[str], given: Sequence[Call]) -> dict[str, Tensor]:
    """Rows of values, drawn evenly from all inputs, [rows, channels]."""
    rows: dict[str, list[Tensor]] = {}
    draw = torch.Generator().manual_seed(0)
    share = -(-_ROWS // len(given))

    def look(name: str, value: Tensor) -> None:
        flat = value.detach().flatten(0, -2)
        rows.setdefault(name, []).append(flat[torch.randint(len(flat), (share,), generator=draw)])

    run(tapped(module, names, look), given)
    return {name: torch.cat(parts) for name, parts in rows.items()}


def _error(x: Tensor, weights: Sequence[Tensor], most: Sequence[int], factor: Tensor) -> float:
    """Squared error of the products with quantized rows and weights."""
    divided = OnGridOfRun(rows=False)(x / factor)
    error = 0.0
    for weight, end in zip(weights, most, strict=True):
        scales = weight_scales(weight * factor, end)
        rounded = integers(weight * factor, scales, end) * scales[:, None]
        error += float((divided @ rounded.T - x @ weight.T).square().sum())
    return error


def _multiply_weights(
    made: fx.GraphModule, nodes: dict[str, fx.Node], products: Sequence[Product], factor: Tensor
) -> None:
    for product in products:
        name = put(made, f"{product.name}_smooth", tensor_at(made, product.weight).detach() * factor)
        node = nodes[product.name]
        with made.graph.inserting_before(node):
            node.update_arg(1, made.graph.get_attr(name))


def _divide(made: fx.GraphModule, x: fx.Node, readers: Sequence[fx.Node], factor: Tensor) -> None:
    """In the normalization that makes the value, if nobody else reads it, else by one more operation."""
    place = _scale_of(x)
    if place is not None and set(x.users) == set(readers):
        for position in place:
            argument = x.args[position]
            assert isinstance(argument, fx.Node)
            name = put(made, f"{x.name}_smooth_{position}", tensor_at(made, str(argument.target)).detach() / factor)
            with made.graph.inserting_before(x):
                x.update_arg(position, made.graph.get_attr(name))
        return
    with made.graph.inserting_after(x):
        divided = made.graph.call_function(aten.mul.Tensor, (x, x))
    divided.meta = dict(x.meta)
    with made.graph.inserting_before(divided):
        divided.args = (x, made.graph.get_attr(put(made, f"{x.name}_smooth", 1 / factor)))
    for reader in readers:
        reader.replace_input_with(x, divided)


def _scale_of(node: fx.Node) -> tuple[int, ...] | None:
    """Places of weight and bias in the arguments of a normalization over the last axis; None: it is none."""
    if node.target not in _NORMS or len(list(node.args[1])) != 1:  # type: ignore[arg-type]
        return None
    given = [i for i in (2, 3) if node.target is aten.layer_norm.default or i == 2]
    places = tuple(i for i in given if i < len(node.args) and isinstance(node.args[i], fx.Node))
    constant = all(node.args[i].op == "get_attr" for i in places)  # type: ignore[union-attr]
    return places if 2 in places and constant else None
