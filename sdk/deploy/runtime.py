"""The native engine beside a bundle: its library for the board and the one Python file that opens it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from device_profiles import DeviceProfile
from device_profiles.errors import DeviceError, OutputError
from edgewright_runtime import native_library

ENGINE = "native"
LIBRARY = "libedgewright.so"
BINDING = "native_library.py"
TRIPLES = {
    "armv8": "aarch64-linux-gnu.2.17",
    "armv9": "aarch64-linux-gnu.2.17",
    "aarch64": "aarch64-linux-gnu.2.17",
    "x86": "x86_64-linux-gnu.2.17",
}
"""Instruction sets, by how their names begin, and what the library is built for."""


def put_runtime(profile: DeviceProfile, folder: Path) -> tuple[str, ...]:
    """Puts library and binding into a folder.

    Returns:
        The names of the files.

    Raises:
        DependencyError: What builds the library is missing here.
        DeviceError: The engine is not built for this processor.
    """
    library = runtime_library(triple_of(profile), folder / LIBRARY)
    library.chmod(0o644)
    binding = folder / BINDING
    shutil.copyfile(native_library.__file__, binding)
    binding.chmod(0o644)
    return LIBRARY, BINDING


def triple_of(profile: DeviceProfile) -> str:
    """What the library for a board is built for.

    Raises:
        DeviceError: The engine is not built for this processor.
    """
    isas = sorted({core.isa for core in profile.cores.values()})
    found = {triple for isa in isas for start, triple in TRIPLES.items() if isa.startswith(start)}
    if len(found) != 1:
        known = ", ".join(TRIPLES)
        raise DeviceError(
            f"the native engine is built for {known}; {profile.id} has {', '.join(isas) or 'unknown cores'}; "
            f"pin another engine, such as {profile.id}:onnxruntime"
        )
    return found.pop()


def runtime_library(triple: str, output: Path) -> Path:
    """Builds the engine's shared library for a platform.

    Args:
        triple: As for ``edgewright build-runtime``.
        output: Where the library goes.

    Raises:
        DependencyError: What builds it is not installed, or failed.
        OutputError: It cannot be written.
    """
    from ..build_runtime.build import build_runtime

    with tempfile.TemporaryDirectory(prefix="edgewright-") as work:
        built = build_runtime(triple, output=Path(work) / "runtime.tar.gz")
        with tarfile.open(built.path) as archive:
            (name,) = (name for name in archive.getnames() if name.endswith(f"/{built.library}"))
            member = archive.extractfile(name)
            assert member is not None
            try:
                output.write_bytes(member.read())
            except OSError as error:
                raise OutputError(f"cannot write {output}: {error.strerror}") from error
    return output
