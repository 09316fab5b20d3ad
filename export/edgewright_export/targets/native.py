"""ONNX files for the native engine, with the weights of all entries in one file beside them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, ClassVar

from device_profiles import EngineRow
from edgewright_runtime.bundle import Entry, Lowered

from ..decided import with_decisions
from ..state import State
from . import onnx_sparse
from .onnxruntime import OnnxRuntimeTarget

WEIGHTS = "weights.bin"
_ALIGNMENT = 64
_LEAST_BYTES = 256
"""Smaller constants stay in the graph."""


class NativeTarget(OnnxRuntimeTarget):
    """The file that ONNX Runtime gets, but for its weights.

    Those that are mostly zeros are stored without the zeros.  All lie in ``weights.bin`` (ONNX's external data), row-major,
    little-endian, each at a multiple of 64 bytes, so that the engine uses them where they are mapped; what entries have in
    common is there once.
    """

    leaves_out_zeros = True
    subgraphs_from = ""
    results_on_grids = False
    bits: ClassVar = {"static": (4, 3, 2), "dynamic": (4, 3, 2), "float": (4, 3, 2), "embedding": (4,)}

    def lower(self, state: State, row: EngineRow, folder: Path) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        lowered = super().lower(state, row, folder)
        return with_decisions(lowered, self.preload) if state.sparse else lowered

    def gather(self, lowered: Lowered) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        entries: dict[str, Entry] = {}
        places: dict[bytes, int] = {}
        with open(lowered.folder / WEIGHTS, "xb") as weights:
            for name, entry in lowered.entries.items():
                file = entry.file if name == "main" else f"{name}.onnx"
                _move_weights(lowered.folder / entry.file, lowered.folder / file, weights, places)
                entries[name] = replace(entry, file=file)
        kept = [entry.file for entry in entries.values()]
        for file in set(lowered.files) - set(kept):
            (lowered.folder / file).unlink()
        for name in set(entries) - {"main"}:
            (lowered.folder / name).rmdir()
        if not places:
            (lowered.folder / WEIGHTS).unlink()
        return replace(lowered, entries=entries, files=(*kept, WEIGHTS) if places else tuple(kept))


def _move_weights(source: Path, target: Path, weights: IO[bytes], places: dict[bytes, int]) -> None:
    import onnx

    model = onnx.load(str(source))
    onnx_sparse.compress(model)
    for tensor in model.graph.initializer:
        data = _content(tensor)
        if len(data) >= _LEAST_BYTES:
            _move(tensor, data, weights, places)
    onnx.save_model(model, str(target))


def _content(tensor: Any) -> bytes:
    """Its raw bytes, in which several numbers of less than a byte share one; strings have none."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.STRING:
        return b""
    return bytes(numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)


def _move(tensor: Any, data: bytes, weights: IO[bytes], places: dict[bytes, int]) -> None:
    import onnx

    key = hashlib.sha256(data).digest()
    if key not in places:
        weights.write(bytes(-weights.tell() % _ALIGNMENT))
        places[key] = weights.tell()
        weights.write(data)
    shape, dtype, name = list(tensor.dims), tensor.data_type, tensor.name
    tensor.Clear()
    tensor.dims.extend(shape)
    tensor.data_type, tensor.name, tensor.data_location = dtype, name, onnx.TensorProto.EXTERNAL
    for field, value in (("location", WEIGHTS), ("offset", places[key]), ("length", len(data))):
        tensor.external_data.add(key=field, value=str(value))
