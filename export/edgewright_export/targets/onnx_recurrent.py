"""Integer weights of recurrent layers as ONNX's GRU and LSTM read them.

The exporter puts gates in another order and directions together behind ``DequantizeLinear``.  Here the integers
themselves lie so, and what makes them float is written as ``Cast`` and ``Mul``: engines do that once, when they open the
file, where ONNX Runtime runs ``DequantizeLinear`` each time and cannot pack the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LAYERS = ("GRU", "LSTM")
_MOVES = ("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


def arrange(model: Any) -> None:
    """Changes every matrix of a recurrent layer that is made of dequantized constants by moves alone."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    written: dict[bytes, str] = {}
    for layer in [node for node in model.graph.node if node.op_type in _LAYERS]:
        for place in (1, 2):
            nodes = _nodes(layer.input[place], makers, constants)
            if any(node.op_type == "DequantizeLinear" for node in nodes):
                values, scales = _values(layer.input[place], nodes, constants)
                key = bytes(f"{values.shape}", "ascii") + values.tobytes() + scales.tobytes()
                if key not in written:
                    own = f"{layer.output[0]}_{'WR'[place - 1]}"
                    written[key] = _made_float(model.graph, layer, own, values, scales)
                layer.input[place] = written[key]


def _nodes(name: str, makers: dict[str, Any], constants: dict[str, Any]) -> list[Any]:
    """What makes a value of constants by moves and ``DequantizeLinear``, in its order; empty where something else does."""
    found: dict[str, Any] = {}

    def collect(name: str) -> bool:
        if not name or name in constants or name in found:
            return True
        node = makers.get(name)
        if node is None or node.op_type not in (*_MOVES, "DequantizeLinear") or not all(map(collect, node.input)):
            return False
        found.update(dict.fromkeys(node.output, node))
        return True

    return list({id(node): node for node in found.values()}.values()) if collect(name) else []


def _values(name: str, nodes: list[Any], constants: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The integers [directions, rows, columns] where the layer reads them, and their scales [directions, rows, 1]."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    sources = [node for node in nodes if node.op_type == "DequantizeLinear"]
    given = [[numpy_helper.to_array(constants[name]) for name in node.input[:2]] for node in sources]
    used = {name for node in nodes for name in node.input if name in constants}
    inputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in sources]
    moves = helper.make_graph(
        [node for node in nodes if node not in sources],
        "moves",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        [constants[name] for name in sorted(used)],
    )
    evaluator: Any = ReferenceEvaluator(helper.make_model(moves, opset_imports=[helper.make_opsetid("", 18)]))
    read = [node.output[0] for node in sources]
    whole = [values.astype(np.float32) for values, _ in given]
    steps = [np.broadcast_to(scales[:, None], values.shape) for values, scales in given]
    moved = [evaluator.run(None, dict(zip(read, each, strict=True)))[0] for each in (whole, steps)]
    return moved[0].astype(np.int8), np.ascontiguousarray(moved[1][..., :1], dtype=np.float32)


def _made_float(graph: Any, layer: Any, name: str, values: np.ndarray, scales: np.ndarray) -> str:
    """Puts the constants and what reads them in front of a layer; the name of the float value."""
    from onnx import TensorProto, helper, numpy_helper

    graph.initializer.append(numpy_helper.from_array(values, f"{name}_s8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    at = list(graph.node).index(layer)
    graph.node.insert(at, helper.make_node("Cast", [f"{name}_s8"], [f"{name}_whole"], to=TensorProto.FLOAT))
    graph.node.insert(at + 1, helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [f"{name}_f32"]))
    return f"{name}_f32"
