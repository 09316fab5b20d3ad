"""C programs of this folder, built for this machine with the library that Python uses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edgewright_runtime import native_library

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "runtime" / "native"


def build(name: str, folder: Path, *more: str, library: Path | None = None) -> Path:
    """Builds ``name.c``.

    Args:
        name: Of the source, without its suffix.
        folder: Where the program is put.
        more: Flags, and other sources; they may include headers of the engine.
        library: Another one than Python's.

    Returns:
        The program.
    """
    library, program = library or Path(native_library.library_path()), folder / name
    command = [os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}", str(HERE / f"{name}.c"), *more, str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}", "-lm", "-lpthread", "-o", str(program)], check=True)
    return program


def run(program: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; where the address sanitizer watches, it looks for leaks, which it does not in Python."""
    changed = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", **environment}
    return subprocess.run([str(program), *map(str, arguments)], env=changed, capture_output=True, text=True)
