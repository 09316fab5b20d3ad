"""ONNX models of a few nodes, as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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
