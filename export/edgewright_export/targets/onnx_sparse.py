"""Weights of an ONNX file that are mostly zeros, stored without them for the native engine (``runtime/BUNDLE.md``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .onnx_stored import store

_BLOCKS = ((1, 1), (4, 1), (1, 4), (4, 4), (16, 1))
_PRODUCTS = ("Conv", "Gemm", "MatMul", "ConvInteger", "MatMulInteger")
_LEAST_BYTES = 1024
_MOST = 0.5
"""Of the bytes with zeros: what is not stored as it is has to be made when the file is opened."""


def compress(model: Any) -> None:
    """Stores each matrix that products have as weights in the blocks that need the fewest bytes, if that is half.

    Args:
        model: Changed in place; of its weights those of float32 and int8 are looked at.
    """
    from onnx import TensorProto, numpy_helper

    weights = _weights(model)
    for tensor in list(model.graph.initializer):
        is_weight = tensor.name in weights and tensor.data_type in (TensorProto.FLOAT, TensorProto.INT8)
        if not is_weight or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if values.nbytes < _LEAST_BYTES or np.count_nonzero(values) > _MOST * values.size:
            continue
        found = [(block, *packed(values, block)) for block in _BLOCKS]
        block, bits, kept = min(found, key=lambda one: one[1].nbytes + one[2].nbytes)
        if bits.nbytes + kept.nbytes <= _MOST * values.nbytes:
            version = 1 if values.dtype == np.float32 else 2
            store(model, tensor, "UnpackSparse", {"bits": bits, "values": kept}, version, block=list(block))


def _weights(model: Any) -> set[str]:
    """Names of what products multiply with, also of the integers that it is made of."""
    found = {node.input[1] for node in model.graph.node if node.op_type in _PRODUCTS and len(node.input) > 1}
    makers = (node for node in model.graph.node if node.op_type == "DequantizeLinear")
    return found | {node.input[0] for node in makers if node.output[0] in found}


def packed(values: np.ndarray, block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A bit for each block, and the blocks that hold anything but zeros.

    Args:
        values: [rows, columns, ...], float32 or int8.
        block: Rows and columns of a block.

    Returns:
        [bytes], uint8, and [values], of the dtype of ``values``.
    """
    rows, columns = block
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    padded = np.pad(flat, ((0, -flat.shape[0] % rows), (0, -flat.shape[1] % columns), (0, 0)))
    cut = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns, flat.shape[2])
    blocks = cut.transpose(0, 2, 4, 1, 3).reshape(-1, rows * columns)
    there = (blocks != 0).any(1)
    return np.packbits(there, bitorder="little"), np.ascontiguousarray(blocks[there]).reshape(-1)
