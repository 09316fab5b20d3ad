"""Finds device profiles: ours, overlaid by the user's own folder.

The user's folder is ``$EDGEWRIGHT_DEVICES`` or ``~/.config/edgewright/devices``, with the same
``boards/`` and ``cores/`` below it; a file of the same name replaces ours.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from .errors import DeviceError
from .host import detect_host
from .record import structure
from .schema import Accelerator, Core, DeviceProfile, EngineRow

HOST = "host"
OURS = Path(__file__).parent


@dataclass(frozen=True)
class Choice:
    """What a device argument such as ``"jetson-nano:onnxruntime"`` names.

    Args:
        profile: The device.
        engine: The engine row that was pinned, or None.
        accelerator: The accelerator row that was pinned, or None.
    """

    profile: DeviceProfile
    engine: EngineRow | None = None
    accelerator: Accelerator | None = None


def devices() -> tuple[DeviceProfile, ...]:
    """All known devices, sorted by id, the detected host last."""
    boards = _boards(_user_folder())
    return (*(boards[key] for key in sorted(boards)), device(HOST))


def device(name: str) -> DeviceProfile:
    """The profile of a device.

    Args:
        name: An id or alias, in any case, without ``:engine``.

    Raises:
        DeviceError: No such device; the message lists the nearest names.
    """
    if not isinstance(name, str):
        raise DeviceError(f"device must be a string such as 'raspberry-pi-5', got {type(name).__name__}")
    boards = _boards(_user_folder())
    wanted = name.strip().lower()
    if wanted == HOST:
        return detect_host(_cores(_user_folder()))
    for profile in boards.values():
        if wanted in (profile.id, *profile.aliases):
            return profile
    known = [HOST, *boards, *(alias for profile in boards.values() for alias in profile.aliases)]
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else "see: edgewright devices"
    raise DeviceError(f"no device {name!r} among {len(boards) + 1} profiles; {hint}")


def choose(spec: str) -> Choice:
    """Resolves ``"id"`` or ``"id:pin"``.

    Raises:
        DeviceError: Unknown device or pin, or a pin whose row says ``not-used``.
    """
    name, colon, pin = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    profile = device(name)
    if not colon:
        return Choice(profile)
    for row in profile.engines:
        if row.name == pin and row.status == "not-used":
            raise DeviceError(f"{profile.id} cannot use {row.name}: {row.note}")
        if row.name == pin:
            return Choice(profile, engine=row)
    for part in profile.accelerators:
        if pin in (part.pin, part.name):
            return _pinned(profile, part)
    pins = [row.name for row in profile.engines] + [part.pin or part.name for part in profile.accelerators]
    raise DeviceError(f"{profile.id} has no engine {pin!r}; it has: {', '.join(pins) or 'none'}")


def _pinned(profile: DeviceProfile, part: Accelerator) -> Choice:
    if part.status == "not-used":
        raise DeviceError(
            f"{profile.id} has {part.name}, which Edgewright does not use; the vendor's tool for it is {part.tool}"
        )
    return Choice(profile, accelerator=part)


def _user_folder() -> Path:
    default = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "edgewright" / "devices"
    return Path(os.environ.get("EDGEWRIGHT_DEVICES", default))


@cache
def _cores(user: Path) -> dict[str, Core]:
    return {core.id: core for core in (_read(Core, path) for path in _files("cores", user))}


@cache
def _boards(user: Path) -> dict[str, DeviceProfile]:
    cores = _cores(user)
    boards: dict[str, DeviceProfile] = {}
    names: dict[str, str] = {HOST: "the detected host"}
    for path in _files("boards", user):
        profile = _with_cores(_read(DeviceProfile, path), cores, path)
        for name in (profile.id, *profile.aliases):
            if names.setdefault(name, str(path)) != str(path):
                raise DeviceError(f"{path}: the name {name!r} is taken by {names[name]}")
        boards[profile.id] = profile
    return boards


def _files(kind: str, user: Path) -> Iterator[Path]:
    found = {path.name: path for folder in (OURS, user) for path in sorted((folder / kind).glob("*.toml"))}
    yield from (found[name] for name in sorted(found))


def _read(cls: type[Any], path: Path) -> Any:
    try:
        record = structure(cls, tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise DeviceError(f"{path}: not a valid {cls.__name__} file:\n{error}") from error
    if record.id != path.stem:
        raise DeviceError(f"{path}: id is {record.id!r}, expected the file's name {path.stem!r}")
    return record


def _with_cores(profile: DeviceProfile, cores: dict[str, Core], path: Path) -> DeviceProfile:
    missing = sorted({group.core for group in profile.core_groups} - set(cores))
    if missing or not profile.core_groups:
        raise DeviceError(f"{path}: core_groups name {missing or 'no core'}; cores/ has {', '.join(cores)}")
    return replace(profile, cores={group.core: cores[group.core] for group in profile.core_groups})
