"""A folder as ``.tar.gz``: the same files give the same bytes, whoever packs them, when and where."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from edgewright_runtime.bundle.paths import write_file


def write_archive(folder: Path, name: str, output: Path) -> None:
    """Packs every file of a folder.

    Args:
        folder: Whose files.
        name: The one folder that the archive unpacks to.
        output: The archive; replaced as a whole.

    Raises:
        OutputError: It cannot be written.
    """
    write_file(output, gzip.compress(_tar(folder, name), 9, mtime=0))


def _tar(folder: Path, name: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
            data = path.read_bytes()
            info.size, info.mode = len(data), 0o755 if path.suffix == ".so" else 0o644
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()
