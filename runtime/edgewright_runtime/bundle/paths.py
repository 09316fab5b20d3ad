"""Writing so that a crash leaves the old thing or none: temporary name, fsync, rename."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_profiles.errors import OutputError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PARTIAL = ".partial"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def partial_folder(output: Path) -> Iterator[Path]:
    """A new empty folder beside ``output`` for unfinished work; removed at exit if still there.

    Folders that killed processes left there for the same output are removed first.

    Raises:
        OutputError: The parent is missing or not writable, or the work inside found no room.
    """
    parent = output.parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {output}: the folder {parent} does not exist; create it first")
    remove_stale(output)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.{os.getpid()}.", suffix=_PARTIAL, dir=parent))
    except OSError as error:
        raise OutputError(f"cannot write in {parent}: {error.strerror}") from error
    try:
        yield folder
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OutputError(f"cannot write {output}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(output: Path) -> None:
    """Removes what killed processes left unfinished beside ``output``."""
    prefix = f".{output.name}."
    for path in output.parent.glob(f"{glob.escape(prefix)}*{_PARTIAL}"):
        pid = path.name.removeprefix(prefix).partition(".")[0]
        if not (pid.isascii() and pid.isdigit()) or _alive(int(pid)):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def is_partial(name: str, output: str) -> bool:
    """Whether a file name is that of unfinished work on a file named ``output`` in the same folder."""
    return name.startswith(f".{output}.") and name.endswith(_PARTIAL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_file(path: Path, data: bytes) -> None:
    """Replaces a file as a whole: temporary name beside it, fsync, rename.

    Raises:
        OutputError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        remove_stale(path)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_tree(folder: Path) -> None:
    """Forces every file and folder below ``folder`` to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Forces a folder's own entries to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put_in_place(folder: Path, output: Path) -> None:
    """Moves a finished folder to ``output``; whatever stands there is exchanged in one step.

    Raises:
        OutputError: The move failed; ``output`` is as it was.
    """
    try:
        if not output.exists():
            os.rename(folder, output)
        elif not _exchange(folder, output):
            _step_aside(folder, output)
        sync_folder(output.parent)
    except OSError as error:
        raise OutputError(f"cannot put the bundle at {output}: {error.strerror}") from error


def _exchange(left: Path, right: Path) -> bool:
    """Swaps two paths atomically; False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def _step_aside(folder: Path, output: Path) -> None:
    old = folder.with_name(f"{folder.name.removesuffix(_PARTIAL)}.old{_PARTIAL}")
    os.rename(output, old)
    try:
        os.rename(folder, output)
    except OSError:
        os.rename(old, output)
        raise
    shutil.rmtree(old, ignore_errors=True)
