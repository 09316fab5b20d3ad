"""ONNX files in ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from device_profiles import Finding, device
from device_profiles.errors import RuntimeFailure
from device_profiles.host import saturates

from ..bundle.lowered import Lowered
from ..quiet import quiet
from ..session import Session
from . import installed, missing_package, subgraph_library

_PAIRS_QMAX = 63
"""The largest weight whose u8 x s8 products it adds exactly in pairs of 16 bits, which it does on x86 without VNNI unless
asked for precision (its documentation, Quantize ONNX models)."""


class OnnxRuntime:
    """ONNX Runtime, CPU provider."""

    name = "onnxruntime"
    extra = "onnx"
    packages = ("onnxruntime",)
    formats = ("onnx",)

    def available(self) -> Finding | None:
        """See :class:`edgewright_runtime.engines.Engine`."""
        return missing_package(self.packages, self.extra)

    def open(self, lowered: Lowered, *, threads: int) -> Session:
        """See :class:`edgewright_runtime.engines.Engine`."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with quiet():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if lowered.requires.get("weight_qmax", 0) > _PAIRS_QMAX and saturates(device("host").features):
            options.add_session_config_entry("session.x64quantprecision", "1")
        if lowered.requires.get("optimise") == 0:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        library = subgraph_library(lowered)
        try:
            with quiet():
                if library is not None:
                    options.add_session_config_entry("edgewright.threads", str(threads))
                    options.register_custom_ops_library(library)
                opened = onnxruntime.InferenceSession(str(lowered.path()), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RuntimeFailure(f"onnxruntime {onnxruntime.__version__} cannot open the model: {error}") from error
        return _Session(lowered, opened, threads)


class _Session(Session):
    def __init__(self, lowered: Lowered, opened: Any, threads: int) -> None:
        super().__init__(lowered, engine="onnxruntime", engine_version=installed("onnxruntime") or "", threads=threads)
        self._opened = opened

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        feed = {spec.binding: array for spec, array in zip(self.inputs, arrays, strict=True)}
        try:
            results: list[np.ndarray] = self._opened.run([spec.binding for spec in self.outputs], feed)
        except Exception as error:
            raise RuntimeFailure(f"onnxruntime could not run the model: {error}") from error
        return results

    def close(self) -> None:
        """Releases the session."""
        self._opened = None
