"""The native engine behind ONNX's backend interface (``onnx.backend.base``), so that ONNX's own tests run on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from . import native_library


class OnnxBackend(Backend):
    """``prepare``, ``run_model`` and ``supports_device`` on the host's processor."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> Prepared:
        """The opened model.

        Raises:
            edgewright_runtime.native_library.NativeError: The engine refuses it.
        """
        return Prepared(native_library.Model(model.SerializeToString()), [i.name for i in _open_inputs(model)])

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the processor."""
        return device.split(":")[0] == "CPU"


class Prepared(BackendRep):
    """A model whose sessions are made for the shapes, and where needed the values, of each call's inputs."""

    def __init__(self, model: native_library.Model, inputs: list[str]) -> None:
        self._model, self._inputs = model, inputs

    def run(self, inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Outputs for inputs in the order of the graph.

        As few inputs as possible are fixed: none; where shapes depend on values, those that are no floats; all but the
        first; all.
        """
        arrays = dict(zip(self._inputs, (np.asarray(value) for value in inputs), strict=False))
        no_floats = {name for name, array in arrays.items() if array.dtype.kind != "f"}
        session = self._session(arrays, [set(), no_floats, set(self._inputs[1:]), set(self._inputs)])
        return tuple(session.run([arrays[name] for name, _, _ in session.inputs]))

    def _session(self, arrays: dict[str, np.ndarray], choices: list[set[str]]) -> native_library.NativeSession:
        bounds = {f"{name}:{axis}": (n, n) for name, array in arrays.items() for axis, n in enumerate(array.shape)}
        for chosen in choices:
            try:
                return self._model.session(fixed={name: arrays[name] for name in chosen}, bounds=bounds)
            except native_library.NativeError as error:
                last = error
        raise last


def _open_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]
