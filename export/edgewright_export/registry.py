"""The two tables of the ahead-of-time half.  To add a row is one file and one line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .methods import Method
    from .targets import Target

METHODS: dict[str, str] = {
    "ptq": "ptq:PTQ",
    "qat": "qat:QAT",
    "token-dropping": "token_dropping:TokenDropping",
    "weight-sparsity": "weight_sparsity:WeightSparsity",
}


class TargetRow(NamedTuple):
    """What is known of a target without importing it, and so without torch."""

    where: str
    engine: str
    format: str
    extra: str
    """Extra of the distribution that brings the packages."""
    packages: tuple[str, ...]
    """Distributions that lowering and verification need."""


TARGETS: dict[str, TargetRow] = {
    "executorch": TargetRow("executorch:ExecuTorchTarget", "executorch", "executorch", "executorch", ("torch", "executorch")),
    "litert": TargetRow("litert:LiteRTTarget", "litert", "tflite", "tflite", ("torch", "litert-torch", "ai-edge-litert")),
    "native": TargetRow("native:NativeTarget", "native", "onnx", "onnx", ("torch", "onnx", "onnxscript")),
    "onnxruntime": TargetRow("onnxruntime:OnnxRuntimeTarget", "onnxruntime", "onnx", "onnx", ("torch", "onnx", "onnxscript", "onnxruntime")),
}  # fmt: skip


def method_named(name: str) -> type[Method]:
    """The class of a method.

    Args:
        name: Key of :data:`METHODS`.
    """
    method: type[Method] = _load(f"methods.{METHODS[name]}")
    return method


def target_named(name: str) -> Target:
    """A new target object.

    Args:
        name: Key of :data:`TARGETS`.
    """
    target: Target = _load(f"targets.{TARGETS[name].where}")(name, TARGETS[name])
    return target


def target_for(engine: str, format: str) -> str | None:
    """Key of the target that writes ``format`` for ``engine``, None if there is none."""
    found = (name for name, row in TARGETS.items() if (row.engine, row.format) == (engine, format))
    return next(found, None)


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), attribute)
