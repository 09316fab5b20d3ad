"""Quantized graphs as ONNX's integer operators, in the forms that ONNX Runtime and the native engine run on integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..quantized_program import tables
from .integer_ops import decomposed
from .onnx_recurrent import arrange

OPSET = 21
"""The first with blocks of weights that share a scale, and weights of 4 bits."""
_SMALL = 7
"""The largest weight of 4 bits."""


def translations() -> dict[Any, Callable[..., Any]]:
    """What the exporter lacks, by operation, as ``torch.onnx.export`` takes it."""
    from onnxscript import opset18 as op
    from onnxscript import opset21 as newer

    def dynamic_quantize(x: Any) -> Any:
        return op.DynamicQuantizeLinear(x)

    def integer_linear(q: Any, scale: Any, zero: Any, weight: Any, scales: Any, bias: Any = None) -> Any:
        sums = op.MatMulInteger(q, op.Transpose(weight, perm=[1, 0]), zero)
        product = op.Mul(op.Cast(sums, to=1), op.Mul(scale, scales))
        return product if bias is None else op.Add(product, bias)

    def group(weight: Any, scales: Any, zeros: Any, least: int, most: int, dtype: int, size: int, result: int) -> Any:
        return newer.DequantizeLinear(weight, scales, axis=1, block_size=size)

    own = torch.ops.edgewright
    return {
        own.dynamic_quantize.default: dynamic_quantize,
        own.integer_linear.default: integer_linear,
        decomposed.dequantize_per_channel_group.default: group,
    }


def opset_of(program: torch.export.ExportedProgram, otherwise: int, *, small: bool) -> int:
    """The opset in which the exporter writes a program; ``small``: weights of 4 bits are stored as such."""
    newer = any(_is_group(node) or (small and _is_small(node)) for node in program.graph.nodes)
    newer = newer or (small and any(int(table.abs().max()) <= _SMALL for _, table in tables(program)))
    return OPSET if newer else otherwise


def _is_group(node: torch.fx.Node) -> bool:
    return node.target is decomposed.dequantize_per_channel_group.default


def _is_small(node: torch.fx.Node) -> bool:
    return node.target is decomposed.dequantize_per_channel.default and int(node.args[5]) <= _SMALL  # type: ignore[arg-type]


def tidy(model: Any) -> None:
    """Brings quantized products to the forms that engines look for.

    Weights lie as ``MatMul`` reads them, so that nothing but ``DequantizeLinear`` is between; activations are u8, that
    is the zero point moved by 128, which is the pair of dtypes that has instructions everywhere.  No two weights share
    zero points: ONNX Runtime 1.31 cannot open such a model when it makes weights u8.
    """
    arrange(model)
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "Transpose":
            graph.turn_weights(node)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            graph.move_zero_point(node)
        if node.op_type == "DequantizeLinear":
            graph.own_zero_points(node)
    graph.forget_unread()


class _Graph:
    """The names in an ONNX graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def turn_weights(self, node: Any) -> None:
        """``Transpose(DequantizeLinear(w))`` as ``DequantizeLinear(transposed w)``."""
        maker = self._makers.get(node.input[0])
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        if maker is None or maker.op_type != "DequantizeLinear" or perm not in ([1, 0], None):
            return
        if maker.input[0] not in self._constants:
            return
        node.op_type = "DequantizeLinear"
        inputs = [self._turned(name) for name in maker.input]
        axis = next((a for a in maker.attribute if a.name == "axis"), None)
        turned = 1 - (axis.i % 2 if axis is not None else 1)
        del node.attribute[:]
        node.attribute.extend(maker.attribute)
        for attribute in node.attribute:
            if attribute.name == "axis":
                attribute.i = turned
        node.input[:] = inputs

    def _turned(self, name: str) -> str:
        """A constant with its two axes exchanged; one with fewer as it is."""
        from onnx import numpy_helper

        value = numpy_helper.to_array(self._constants[name])
        return name if value.ndim < 2 else self._add(f"{name}__turned", np.ascontiguousarray(value.T))

    def move_zero_point(self, node: Any) -> None:
        """From s8 to u8, where it is one number and what is quantized is no constant."""
        from onnx import TensorProto, numpy_helper

        zero = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8 or list(zero.dims) or node.input[0] in self._constants:
            return
        value = int(numpy_helper.to_array(zero)) + 128
        node.input[2] = self._add(f"{zero.name}__u8", np.array(value, np.uint8))
        for attribute in [a for a in node.attribute if a.name == "output_dtype"]:
            node.attribute.remove(attribute)

    def own_zero_points(self, node: Any) -> None:
        """Those of a constant under a name of its own."""
        from onnx import numpy_helper

        zeros = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        if zeros is not None and node.input[0] in self._constants:
            node.input[2] = self._add(f"{node.input[0]}__zeros", numpy_helper.to_array(zeros))

    def _add(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._graph.initializer.append(numpy_helper.from_array(value, name))
            self._constants[name] = self._graph.initializer[-1]
        return name

    def forget_unread(self) -> None:
        """Nodes and constants that nothing reads any more; shapes and dtypes that are noted of values."""
        del self._graph.value_info[:]
        while self._drop(self._graph.node, lambda node: node.output):
            pass
        self._drop(self._graph.initializer, lambda tensor: [tensor.name])

    def _drop(self, items: Any, names: Callable[[Any], Any]) -> bool:
        read = set(self._read())
        kept = [item for item in items if any(name in read for name in names(item))]
        changed = len(kept) < len(items)
        if changed:
            copies = [type(item).FromString(item.SerializeToString()) for item in kept]
            del items[:]
            items.extend(copies)
        return changed

    def _read(self) -> Iterator[str]:
        yield from (value.name for value in self._graph.output)
        for node in self._graph.node:
            yield from node.input


def largest_weight(model: Any) -> dict[str, int]:
    """``weight_qmax``, the largest magnitude among constants of 8 bits; nothing where there are none."""
    from onnx import TensorProto, numpy_helper

    held = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    return {"weight_qmax": max(int(abs(t.astype("int16")).max()) for t in held if t.size)} if any(t.size for t in held) else {}
