"""CMake with the compiler of the ziglang package, which brings headers and C libraries of every platform."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from device_profiles.errors import DependencyError
from edgewright_runtime.engines import installed

from .triples import Triple

PACKAGES = ("cmake", "ninja", "ziglang")
"""What the extra ``build`` installs."""
_SHOWN_LINES = 15
_CHANGE_THE_BUILD = ("CFLAGS", "CPPFLAGS", "LDFLAGS", "DESTDIR", "CMAKE_BUILD_TYPE")


@dataclass(frozen=True)
class Toolchain:
    """CMake, made to build for one platform.

    Args:
        cmake: The program.
        arguments: What its configure step needs.
        environment: Of every step.
    """

    cmake: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *arguments: str) -> None:
        """One step of CMake.

        Raises:
            DependencyError: It failed; the message ends with what it said last.
        """
        command = [str(self.cmake), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SHOWN_LINES:])
            raise DependencyError(f"cmake {arguments[0]} ended with {done.returncode}:\n{said}")


def make_toolchain(triple: Triple, folder: Path) -> Toolchain:
    """Writes compiler wrappers and a toolchain file into a folder.

    Raises:
        DependencyError: A package is missing, or the system has no POSIX shell.
    """
    missing = [name for name in PACKAGES if not installed(name)]
    if missing:
        raise DependencyError(f'build-runtime needs {", ".join(missing)}: pip install "edgewright[build]"')
    if os.name != "posix":
        raise DependencyError("build-runtime runs on Linux and macOS; on Windows use it inside WSL")
    tools = {
        "CMAKE_C_COMPILER": _tool(folder / "cc", f"cc -target {triple.target}"),
        "CMAKE_AR": _tool(folder / "ar", "ar"),
        "CMAKE_RANLIB": _tool(folder / "ranlib", "ranlib"),
    }
    lines = [f"set(CMAKE_SYSTEM_NAME {triple.system})", f"set(CMAKE_SYSTEM_PROCESSOR {triple.processor})"]
    lines += [f'set({name} "{path}")' for name, path in tools.items()]
    lines += ["set(CMAKE_C_FLAGS_INIT -g0)", "set(CMAKE_SHARED_LINKER_FLAGS_INIT -s)"]
    toolchain = folder / "toolchain.cmake"
    toolchain.write_text("\n".join([*lines, ""]), encoding="utf-8")
    generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_program('ninja', 'BIN_DIR')}")
    return Toolchain(
        _program("cmake", "CMAKE_BIN_DIR"),
        (*generator, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", *(f"-D{entry}" for entry in triple.cache)),
        {**_environment(), "ZIG_LOCAL_CACHE_DIR": str(folder / "cache")},
    )


def _environment() -> dict[str, str]:
    """The caller's, without what CMake would add to the build."""
    return {name: value for name, value in os.environ.items() if name not in _CHANGE_THE_BUILD}


def _tool(path: Path, command: str) -> Path:
    """CMake wants one file for each tool."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {command} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def _program(package: str, attribute: str) -> Path:
    return Path(getattr(import_module(package), attribute)) / package
