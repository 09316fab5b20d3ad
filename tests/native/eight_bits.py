"""Graphs with weights and activations of 8 bits, built node by node."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

DTYPES = {"u8": np.uint8, "s8": np.int8}
GRIDS = {"u8": (0.021, 117), "s8": (0.021, -9)}
"""Scale and zero point of activations."""


class Graph:
    """A graph of quantized nodes, built one by one; every weight has its own scale for each output."""

    def __init__(self, **inputs: tuple[int | str, ...]) -> None:
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}
        self.draw = np.random.default_rng(7)

    def node(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        """Adds a node; gives the name of its first output."""
        name = f"v{len(self.nodes)}"
        outs = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, outs, **attributes))
        return name

    def constant(self, value: object) -> str:
        """Adds a constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def grid(self, dtype: str, scale: float | None = None) -> list[str]:
        """Scale and zero point of activations."""
        found, zero = GRIDS[dtype]
        return [self.constant(np.float32(scale or found)), self.constant(DTYPES[dtype](zero))]

    def quantize(self, value: str, dtype: str, scale: float | None = None) -> str:
        """To 8 bits."""
        return self.node("QuantizeLinear", [value, *self.grid(dtype, scale)])

    def through(self, value: str, dtype: str, scale: float | None = None) -> str:
        """To 8 bits and back."""
        grid = self.grid(dtype, scale)
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *grid]), *grid])

    def weights(self, *shape: int, axis: int | None = 0) -> str:
        """Random weights of 8 bits, made float."""
        values = self.constant(self.draw.integers(-127, 128, shape).astype(np.int8))
        if axis is None:
            return self.node("DequantizeLinear", [values, self.constant(np.float32(0.004)), self.constant(np.int8(0))])
        count = shape[axis]
        scale = self.constant(self.draw.uniform(0.001, 0.006, count).astype(np.float32))
        return self.node("DequantizeLinear", [values, scale, self.constant(np.zeros(count, np.int8))], axis=axis)

    def bias(self, count: int) -> str:
        """Random float values."""
        return self.constant(self.draw.standard_normal(count).astype(np.float32))

    def floats(self, *shape: int) -> str:
        """Random float weights."""
        return self.constant(
            self.draw.standard_normal(shape).astype(np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)
        )

    def model(self, output: str) -> bytes:
        """The file."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            self.inputs,
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def dynamic(graph: Graph, value: str, kind: str, weights: np.ndarray, scale: np.ndarray, **attributes: object) -> str:
    """A product as ONNX Runtime's dynamic quantization writes it."""
    quantized = graph.node("DynamicQuantizeLinear", [value], 3)
    sums = graph.node(
        kind, [quantized, graph.constant(weights), f"{quantized}_2", graph.constant(np.int8(0))], **attributes
    )
    both = graph.node("Mul", [f"{quantized}_1", graph.constant(scale)])
    return graph.node("Mul", [graph.node("Cast", [sums], to=TensorProto.FLOAT), both])
