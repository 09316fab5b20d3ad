"""Options of methods that are no numbers, or neither yes nor no."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import Any

_KINDS: dict[str, tuple[type, str]] = {
    "bool": (bool, "True or False"),
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "None": (type(None), "None"),
}


def mistyped(method: Any) -> list[str]:
    """What is wrong with options whose types are numbers, bool or None, and nothing else.

    Args:
        method: A dataclass.
    """
    found = []
    for field in fields(method):
        kinds, value = str(field.type).split(" | "), getattr(method, field.name)
        if set(kinds) <= set(_KINDS) and not any(_is(value, kind) for kind in kinds):
            wanted = ", nor ".join(_KINDS[kind][1] for kind in kinds)
            found.append(f"{field.name} {value!r} is {'neither ' if len(kinds) > 1 else 'not '}{wanted}")
    return found


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind][0]) and (kind == "bool" or not isinstance(value, bool))
