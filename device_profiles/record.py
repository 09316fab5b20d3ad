"""Strict frozen dataclasses from and to plain data (TOML, JSON).

One converter for every record in the project: unknown keys, missing keys and wrong types are
all reported at once, each with its path.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from cattrs import Converter, transform_error
from cattrs.errors import ClassValidationError
from cattrs.preconf.json import make_converter

Record = TypeVar("Record")


def _exact(kind: type) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__} {value!r}")
        return value

    return hook


@cache
def _converter(strict: bool) -> Converter:
    converter = make_converter(forbid_extra_keys=strict)
    for kind in (int, float, str, bool):
        converter.register_structure_hook(kind, _exact(kind))
    return converter


def structure(cls: type[Record], data: Any, *, strict: bool = True) -> Record:
    """Builds a dataclass from plain data.

    Args:
        cls: The dataclass.
        data: Nested dicts, lists, strings, numbers.
        strict: Whether a key that ``cls`` does not know is an error.

    Raises:
        ValueError: One line a problem, each with the path of the field.
    """
    try:
        return _converter(strict).structure(data, cls)
    except ClassValidationError as error:
        raise ValueError("\n".join(transform_error(error, path="$"))) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"expected {cls.__name__}: {error}") from error


def unstructure(record: Any) -> Any:
    """Turns a dataclass into plain data that :func:`structure` reads back."""
    return _converter(True).unstructure(record)
