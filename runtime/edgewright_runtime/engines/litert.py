"""TFLite files in LiteRT, or in tflite-runtime where only that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_profiles import Finding
from device_profiles.errors import RuntimeFailure

from ..bundle.lowered import Lowered
from ..quiet import quiet
from ..session import Session
from . import installed, missing_package, subgraph_library


class LiteRT:
    """LiteRT (XNNPACK inside)."""

    name = "litert"
    extra = "tflite"
    packages = ("ai-edge-litert", "tflite-runtime")
    formats = ("tflite",)

    def available(self) -> Finding | None:
        """See :class:`edgewright_runtime.engines.Engine`."""
        return missing_package(self.packages, self.extra)

    def open(self, lowered: Lowered, *, threads: int) -> Session:
        """See :class:`edgewright_runtime.engines.Engine`."""
        package = "ai-edge-litert" if installed("ai-edge-litert") else "tflite-runtime"
        library = subgraph_library(lowered)
        try:
            with quiet():
                tflite = _module(package)
                delegates = [tflite.load_delegate(library, {"threads": threads})] if library is not None else []
                interpreter = tflite.Interpreter(
                    model_path=str(lowered.path()), num_threads=threads, experimental_delegates=delegates
                )
                interpreter.allocate_tensors()
        except Exception as error:
            raise RuntimeFailure(f"{package} {installed(package)} cannot open the model: {error}") from error
        return _Session(lowered, interpreter, package, threads)


def _module(package: str) -> Any:
    if package == "ai-edge-litert":
        from ai_edge_litert import interpreter
    else:
        from tflite_runtime import interpreter
    return interpreter


class _Session(Session):
    def __init__(self, lowered: Lowered, interpreter: Any, package: str, threads: int) -> None:
        super().__init__(lowered, engine="litert", engine_version=installed(package) or "", threads=threads)
        self._interpreter = interpreter
        self._package = package
        inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
        outputs = interpreter.get_output_details()
        signature = next(iter(interpreter.get_signature_list()), None)
        self._inputs, self._outputs = self._indices(inputs, outputs, signature)
        self._shapes = {i: tuple(d["shape"]) for i, d in ((d["index"], d) for d in inputs.values())}

    def _indices(
        self, inputs: dict[str, Any], outputs: list[Any], signature: str | None
    ) -> tuple[list[int], list[int]]:
        if signature is None:
            return [d["index"] for d in inputs.values()], [d["index"] for d in outputs]
        runner = self._interpreter.get_signature_runner(signature)
        ins, outs = runner.get_input_details(), runner.get_output_details()
        return (
            [ins[spec.binding]["index"] for spec in self.lowered.inputs],
            [outs[spec.binding]["index"] for spec in self.lowered.outputs],
        )

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        interpreter = self._interpreter
        try:
            self._resize(arrays)
            for index, array in zip(self._inputs, arrays, strict=True):
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [self._result(index) for index in self._outputs]
        except Exception as error:
            raise RuntimeFailure(f"{self._package} could not run the model: {error}") from error

    def _result(self, index: int) -> np.ndarray:
        """One result; the interpreter refuses to give those without elements."""
        try:
            result: np.ndarray = self._interpreter.get_tensor(index)
        except ValueError:
            detail = next(d for d in self._interpreter.get_output_details() if d["index"] == index)
            if all(detail["shape"]):
                raise
            return np.empty(detail["shape"], detail["dtype"])
        return result

    def _resize(self, arrays: list[np.ndarray]) -> None:
        changed = [
            (index, array.shape)
            for index, array in zip(self._inputs, arrays, strict=True)
            if self._shapes[index] != array.shape
        ]
        for index, shape in changed:
            self._interpreter.resize_tensor_input(index, shape)
            self._shapes[index] = shape
        if changed:
            self._interpreter.allocate_tensors()

    def close(self) -> None:
        """Releases the interpreter."""
        self._interpreter = None
