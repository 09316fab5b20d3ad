"""What methods write beside the module and targets realise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Annotation:
    """Base of all annotations.  A method defines its own subclass; a target names those it realises."""


Annotations = Mapping[str, tuple[Annotation, ...]]
"""By qualified module path in the user's model."""
