"""A bundle as one file: a zip with stored, 64-byte aligned entries (``.edgez``)."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from device_profiles.errors import BundleError, OutputError

from .consistency import is_inside
from .paths import remove_stale, sync_folder

ALIGNMENT = 64
_EXTRA_ID = 0xED6E
_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, files: Iterable[str], output: Path) -> None:
    """Writes files into one archive; same files, same bytes.

    Args:
        folder: The bundle.
        files: Names relative to it, in the order they are stored.
        output: The ``.edgez`` file; replaced as a whole.

    Raises:
        OutputError: It cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        remove_stale(output)
        with open(temporary, "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
                for name in files:
                    _store(archive, raw, name, (folder / name).read_bytes())
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, output)
        sync_folder(output.parent)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _store(archive: zipfile.ZipFile, raw: io.BufferedWriter, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system, info.external_attr = 3, 0o100644 << 16
    start = raw.tell() + _LOCAL_HEADER_BYTES + len(name.encode())
    if len(data) * 1.05 > zipfile.ZIP64_LIMIT:  # zipfile's own rule for appending a zip64 field to ours
        start += _ZIP64_EXTRA_BYTES
    room = -(start + 4) % ALIGNMENT
    info.extra = struct.pack("<HH", _EXTRA_ID, room) + bytes(room)
    archive.writestr(info, data)


def unpack(path: Path, folder: Path) -> None:
    """Writes the entries of an ``.edgez`` below an empty folder.

    Raises:
        BundleError: Not such an archive: damaged, compressed, names that repeat or leave the folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [info.filename for info in entries]
            if len(set(names)) != len(names):
                raise BundleError(f"{path}: an entry occurs twice")
            if sum(info.file_size for info in entries) > path.stat().st_size:
                raise BundleError(f"{path}: the entries are larger than the file")
            for info in entries:
                if not is_inside(info.filename) or not _is_stored(info):
                    raise BundleError(f"{path}: entry {info.filename!r} is not a stored file inside the bundle")
                target = folder / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, ValueError, OverflowError) as error:
        raise BundleError(f"{path} is not an .edgez archive: {error}") from error
    except OSError as error:
        raise BundleError(f"cannot unpack {path}: {error.strerror or error}") from error


def _is_stored(info: zipfile.ZipInfo) -> bool:
    encrypted = info.flag_bits & 1
    return info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size and not encrypted
