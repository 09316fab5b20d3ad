"""ONNX files for the native engine."""

from __future__ import annotations

from .onnxruntime import OnnxRuntimeTarget


class NativeTarget(OnnxRuntimeTarget):
    """The same file that ONNX Runtime gets, opened and verified by the native engine."""
