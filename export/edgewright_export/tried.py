"""What was tried on the way to a bundle, and what ``evaluate`` said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgewright_runtime.bundle.manifest import Tried

from .state import State


def figure(value: float) -> float | None:
    """A quality as it is recorded: None where it is no finite number."""
    return value if math.isfinite(value) else None


def quality_as_given(state: State) -> float | None:
    """What ``evaluate`` returned on the module as it was given; None: nobody asked it yet."""
    return state.tried[0].quality if state.tried else None


def kept_float(state: State, why: str) -> State:
    """The state as it is, after all: none of what was tried is chosen.

    Args:
        state: Float, with what was tried.
        why: One line for its changes.
    """
    tried = [replace(one, chosen=False) for one in state.tried]
    if state.module is state.reference:
        tried[:1] = [replace(one, chosen=True) for one in tried[:1]]
    else:
        tried += [
            replace(one, what="float32, as it was before", quality=None, evaluated=None, chosen=True)
            for one in tried[:1]
        ]
    return replace(state, changes=(*state.changes, why), tried=tuple(tried))


def with_qualities(tried: Sequence[Tried], before: float, after: float) -> tuple[Tried, ...]:
    """With what ``evaluate`` returned in the end, where nothing was known.

    Args:
        tried: First the module as it was given.
        before: The quality of that.
        after: Of the files.
    """
    found = [replace(one, quality=before, evaluated="module") if i == 0 else one for i, one in enumerate(tried)]
    return tuple(
        replace(one, quality=after, evaluated="files") if one.chosen and one.evaluated is None else one for one in found
    )
