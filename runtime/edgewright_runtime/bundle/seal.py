"""Seals a folder into a bundle, and opens one only if every byte of its core is as sealed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from device_profiles.errors import BundleError, OutputError

from . import pack
from .consistency import contradictions
from .lowered import Lowered
from .manifest import CHUNK_BYTES, CoreFile, Manifest, digest
from .paths import is_partial, put_in_place, sync_tree

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
REPORT = "report.html"
MEASUREMENTS = "measurements"
MANIFEST_MAX_BYTES = 64 << 20


class Unpacked:
    """A temporary folder that is removed with the last reference to this object."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="edgewright-")
        self.cleanup = weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


@dataclass(frozen=True)
class Opened:
    """A bundle that is open for reading.

    Args:
        folder: Where its files lie.
        manifest: What it says.
        manifest_sha256: Its identity.
        temporary: Keeps the unpacked files of an ``.edgez`` alive; None for a folder.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    temporary: Unpacked | None = None

    @property
    def lowered(self) -> Lowered:
        """The files as an engine opens them."""
        manifest = self.manifest
        return Lowered(
            folder=self.folder,
            format=manifest.format,
            engine=manifest.engine.name,
            files=tuple(manifest.files),
            entries=manifest.entries,
            versions=manifest.versions,
            requires=manifest.engine.requires,
        )


def seal(folder: Path, manifest: Manifest, files: Iterable[str], output: Path) -> Manifest:
    """Hashes the core files, writes the manifest, its hash last, and moves the folder to ``output``.

    Args:
        folder: Holds the core files and nothing else.
        manifest: Complete but for ``files``.
        files: Core files relative to ``folder``.
        output: Where the bundle goes; an older bundle there is replaced in one step.

    Returns:
        The manifest as written.

    Raises:
        OutputError: The disk is full, the path cannot be written, or a number of the manifest is
            NaN or infinite.
    """
    try:
        sealed = replace(manifest, files={name: core_file(folder / name) for name in sorted(files)})
        data = sealed.to_json()
        (folder / MANIFEST).write_bytes(data)
        (folder / MANIFEST_HASH).write_text(digest(data) + "\n", encoding="ascii")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        sync_tree(folder)
    except OSError as error:
        raise OutputError(f"cannot write the bundle {output}: {error.strerror}") from error
    except ValueError as error:
        raise OutputError(f"cannot write the bundle {output}: its manifest is not JSON: {error}") from error
    put_in_place(folder, output)
    return sealed


def core_file(path: Path) -> CoreFile:
    """Length, hash and chunk hashes of a file, read once."""
    whole, chunks, size = hashlib.sha256(), [], 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
            chunks.append(digest(chunk))
            size += len(chunk)
    return CoreFile(size, whole.hexdigest(), tuple(chunks))


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like a bundle: replacing it loses nothing that is not ours."""
    return (path / MANIFEST).is_file() and (path / MANIFEST_HASH).is_file()


def open_bundle(path: Path, *, check: bool = True) -> Opened:
    """Opens a bundle, folder or packed.

    Args:
        path: A folder, or an ``.edgez`` file, which is unpacked into a temporary folder.
        check: Whether to hash every core file.  The list of files, their lengths and the manifest's
            own hash are always checked.

    Raises:
        BundleError: Anything is not as sealed.
    """
    try:
        if path.is_dir():
            return _open_folder(path, check, None)
        if not path.is_file():
            raise BundleError(f"no bundle at {path}" if not path.exists() else f"{path} is neither a folder nor a file")
        temporary = Unpacked()
    except OSError as error:
        raise BundleError(f"cannot open the bundle {path}: {error.strerror}") from error
    try:
        pack.unpack(path, Path(temporary.name))
        return _open_folder(Path(temporary.name), check, temporary)
    except BaseException:
        temporary.cleanup()
        raise


def _open_folder(folder: Path, check: bool, temporary: Unpacked | None) -> Opened:
    data = _read_small(folder, MANIFEST)
    written = _read_small(folder, MANIFEST_HASH)
    actual = digest(data)
    if written != actual.encode() + b"\n":
        raise BundleError(f"{folder}: manifest.json does not match manifest.sha256: damaged, export again")
    manifest = Manifest.from_json(data)
    problems = _listing_problems(folder, manifest)
    if not problems and check:
        problems = [text for name, core in manifest.files.items() for text in _content_problems(folder, name, core)]
    if problems:
        raise BundleError(f"{folder} is not as sealed: {'; '.join(problems[:8])}")
    return Opened(folder, manifest, actual, temporary)


def _read_small(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BundleError(f"{path} is not a plain file")
        if path.stat().st_size > MANIFEST_MAX_BYTES:
            raise BundleError(f"{path} is larger than {MANIFEST_MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: {name}: {error.strerror}") from error


def _listing_problems(folder: Path, manifest: Manifest) -> list[str]:
    problems = contradictions(manifest, (MANIFEST, MANIFEST_HASH, REPORT, MEASUREMENTS))
    if problems:
        return problems
    present = _plain_files(folder, problems)
    core = manifest.files
    problems += [f"{name} is missing" for name in sorted(core.keys() - present.keys())]
    problems += [
        f"{name} has {size} bytes, sealed were {core[name].bytes}"
        for name, size in sorted(present.items())
        if name in core and size != core[name].bytes
    ]
    extra = (name for name in present if name not in core and not _is_beside(name))
    return problems + [f"{name} is not listed" for name in sorted(extra)]


def _is_beside(name: str) -> bool:
    first, _, rest = name.partition("/")
    if rest:
        return first == MEASUREMENTS
    return name in (MANIFEST, MANIFEST_HASH, REPORT) or is_partial(name, REPORT)


def _plain_files(folder: Path, problems: list[str]) -> dict[str, int]:
    """Size of every plain file by its name; links, devices and pipes go to ``problems``."""
    found = {}
    for root, folders, names in os.walk(folder, onerror=lambda error: problems.append(f"cannot be listed: {error}")):
        for name in (*folders, *names):
            relative = Path(root, name).relative_to(folder).as_posix()
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(root, name))
                if stat.S_ISREG(status.st_mode):
                    found[relative] = status.st_size
                elif not stat.S_ISDIR(status.st_mode):
                    problems.append(f"{relative} is a link or device, not a plain file")
    return found


def _content_problems(folder: Path, name: str, core: CoreFile) -> list[str]:
    path = folder / name
    with suppress(OSError):
        actual = core_file(path)
        if actual.sha256 != core.sha256:
            return [f"{name} has changed"]
        return [] if actual == core else [f"{name}: its chunk hashes do not match"]
    return [f"{name} cannot be read"]
