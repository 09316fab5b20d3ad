"""The steps from a bundle to numbers from a board: look, copy, install if asked, run."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from device_profiles import DeviceProfile
from device_profiles.errors import (
    BundleError,
    DependencyError,
    DeviceError,
    EdgewrightError,
    InputError,
    OptionError,
    OutputError,
    RuntimeFailure,
)

from .board import edge_run
from .folder import Deployment, fill, stage
from .needs import Needs
from .ssh import Done, Link

_LOOK_S, _COPY_S, _INSTALL_S, _RUN_S = 60.0, 3600.0, 3600.0, 3600.0
_OLDEST_PYTHON = (3, 6)
_MACHINES = {
    "armv8": ("aarch64", "arm64"),
    "armv9": ("aarch64", "arm64"),
    "aarch64": ("aarch64", "arm64"),
    "armv7": ("armv7l", "armv8l", "aarch64"),
    "armv6": ("armv6l", "armv7l", "armv8l"),
    "x86": ("x86_64", "amd64"),
    "rv64": ("riscv64",),
    "riscv64": ("riscv64",),
}
_ERRORS: dict[int, type[EdgewrightError]] = {
    2: OptionError,
    edge_run.DAMAGED: BundleError,
    edge_run.MISSING: DependencyError,
    edge_run.INPUT: InputError,
    edge_run.ENGINE: RuntimeFailure,
    20: OutputError,
    21: OutputError,
    22: OutputError,
    23: BundleError,
}
_ADVICE = {
    20: "choose another folder with --dir",
    21: "choose a folder that you may write with --dir",
    22: "the copy is incomplete, nothing was changed; make room or choose another folder with --dir",
    23: "it arrived damaged, nothing was changed; try again",
}
_SIGNALS = {
    132: "died of an illegal instruction; a package was built for another processor, install others by install.sh",
    134: "gave up; look at what the engine said",
    137: "was ended by the board, most often for lack of memory; free some, or export a smaller model",
    139: "crashed; look at what the engine said, or try another version of it",
}
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Look:
    """What a board says about itself before anything is copied."""

    arch: str
    libc: str
    python: str
    version: str
    free_bytes: int | None
    warnings: tuple[str, ...]


def deploy_board(
    bundle: Path,
    link: Link,
    folder: str,
    *,
    photos: Sequence[Path] = (),
    install: bool = False,
    options: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Copies a bundle to a board, verifies it there, runs and times it.

    Args:
        bundle: Folder or ``.edgez`` file.
        link: The board.
        folder: Where to, as :func:`sdk.deploy.address.remote_folder` returns it.
        photos: Files on this machine to classify there, or ``.npy`` inputs.
        install: Whether to run ``install.sh`` on the board.
        options: Further options of ``edge_run.py``.
        progress: Gets one line a step.

    Returns:
        What ``edge_run.py --json`` prints, and ``board``: what the board said about itself.

    Raises:
        BundleError: The bundle is not as sealed, here or there.
        DependencyError: The engine is not installed on the board; the message has the command.
        DeviceError: The board cannot be reached or is not what the bundle was made for.
        InputError: A photo cannot be read.
        OutputError: The board's disk is full, or the folder holds something else.
        RuntimeFailure: The engine on the board refuses the bundle.
    """
    pictures = [(photo, _read(photo)) for photo in photos]
    with tempfile.TemporaryDirectory(prefix="edgewright-") as temporary:
        deployment = stage(bundle, Path(temporary))
        board = look(link, folder, deployment)
        progress(f"{link.address}: {board.arch}, {board.libc or 'C library unknown'}, Python {board.version}")
        copy(link, folder, Path(temporary), deployment)
    progress(f"copied {deployment.bytes} bytes to {folder}, every hash checked there")
    if install:
        install_there(link, folder)
        progress("installed what the bundle needs")
    told = run_there(link, folder, pictures, options)
    told["warnings"] = [*board.warnings, *told["warnings"]]
    told["board"] = {
        "address": str(link.address),
        "folder": folder,
        "arch": board.arch,
        "libc": board.libc,
        "python": board.version,
    }
    return told


def look(link: Link, folder: str, deployment: Deployment) -> Look:
    """Checks processor, C library, Python and room of a board.

    Raises:
        DependencyError: No Python 3.6 or newer, or no tar.
        DeviceError: Another processor than the bundle was made for.
        OutputError: Not enough room.
    """
    needs = deployment.needs
    script = fill(_script("board", "python.sh"), needs) + _script("remote", "probe.sh")
    done = link.run(script, folder, step="looking at the board", timeout_s=_LOOK_S)
    if done.code:
        raise _error(link, done)
    said = dict(re.findall(r"^edgewright:(\w+)=(.*)$", done.out, re.MULTILINE))
    _check_software(link, needs, said)
    _check_processor(link, needs.profile, said.get("arch", ""))
    free = int(said["free_kib"]) * 1024 if said.get("free_kib", "").isdigit() else None
    if free is not None and free < deployment.bytes:
        raise OutputError(
            f"{link.address}: {free} bytes are free for {folder}, needed are {deployment.bytes}; "
            "make room there, or choose another folder with --dir"
        )
    warnings = tuple(_libc_warnings(needs.profile, said.get("libc", "")))
    return Look(said.get("arch", ""), said.get("libc", ""), said["python"], said["version"], free, warnings)


