"""The fields of a device profile: one TOML file a board, one a core.

Units live in the names.  ``status`` of an engine or accelerator row is one of

* ``runs``: Edgewright's bundles run there,
* ``export-only``: a file for it can be written, nobody ran it,
* ``not-used``: the part is present and stays idle; pinning it is a DeviceError that names ``tool``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["runs", "export-only", "not-used"]
Kind = Literal["board", "phone", "browser", "pc"]


@dataclass(frozen=True)
class Core:
    """A processor core design (``cores/<id>.toml``)."""

    id: str
    name: str
    isa: str
    """Instruction set: ``armv8.0-a``, ``armv8.2-a``, ``x86-64-v3``, ``wasm32``, ..."""
    features: tuple[str, ...]
    """CPU features by their Linux hwcap names (``asimd``, ``asimddp``, ``i8mm``, ``avx2``, ...)."""
    vector_bits: int
    fp32_macs_per_cycle: float
    """Peak fp32 multiply-adds a cycle of one core."""
    int8_macs_per_cycle: float
    out_of_order: bool
    sources: dict[str, str]
    notes: str = ""


@dataclass(frozen=True)
class CoreGroup:
    """Cores of one kind that share a clock."""

    core: str
    count: int
    clock_hz: int
    """Highest clock."""
    l1d_bytes: int | None = None
    """Per core."""
    l2_bytes: int | None = None
    """Per core or shared by the group, as ``l2_shared`` says."""
    l2_shared: bool = True


@dataclass(frozen=True)
class Memory:
    """Main memory.  ``dram_bytes`` lists the sizes that are sold."""

    dram_bytes: tuple[int, ...]
    bandwidth_bytes_per_s: int | None = None
    l3_bytes: int | None = None
    kind: str = ""


@dataclass(frozen=True)
class EngineRow:
    """An engine on this device, in order of preference."""

    name: str
    format: str
    status: Status
    note: str
    max_version: str | None = None
    install: str = ""
    """What the board must install, as one shell command; empty if nothing."""
    opset_max: int | None = None
    ir_version_max: int | None = None
    weight_bits: tuple[int, ...] = (32, 16, 8, 4, 3, 2)
    weight_qmax: int = 127
    """Largest absolute int8 weight that the kernels of this engine on this core multiply exactly."""


@dataclass(frozen=True)
class Accelerator:
    """A GPU, NPU or DSP of the device."""

    name: str
    status: Status
    tool: str
    """The vendor's tool that serves it."""
    note: str = ""
    format: str | None = None
    opset_max: int | None = None
    pin: str | None = None
    """What follows the colon to pin it: ``jetson-nano:tensorrt``."""
    command: str = ""
    """The command that a user runs on the exported file."""


@dataclass(frozen=True)
class DeviceProfile:
    """A board, phone, browser or computer that a model can be exported for."""

    id: str
    name: str
    kind: Kind
    soc: str
    core_groups: tuple[CoreGroup, ...]
    memory: Memory
    engines: tuple[EngineRow, ...]
    os: str
    libc: str
    sources: dict[str, str]
    """Where each number comes from: a path such as ``core_groups.clock_hz`` or its prefix to a citation."""
    aliases: tuple[str, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    python: str = ""
    thermal: str = ""
    notes: str = ""
    cores: dict[str, Core] = field(default_factory=dict)
    """Filled in at load: the designs that ``core_groups`` names."""

    @property
    def features(self) -> tuple[str, ...]:
        """CPU features that every core of the device has."""
        sets = [set(self.cores[group.core].features) for group in self.core_groups]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    @property
    def is_arm(self) -> bool:
        """Whether every core has NEON."""
        return "asimd" in self.features

    @property
    def big_cores(self) -> int:
        """How many cores the fastest group has: the default number of threads."""
        return max(self.core_groups, key=lambda group: group.clock_hz).count
