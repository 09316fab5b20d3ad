"""Resolves ``package.module:callable`` arguments of the command line."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click


def resolve(text: str) -> Any:
    """The object that ``package.module:attribute`` names; modules in the working directory count.

    Raises:
        click.UsageError: No such module or attribute.
    """
    module, colon, attribute = text.partition(":")
    if not colon or not module or not attribute:
        raise click.UsageError(f"{text!r} is not of the form package.module:callable")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        value = import_module(module)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"cannot import {module!r}: {error}") from error
    for name in attribute.split("."):
        if not hasattr(value, name):
            known = sorted(n for n in vars(value) if not n.startswith("_"))
            shown = difflib.get_close_matches(name, known, 3) or known[:8]
            raise click.UsageError(f"{module} has no {attribute!r}; it has {', '.join(shown)}")
        value = getattr(value, name)
    return value


def called(text: str | None) -> Any:
    """The object, called if it is callable; None for None."""
    if text is None:
        return None
    value = resolve(text)
    return value() if callable(value) else value


def model(text: str) -> Any:
    """A model argument: a ``.pt2`` or ``.onnx`` path, or ``package.module:callable`` that returns a module.

    Raises:
        click.UsageError: Neither.
    """
    if text.endswith((".pt2", ".onnx")):
        return text
    value = resolve(text)
    is_module = hasattr(value, "state_dict") and not isinstance(value, type)
    return value if is_module else value()