def copy(link: Link, folder: str, staged: Path, deployment: Deployment) -> None:
    """Streams a staged deployment to the board, where it is verified before it is put in place.

    Raises:
        BundleError: It arrived damaged.
        OutputError: The disk is full, or the folder holds something else.
    """

    def send(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(staged.iterdir()):
                archive.add(path, path.name, filter=_anonymous)

    step = f"copying to {folder}"
    done = link.run(_script("remote", "upload.sh"), folder, step=step, timeout_s=_COPY_S, send=send)
    if done.code:
        raise _error(link, done)
    told = _json(link, done)
    if told.get("manifest_sha256") != deployment.sha256:
        raise BundleError(f"{link.address}: {folder} holds another bundle than the one sent; try again")


def install_there(link: Link, folder: str) -> None:
    """Runs ``install.sh`` on the board.

    Raises:
        DependencyError: It failed; the message ends with what it said.
    """
    done = link.run('sh "$1/install.sh"', folder, step="installing", timeout_s=_INSTALL_S)
    if done.code:
        raise DependencyError(f"{link.address}: install.sh in {folder} failed; log in and run it ({done.reason})")


def run_there(
    link: Link, folder: str, pictures: Sequence[tuple[Path, bytes]], options: Sequence[str]
) -> dict[str, Any]:
    """Runs a deployment on the board; see :func:`deploy_board`."""
    names = [f"{position:06d}{_suffix(photo)}" for position, (photo, _) in enumerate(pictures)]

    def send(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for name, (_, data) in zip(names, pictures, strict=True):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    script = _script("remote", "run.sh")
    done = link.run(script, folder, *options, *names, step="running there", timeout_s=_RUN_S, send=send)
    if done.code:
        raise _error(link, done, dict(zip(names, (str(photo) for photo, _ in pictures), strict=True)))
    told = _json(link, done)
    for (photo, _), result in zip(pictures, told["results"], strict=False):
        result["input"] = str(photo)
    return told


def _check_software(link: Link, needs: Needs, said: Mapping[str, str]) -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", said.get("version", "")))
    if version < _OLDEST_PYTHON:
        found = said.get("version") or "none that starts"
        raise DependencyError(f"{link.address}: needs Python 3.6 or newer, its {needs.python} is {found}")
    if not said.get("tar"):
        raise DependencyError(f"{link.address}: there is no tar on the board; install it, or use --to DIR")


def _check_processor(link: Link, profile: DeviceProfile, arch: str) -> None:
    isas = sorted({core.isa for core in profile.cores.values()})
    fitting = {name for isa in isas for prefix, names in _MACHINES.items() if isa.startswith(prefix) for name in names}
    if fitting and arch not in fitting:
        raise DeviceError(
            f"{link.address} has a processor of kind {arch!r}, the bundle is for {profile.id} ({', '.join(isas)}); "
            "export for this board, see: edgewright devices"
        )


def _libc_warnings(profile: DeviceProfile, libc: str) -> list[str]:
    wanted, found = (re.search(r"glibc\D*(\d+)\.(\d+)", text) for text in (profile.libc, libc))
    if wanted and not found:
        return [f"the board has no glibc, {profile.id} should have {profile.libc}; the engine's wheels may not install"]
    if wanted and found and tuple(map(int, found.groups())) < tuple(map(int, wanted.groups())):
        return [f"the board has {libc}, {profile.id} should have {profile.libc}; the engine's wheels may not install"]
    return []


def _error(link: Link, done: Done, names: Mapping[str, str] | None = None) -> EdgewrightError:
    reason = done.reason
    for name, photo in (names or {}).items():
        reason = reason.replace(name, photo)
    if _NO_SPACE.search(done.err):
        return OutputError(f"{link.address}: the board's disk is full, nothing was changed; make room there ({reason})")
    if done.code in _SIGNALS:
        return RuntimeFailure(f"{link.address}: the run {_SIGNALS[done.code]} ({reason})")
    kind = _ERRORS.get(done.code, DeviceError)
    if kind is DependencyError:
        reason += "; or repeat with --install"
    advice = f"; {_ADVICE[done.code]}" if done.code in _ADVICE else ""
    return kind(f"{link.address}: {reason.replace('edge_run: ', '')}{advice}")


def _json(link: Link, done: Done) -> dict[str, Any]:
    start = done.out.find("{\n")
    try:
        told: dict[str, Any] = json.loads(done.out[start:])
    except ValueError as error:
        raise DeviceError(f"{link.address}: the board's answer is not JSON; try again ({done.reason})") from error
    return told


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _suffix(photo: Path) -> str:
    return photo.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", photo.suffix) else ""


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise InputError(f"--photo {photo}: {error.strerror}") from error


def _script(folder: str, name: str) -> str:
    return (files(__package__) / folder / name).read_text(encoding="utf-8")
