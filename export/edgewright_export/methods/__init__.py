"""Edge methods: one file each, one line in ``registry.METHODS``.  They never see a file format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from device_profiles import Finding
from edgewright_runtime.bundle import Workload

from ..state import Context, State


class Method(Protocol):
    """What every method offers.  A method is a frozen dataclass whose fields are its options."""

    name: str
    needs: frozenset[str]
    """Subset of ``calibration``, ``train``, ``evaluate``."""

    def check(self, state: State, ctx: Context) -> list[Finding]:
        """What keeps it from being applied, all places at once."""

    def effect(self, workload: Workload, ctx: Context) -> Workload:
        """The workload after it, before any work is done."""

    def variants(self, workload: Workload, ctx: Context) -> Iterable[Method]:
        """What ``"auto"`` expands to."""

    def apply(self, state: State, ctx: Context) -> State:
        """The new state.  What it sets (masks, grids) is frozen for later methods."""
