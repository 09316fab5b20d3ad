"""Integer constants of an ONNX file that need less than a byte, stored in 4, 3 or 2 bits for the native engine.

4 and 2 bits are dtypes of ONNX.  It has none of 3 bits: these are bytes behind ``edgewright.UnpackInt3``, as
``runtime/BUNDLE.md`` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .onnx_stored import store

_OPSET_OF_TWO = 25
"""The first with INT2."""
_IR_OF_TWO = 13


def shrink(model: Any) -> None:
    """Stores each constant of int8 with several axes in as few bits as hold its values, -7 to 7, -4 to 3 or -2 to 1.

    What reads it as bytes reads it through a ``Cast``.

    Args:
        model: Of operator set 21 at least; changed in place, also to what has these dtypes.
    """
    from onnx import TensorProto, numpy_helper

    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.INT8 or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        bits = bits_of(values)
        if bits < 8:
            _read_small(model.graph, tensor.name)
            _STORED[bits](model, tensor, values)


def bits_of(values: np.ndarray) -> int:
    """Bits that hold all of some integers of int8: 2, 3, 4 or 8."""
    if not values.size:
        return 8
    low, high = int(values.min()), int(values.max())
    return next((bits for bits, (least, most) in _ENDS.items() if least <= low and high <= most), 8)


_ENDS = {2: (-2, 1), 3: (-4, 3), 4: (-7, 7)}


def _read_small(graph: Any, name: str) -> None:
    for node in [node for node in graph.node if name in node.input]:
        if node.op_type == "DequantizeLinear":
            del node.input[2:]  # the zero point is 0, and would have to be as small
        else:
            _cast(graph, name, node)


def _cast(graph: Any, name: str, reader: Any) -> None:
    from onnx import TensorProto, helper

    wide = f"{name}__s8"
    if not any(wide in node.output for node in graph.node):
        graph.node.insert(0, helper.make_node("Cast", [name], [wide], to=TensorProto.INT8))
    reader.input[:] = [wide if own == name else own for own in reader.input]


def _in_four(model: Any, tensor: Any, values: np.ndarray) -> None:
    from onnx import TensorProto, helper

    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.INT4, tensor.dims, values.flatten().tolist()))


def _in_two(model: Any, tensor: Any, values: np.ndarray) -> None:
    from onnx import TensorProto, helper

    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.INT2, tensor.dims, values.flatten().tolist()))
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, _OPSET_OF_TWO)
    model.ir_version = max(model.ir_version, _IR_OF_TWO)


def _in_three(model: Any, tensor: Any, values: np.ndarray) -> None:
    store(model, tensor, "UnpackInt3", {"bits": packed_in_three(values)})


_STORED = {2: _in_two, 3: _in_three, 4: _in_four}


def packed_in_three(values: np.ndarray) -> np.ndarray:
    """Bits of whole numbers from -4 to 3, each 3 bits in two's complement, the first in the lowest bits of the first byte.

    Args:
        values: Of any shape, in the order of their rows.

    Returns:
        [bytes], uint8; eight numbers have three bytes, those behind the last one are 0.
    """
    each = (values.reshape(-1, 1).astype(np.uint8) >> np.arange(3, dtype=np.uint8)) & 1
    return np.packbits(each.ravel(), bitorder="little")
