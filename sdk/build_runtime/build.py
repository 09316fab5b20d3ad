"""From the engine's sources to an archive."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from device_profiles.errors import OutputError
from edgewright_runtime.sources import source_folder

from .archive import write_archive
from .toolchain import make_toolchain
from .triples import find_triple
from .web import build_web


@dataclass(frozen=True)
class Built:
    """An archive that was built.

    Args:
        path: The archive.
        triple: The platform.
        bytes: Size of the archive.
        library: The library's file in it.
        library_bytes: Its size.
        sha256: Hash of the archive.
    """

    path: Path
    triple: str
    bytes: int
    library: str
    library_bytes: int
    sha256: str


def build_runtime(triple: str, *, output: Path | None = None) -> Built:
    """Builds the native engine for a platform and packs it as an app of that platform takes it.

    Args:
        triple: A name in :data:`~sdk.build_runtime.triples.TRIPLES`.
        output: The archive; None: ``edgewright-<version>-<triple>.tar.gz`` in the working folder.

    Raises:
        OptionError: There is no such triple.
        DependencyError: What builds it is not installed, or failed.
        OutputError: The archive cannot be written.
    """
    import sdk

    row, name = find_triple(triple), f"edgewright-{sdk.__version__}-{triple}"
    path = (output or Path(f"{name}.tar.gz")).absolute()
    _check_output(path)
    native = source_folder() / "runtime" / "native"
    with tempfile.TemporaryDirectory(prefix="edgewright-") as work:
        made, installed = str(Path(work, "build")), Path(work, "installed")
        toolchain = make_toolchain(row, Path(work))
        if row.package == "npm":
            build_web(toolchain, source_folder(), Path(made), installed)
        else:
            toolchain.run("-S", str(native), "-B", made, "-DCMAKE_INSTALL_LIBDIR=lib", *toolchain.arguments)
            toolchain.run("--build", made)
            toolchain.run("--install", made, "--prefix", str(installed))
        library_bytes = (installed / row.library).stat().st_size
        write_archive(installed, name, path)
    content = path.read_bytes()
    return Built(path, triple, len(content), row.library, library_bytes, hashlib.sha256(content).hexdigest())


def _check_output(path: Path) -> None:
    """Before minutes of work."""
    if not path.name.endswith(".tar.gz"):
        raise OutputError(f"output {path.name!r} must end in .tar.gz")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; choose another output")
