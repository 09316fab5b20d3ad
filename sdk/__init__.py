"""Edgewright: one call exports a PyTorch model for a named edge board.

    bundle = sdk.export(model, device="raspberry-pi-5")
    session = sdk.load(bundle.path)

Importing this package is quick and silent: every name below is loaded when it is first used.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

_WHERE = {
    "Bundle": "sdk.bundle",
    "BudgetError": "sdk.errors",
    "BundleError": "sdk.errors",
    "CaptureError": "sdk.errors",
    "Classify": "edgewright_runtime.preprocess",
    "DependencyError": "sdk.errors",
    "DeviceError": "sdk.errors",
    "EdgewrightError": "sdk.errors",
    "Finding": "device_profiles",
    "Image": "edgewright_runtime.preprocess",
    "InputError": "sdk.errors",
    "LoweringError": "sdk.errors",
    "MethodError": "sdk.errors",
    "OptionError": "sdk.errors",
    "OutputError": "sdk.errors",
    "ParityError": "sdk.errors",
    "RuntimeFailure": "sdk.errors",
    "Session": "edgewright_runtime.session",
    "check": "sdk.pipeline",
    "device": "device_profiles",
    "devices": "device_profiles",
    "export": "sdk.pipeline",
    "load": "edgewright_runtime.session",
    "methods": "sdk",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgewright")
    if name not in _WHERE:
        raise AttributeError(f"module 'sdk' has no attribute {name!r}; it has {', '.join(__all__)}")
    if _WHERE[name] == __name__:
        return _import_module(f"{__name__}.{name}")
    value = getattr(_import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
