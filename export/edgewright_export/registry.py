"""The two tables of the ahead-of-time half.  To add a row is one file and one line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .targets import Target

METHODS: dict[str, str] = {}

TARGETS: dict[str, str] = {
    "executorch": "targets.executorch:ExecuTorchTarget",
    "litert": "targets.litert:LiteRTTarget",
    "onnxruntime": "targets.onnxruntime:OnnxRuntimeTarget",
}


def target_named(name: str) -> Target:
    """A new target object.

    Args:
        name: Key of :data:`TARGETS`.
    """
    return _load(TARGETS[name])()


def target_for(engine: str, format: str) -> str | None:
    """Key of the target that writes ``format`` for ``engine``."""
    for name in TARGETS:
        target = target_named(name)
        if (target.engine, target.format) == (engine, format):
            return name
    return None


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), attribute)
