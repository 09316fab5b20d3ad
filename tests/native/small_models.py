"""ONNX models of a few nodes, as bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.native.eight_bits import Graph, dynamic


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int | str | None, ...]],
    outputs: Sequence[str],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 18,
    dtype: int = TensorProto.FLOAT,
) -> bytes:
    """A model whose inputs all have one dtype; outputs have no declared shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10).SerializeToString()


def batched_linear() -> bytes:
    """``relu(x @ w + b)`` reshaped to (batch, 6) by a shape that is computed from ``x``; batch is open."""
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="multiply"),
        helper.make_node("Add", ["product", "b"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["positive"], name="relu"),
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], name="batch", axis=0),
        helper.make_node("Concat", ["batch", "six"], ["wanted"], name="wanted", axis=0),
        helper.make_node("Reshape", ["positive", "wanted"], ["y"], name="reshape"),
    ]
    constants = {
        "w": draw.standard_normal((4, 6)).astype(np.float32),
        "b": draw.standard_normal(6).astype(np.float32),
        "zero": np.array([0]),
        "six": np.array([6]),
    }
    return model(nodes, {"x": ("batch", 4)}, ["y"], constants)


def batched_linear_result(x: np.ndarray) -> np.ndarray:
    """What :func:`batched_linear` computes."""
    draw = np.random.default_rng(0)
    w, b = draw.standard_normal((4, 6)).astype(np.float32), draw.standard_normal(6).astype(np.float32)
    return np.maximum(x @ w + b, 0)


def convolutions(eight: bool, batch: int | str = 1, side: int = 12) -> bytes:
    """A network of plain, depthwise and 1 x 1 convolutions and a sum, (1, 3, 12, 12) to (1, 10); calibrated to 8 bits."""
    graph = Graph(x=(batch, 3, side, side))

    def layer(kind: str, value: str, *shape: int, **attributes: object) -> str:
        weights = graph.weights(*shape) if eight else graph.floats(*shape)
        return graph.node(kind, [grid(value), weights, graph.bias(shape[0])], **attributes)

    @functools.cache
    def grid(value: str) -> str:
        return graph.through(value, "u8", 0.05) if eight else value

    first = graph.node("Relu", [layer("Conv", "x", 8, 3, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1])])
    each = graph.node("Relu", [layer("Conv", first, 8, 1, 3, 3, group=8, pads=[1, 1, 1, 1])])
    summed = graph.node("Add", [grid(first), grid(layer("Conv", each, 8, 8, 1, 1))])
    mean = graph.node("Flatten", [grid(graph.node("GlobalAveragePool", [grid(summed)]))])
    return graph.model(layer("Gemm", mean, 10, 8, transB=1))


def transformer(eight: bool, batch: int | str = 1) -> bytes:
    """A layer of two heads on 5 words, (1, 5, 16) to (1, 5, 16); its products quantized in each run."""
    graph = Graph(x=(batch, 5, 16))

    def product(value: str, width: int, to: int) -> str:
        if not eight:
            return graph.node("Add", [graph.node("MatMul", [value, graph.floats(width, to)]), graph.bias(to)])
        weights = graph.draw.integers(-127, 128, (width, to)).astype(np.int8)
        scale = graph.draw.uniform(0.001, 0.006, to).astype(np.float32)
        return graph.node("Add", [dynamic(graph, value, "MatMulInteger", weights, scale), graph.bias(to)])

    def normalized(value: str) -> str:
        return graph.node("LayerNormalization", [value, graph.bias(16), graph.bias(16)])

    def heads(value: str, order: list[int]) -> str:
        split = graph.node("Reshape", [value, graph.constant(np.array([0, 5, 2, 8]))])
        return graph.node("Transpose", [split], perm=order)

    start = normalized("x")
    query, key, value = (heads(product(start, 16, 16), order) for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scores = graph.node("Mul", [graph.node("MatMul", [query, key]), graph.constant(np.float32(8**-0.5))])
    seen = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), value])
    joined = graph.node("Transpose", [seen], perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", [joined, graph.constant(np.array([0, 5, 16]))])
    middle = graph.node("Add", ["x", product(joined, 16, 16)])
    wide = graph.node("Relu", [product(normalized(middle), 16, 32)])
    return graph.model(graph.node("Add", [middle, product(wide, 32, 16)]))


SMALL: dict[str, Callable[[], bytes]] = {
    "convolutions": lambda: convolutions(False),
    "convolutions in 8 bits": lambda: convolutions(True),
    "transformer": lambda: transformer(False),
    "transformer in 8 bits": lambda: transformer(True),
}
"""Models of every kind that the engine prepares, by name."""
