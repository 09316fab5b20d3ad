"""Seals a folder into a bundle, and opens one only if every byte of its core is as sealed."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from device_profiles.errors import BundleError, OutputError

from . import pack
from .lowered import Lowered
from .manifest import CHUNK_BYTES, CoreFile, Manifest, digest
from .paths import put_in_place, sync_tree

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
REPORT = "report.html"
MEASUREMENTS = "measurements"
MANIFEST_MAX_BYTES = 64 << 20


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
    temporary: tempfile.TemporaryDirectory[str] | None = None

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
        OutputError: The disk is full, or the path cannot be written.
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
        check: Whether to hash every core file.  The list of files and the manifest's own hash are
            always checked.

    Raises:
        BundleError: Anything is not as sealed.
    """
    if path.is_dir():
        return _open_folder(path, check, None)
    if not path.exists():
        raise BundleError(f"no bundle at {path}")
    temporary = tempfile.TemporaryDirectory(prefix="edgewright-")
    try:
        pack.unpack(path, Path(temporary.name))
        return _open_folder(Path(temporary.name), check, temporary)
    except BaseException:
        temporary.cleanup()
        raise


def _open_folder(folder: Path, check: bool, temporary: tempfile.TemporaryDirectory[str] | None) -> Opened:
    data = _read_small(folder, MANIFEST)
    written = _read_small(folder, MANIFEST_HASH)
    actual = digest(data)
    if written != actual.encode() + b"\n":
        raise BundleError(f"{folder}: manifest.json does not match manifest.sha256; the bundle is damaged, export again")
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
    problems = [f"{name!r} leaves the bundle" for name in manifest.files if not is_inside(name)]
    reserved = {MANIFEST, MANIFEST_HASH, REPORT}
    problems += [f"{name!r} cannot be a core file" for name in manifest.files if name in reserved]
    referred = {entry.file for entry in manifest.entries.values()} | {s.file for s in manifest.segments}
    referred |= {manifest.labels} if manifest.labels else set()
    problems += [f"{name!r} is used but not listed" for name in sorted(referred - set(manifest.files))]
    if "main" not in manifest.entries:
        problems.append("there is no entry 'main'")
    if problems:
        return problems
    present = _plain_files(folder, problems)
    allowed = reserved | set(manifest.files)
    problems += [f"{name} is missing" for name in sorted(set(manifest.files) - present)]
    extra = (name for name in present - allowed if not name.startswith(f"{MEASUREMENTS}/"))
    return problems + [f"{name} is not listed" for name in sorted(extra)]


def is_inside(name: str) -> bool:
    """Whether a manifest's file name is relative, normal and stays in the folder."""
    path = PurePosixPath(name)
    plain = bool(name) and not path.is_absolute() and ".." not in path.parts and str(path) == name
    return plain and "\\" not in name and "\0" not in name and ":" not in name


def _plain_files(folder: Path, problems: list[str]) -> set[str]:
    found = set()
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(folder).as_posix()
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                problems.append(f"{relative} is a link or device, not a plain file")
    return found


def _content_problems(folder: Path, name: str, core: CoreFile) -> list[str]:
    path = folder / name
    with suppress(OSError):
        size = path.stat().st_size
        if size != core.bytes:
            return [f"{name} has {size} bytes, sealed were {core.bytes}"]
        actual = core_file(path)
        if actual.sha256 != core.sha256:
            return [f"{name} has changed"]
        return [] if actual == core else [f"{name}: its chunk hashes do not match"]
    return [f"{name} cannot be read"]
