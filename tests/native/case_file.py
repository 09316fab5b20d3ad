"""Cases of :mod:`tests.native.test_onnx_nodes` as one file for ``run_cases.c``, which says what is in it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from edgewright_runtime.native_library import DTYPES

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


def write(path: Path, cases: Iterable) -> int:
    """Writes every data set of the cases (of onnx.backend.test); returns how many."""
    parts, count = [], 0
    for case in cases:
        constants = {tensor.name for tensor in case.model.graph.initializer}
        names = [value.name for value in case.model.graph.input if value.name not in constants]
        for inputs, expected in case.data_sets:
            parts += [_bytes(case.name.encode()), _bytes(case.model.SerializeToString())]
            parts.append(struct.pack("<dd", case.rtol, case.atol))
            parts.append(_tensors(names, [_array(value) for value in inputs]))
            parts.append(_tensors([o.name for o in case.model.graph.output], [_array(value) for value in expected]))
            count += 1
    path.write_bytes(b"EWCASES1" + struct.pack("<Q", count) + b"".join(parts))
    return count


def _array(value: object) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _bytes(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def _tensors(names: list[str], arrays: list[np.ndarray]) -> bytes:
    listed = zip(names, arrays, strict=False)
    return struct.pack("<Q", min(len(names), len(arrays))) + b"".join(_tensor(name, a) for name, a in listed)


def _tensor(name: str, array: np.ndarray) -> bytes:
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    head = struct.pack("<QQ", _NUMBERS[array.dtype], array.ndim)
    return _bytes(name.encode()) + head + shape + _bytes(np.ascontiguousarray(array).tobytes())
