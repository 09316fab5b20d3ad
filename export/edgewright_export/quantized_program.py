"""The quantized program, as targets read it; ``targets/QUANTIZED.md`` says what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed

from device_profiles import Finding

from . import place

aten, decomposed = torch.ops.aten, torch.ops.quantized_decomposed
QUANTIZE, DEQUANTIZE = decomposed.quantize_per_tensor.default, decomposed.dequantize_per_tensor.default
DYNAMIC = decomposed.dequantize_per_tensor.tensor, decomposed.dequantize_per_token.default
EMBEDDING, RECURRENT = aten.embedding.default, (aten.gru.input, aten.lstm.input)
CHANNELS, GROUPS = decomposed.dequantize_per_channel.default, decomposed.dequantize_per_channel_group.default
_ON_SAME_GRID = (
    aten.reshape.default, aten.view.default, aten.permute.default, aten.transpose.int, aten.flatten.using_ints,
    aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default, aten.slice.Tensor,
    aten.select.int, aten.constant_pad_nd.default, aten.pad.default, aten.contiguous.default, aten.clone.default,
    aten.dropout.default,
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A convolution or linear layer whose weight is dequantized.

    Args:
        node: The layer.
        weight: Its dequantization.
        activations: ``static``, ``dynamic`` or ``float``.
    """

    node: torch.fx.Node
    weight: torch.fx.Node
    activations: str

    @property
    def bits(self) -> int:
        """Of a weight."""
        last: Any = self.weight.args[4 if self.group else 5]
        return int(last).bit_length() + 1

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear layer, not a convolution."""
        return self.node.target is aten.linear.default

    @property
    def group(self) -> int:
        """Weights of one scale where there are several in a channel, else 0."""
        size: Any = self.weight.args[6] if self.weight.target is GROUPS else 0
        return int(size)


def products(graph: torch.fx.Graph) -> Iterator[Product]:
    """All layers with dequantized weights, in their order."""
    for node in graph.nodes:
        weight = node.args[1] if node.op == "call_function" and len(node.args) > 1 else None
        if isinstance(weight, torch.fx.Node) and weight.target in (CHANNELS, GROUPS):
            yield Product(node, weight, _activations(node.args[0]))


def _activations(node: torch.fx.Node) -> str:
    while node.target in _ON_SAME_GRID:
        node = node.all_input_nodes[0]
    if node.target is DEQUANTIZE:
        return "static"
    return "dynamic" if node.target in DYNAMIC else "float"


def is_quantized(graph: torch.fx.Graph) -> bool:
    """Whether a graph holds any operation of a quantized program."""
    return any(getattr(node.target, "namespace", "") == "quantized_decomposed" for node in graph.nodes)


def tables(program: torch.export.ExportedProgram) -> Iterator[tuple[torch.fx.Node, torch.Tensor]]:
    """All embeddings that look up integers, with their tables, [rows, columns]."""
    names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    for node in program.graph.find_nodes(op="call_function", target=EMBEDDING):
        value = program.state_dict.get(names.get(node.args[0].name, ""))
        if value is not None and value.dtype == torch.int8:
            yield node, value


def unfit(
    graph: torch.fx.Graph,
    refused: Callable[[Product], tuple[str, str] | None],
    recurrent: tuple[str, str] | None = None,
) -> list[Finding]:
    """Places of a quantized graph that a target cannot write.

    Args:
        graph: Captured.
        refused: Says for a layer why the target does not take it and what helps, None where it does.
        recurrent: Likewise of recurrent layers.
    """
    found = []
    layers = {product.node: product for product in products(graph)}
    for node in graph.nodes:
        if node in layers:
            given = refused(layers[node])
        elif node.target in RECURRENT and any(argument.target is CHANNELS for argument in node.all_input_nodes):
            given = recurrent
        elif any(argument.target in (CHANNELS, GROUPS) for argument in node.all_input_nodes):
            given = (
                "it takes integer weights, which here only linear layers and convolutions do",
                "keep it in float32",
            )
        elif node.target is QUANTIZE and tuple(node.args[3:5]) != (-128, 127):
            bits = (int(node.args[4]) - int(node.args[3])).bit_length()
            given = (f"its activations have {bits} bits; the engine has kernels for 8", "8 bits for activations")
        else:
            given = None
        if given is not None:
            found.append(place.finding(node, *given))
    return found
