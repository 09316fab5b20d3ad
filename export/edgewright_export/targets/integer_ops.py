"""Linear layers whose input is quantized in each run, as two operations that ONNX can say.

Captured graphs say it with seven: the extremes, both ways through the grid, weights made float, a float product.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, fx

aten, decomposed = torch.ops.aten, torch.ops.quantized_decomposed


@torch.library.custom_op("edgewright::dynamic_quantize", mutates_args=())
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` as u8, its scale and its zero point, for the graph alone: nobody runs it."""
    raise NotImplementedError


@torch.library.custom_op("edgewright::integer_linear", mutates_args=())
def integer_linear(
    q: Tensor, scale: Tensor, zero: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None
) -> Tensor:
    """A linear layer of u8 rows and s8 weights [outputs, inputs] with a scale for each output, for the graph alone."""
    raise NotImplementedError


@dynamic_quantize.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.uint8), x.new_empty(()), x.new_empty((), dtype=torch.uint8)


@integer_linear.register_fake
def _(q: Tensor, scale: Tensor, zero: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    return q.new_empty((*q.shape[:-1], weight.shape[0]), dtype=torch.float32)


def run(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Writes every such layer of a program with the two operations."""
    nodes = [node for node in program.graph.nodes if _is_dynamic(node)]
    quantized: dict[fx.Node, list[fx.Node]] = {}
    for node in nodes:
        _rewrite(program.graph, node, quantized)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _is_dynamic(node: fx.Node) -> bool:
    return node.target is aten.linear.default and _target(node.args[0]) is decomposed.dequantize_per_tensor.tensor


def _target(node: Any) -> Any:
    return node.target if isinstance(node, fx.Node) else None


def _rewrite(graph: fx.Graph, node: fx.Node, quantized: dict[fx.Node, list[fx.Node]]) -> None:
    x, weight, bias = (*node.args, None)[:3]
    assert isinstance(x, fx.Node) and isinstance(weight, fx.Node)
    source = x.args[0].args[0]  # type: ignore[union-attr]
    assert isinstance(source, fx.Node)
    if source not in quantized:
        quantized[source] = _quantize(graph, source)
    with graph.inserting_before(node):
        made = graph.call_function(
            torch.ops.edgewright.integer_linear.default, (*quantized[source], *weight.args[:2], bias)
        )
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _quantize(graph: fx.Graph, x: fx.Node) -> list[fx.Node]:
    value = x.meta["val"]
    with graph.inserting_after(x):
        three = graph.call_function(torch.ops.edgewright.dynamic_quantize.default, (x,))
    with graph.inserting_after(three):
        parts = [graph.call_function(getitem, (three, i)) for i in range(3)]
    values = (value.to(torch.uint8), value.new_empty(()), value.new_empty((), dtype=torch.uint8))
    three.meta = {**x.meta, "val": values}
    for part, own in zip(parts, values, strict=True):
        part.meta = {**x.meta, "val": own}
    return parts
