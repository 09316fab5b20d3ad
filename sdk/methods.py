"""Edge methods: frozen dataclasses whose fields are the options.

    sdk.export(model, device="raspberry-pi-5", methods=[sdk.methods.TokenDropping(keep=0.5)])

Importing this module is quick and silent: a method, and torch with it, is loaded when it is first used.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from edgewright_export.registry import METHODS as _METHODS

_WHERE = {where.partition(":")[2]: where.partition(":")[0] for where in _METHODS.values()}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> _Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'sdk.methods' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(_import_module(f"edgewright_export.methods.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
