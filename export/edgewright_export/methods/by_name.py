"""Layers by the names and patterns that users give."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from typing import Any

from device_profiles import Finding


def names(given: Any) -> tuple[Any, ...]:
    """One name or several as a tuple; a number is the name of a module in a ``torch.nn.Sequential``."""
    several = given if isinstance(given, (tuple, list)) else (given,)
    return tuple(str(name) if type(name) is int else name for name in several)


def are_names(given: Sequence[Any]) -> bool:
    """Whether all of these can be names or patterns."""
    return all(isinstance(pattern, str) and pattern for pattern in given)


def is_named(path: str, patterns: Sequence[str]) -> bool:
    """Whether a module is one that a pattern names, or inside of one."""
    parts = path.split(".")
    inside = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatch.fnmatchcase(place, pattern) for pattern in patterns for place in inside)


def unmatched(option: str, patterns: Sequence[str], paths: Sequence[str]) -> list[Finding]:
    """The patterns of an option that name none of the layers."""
    return [_nowhere(option, p, paths) for p in patterns if not any(is_named(path, (p,)) for path in paths)]


def _nowhere(option: str, pattern: str, paths: Sequence[str]) -> Finding:
    close = difflib.get_close_matches(pattern, paths, 3, 0.3) or paths[:3]
    reason = f"{option} pattern {pattern!r} matches no layer"
    return Finding("", "", "", reason, f"there are, for example: {', '.join(close)}")
