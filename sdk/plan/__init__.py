"""Chooses target, engine and threads for a device: by the profile's order until a price exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_profiles import Accelerator, Choice, EngineRow
from device_profiles.errors import DependencyError, DeviceError, OptionError
from edgewright_export.registry import TARGETS, target_for
from edgewright_runtime.engines import installed

FORMATS = ("executorch", "onnx", "tflite")


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Args:
        target: Key of the export registry's TARGETS.
        row: The engine row of the device, or one made from an accelerator row.
        threads: Threads of the engine.
        why: One phrase.
        extra: Extra of the distribution that installs what the target needs.
        next_step: What a user runs on the exported file where we cannot run it, else ``""``.
    """

    target: str
    row: EngineRow
    threads: int
    why: str
    extra: str
    next_step: str = ""


def plan(
    choice: Choice, format: str | None, *, only: str | None = None, gains: Mapping[str, str] | None = None
) -> Plan:
    """Chooses by the order of the profile.

    Args:
        choice: The device and what was pinned.
        format: What the user asked for, or None.
        only: The one format that the model can take, or None.
        gains: By engines that come first where the device runs them, the method that they gain from.

    Raises:
        OptionError: No such format, or one that the model cannot take.
        DeviceError: The device has no engine for it.
        DependencyError: Every fitting engine is missing here.
    """
    if format is not None and format not in FORMATS:
        raise OptionError(f"no format {format!r}; there are: {', '.join(FORMATS)}")
    if only and format not in (None, only):
        raise OptionError(f"an .onnx file can only become format 'onnx', not {format!r}")
    gains = gains or {}
    rows = sorted(_rows(choice, format or only), key=lambda row: (row.status != "runs", row.name not in gains))
    missing = []
    for row in rows:
        name = target_for(row.name, row.format)
        if name is None:
            continue
        extra = TARGETS[name].extra
        absent = [package for package in TARGETS[name].packages if installed(package) is None]
        if absent:
            missing.append((row, extra, absent))
            continue
        why = _why(choice, format, missing, gains.get(row.name))
        return Plan(name, row, choice.profile.big_cores, why, extra, _next_step(choice))
    if missing:
        row, extra, absent = missing[0]
        raise DependencyError(f'{row.name} needs {", ".join(absent)}: pip install "edgewright[{extra}]"')
    raise DeviceError(f"{choice.profile.id} has no engine that this version exports for; see: edgewright devices")


def _rows(choice: Choice, format: str | None) -> list[EngineRow]:
    profile = choice.profile
    if choice.accelerator is not None:
        rows = [_accelerator_row(choice.accelerator)]
    elif choice.engine is not None:
        rows = [choice.engine]
    else:
        rows = [row for row in profile.engines if row.status != "not-used"]
    fitting = [row for row in rows if format in (None, row.format)]
    if not fitting:
        has = ", ".join(f"{row.name} ({row.format})" for row in rows) or "none"
        reasons = [f"{r.name}: {r.note}" for r in profile.engines if r.format == format and r.status == "not-used"]
        raise DeviceError("\n".join([f"{profile.id} has no engine for format {format!r}; it has: {has}", *reasons[:3]]))
    return fitting


def _accelerator_row(part: Accelerator) -> EngineRow:
    engine = "onnxruntime" if part.format == "onnx" else "litert"
    return EngineRow(engine, part.format or "", "export-only", part.note, opset_max=part.opset_max)


def _why(
    choice: Choice, format: str | None, missing: list[tuple[EngineRow, str, list[str]]], gain: str | None
) -> str:
    if choice.accelerator is not None:
        return f"pinned accelerator {choice.accelerator.name}, export only"
    if choice.engine is not None:
        return "pinned"
    skipped = "".join(f"; {row.name} comes first but needs {', '.join(absent)}" for row, _, absent in missing)
    if gain is not None:
        return f"rule: the engine of {choice.profile.id} that gains from {gain}{skipped}"
    if format is not None:
        return f"rule: first engine of {choice.profile.id} for format {format}{skipped}"
    return f"rule: first engine in the profile of {choice.profile.id}{skipped}"


def _next_step(choice: Choice) -> str:
    return choice.accelerator.command if choice.accelerator else ""
