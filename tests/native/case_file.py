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
    entries = []
    for case in cases:
        constants = {tensor.name for tensor in case.model.graph.initializer}
        names = [value.name for value in case.model.graph.input if value.name not in constants]
        outputs = [value.name for value in case.model.graph.output]
        for inputs, expected in case.data_sets:
            given, wanted = (zip(names, inputs, strict=False), zip(outputs, expected, strict=False))
            model = case.model.SerializeToString()
            entries.append(entry(case.name, model, dict(given), dict(wanted), rtol=case.rtol, atol=case.atol))
    return write_entries(path, entries)


def entry(name: str, model: bytes, inputs: dict, outputs: dict, *, rtol: float = 0, atol: float = 0) -> bytes:
    """One case: a model (an ONNX file or an archive), its inputs and what it must give."""
    tolerances = struct.pack("<dd", rtol, atol)
    return _bytes(name.encode()) + _bytes(model) + tolerances + _tensors(inputs) + _tensors(outputs)


def write_entries(path: Path, entries: list[bytes]) -> int:
    """Writes what :func:`entry` made; returns how many."""
    path.write_bytes(b"EWCASES1" + struct.pack("<Q", len(entries)) + b"".join(entries))
    return len(entries)


def _array(value: object) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _bytes(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def _tensors(tensors: dict) -> bytes:
    return struct.pack("<Q", len(tensors)) + b"".join(_tensor(name, _array(value)) for name, value in tensors.items())


def _tensor(name: str, array: np.ndarray) -> bytes:
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    head = struct.pack("<QQ", _NUMBERS[array.dtype], array.ndim)
    return _bytes(name.encode()) + head + shape + _bytes(np.ascontiguousarray(array).tobytes())
