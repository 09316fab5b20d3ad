"""The error tree, re-exported for ``except sdk.EdgewrightError``."""

from device_profiles.errors import (
    BudgetError,
    BundleError,
    CaptureError,
    DependencyError,
    DeviceError,
    EdgewrightError,
    InputError,
    LoweringError,
    MethodError,
    OptionError,
    OutputError,
    ParityError,
    RuntimeFailure,
)

__all__ = [
    "BudgetError",
    "BundleError",
    "CaptureError",
    "DependencyError",
    "DeviceError",
    "EdgewrightError",
    "InputError",
    "LoweringError",
    "MethodError",
    "OptionError",
    "OutputError",
    "ParityError",
    "RuntimeFailure",
]
