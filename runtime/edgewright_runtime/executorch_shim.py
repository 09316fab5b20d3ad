"""``runtime/shims/executorch.cpp`` for the ExecuTorch that is installed: compiled once, kept in the user's cache.

ExecuTorch's delegates are C++ classes, which only its own headers describe.  The result is linked with its library and ours
by their names, so that it finds those that the process has loaded, and nothing else in the process sees their symbols.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from device_profiles.errors import DependencyError

from .engines import installed
from .sources import source_folder

_SOURCE = "runtime/shims/executorch.cpp"
_INCLUDED = ("runtime/shims/subgraph.h", "runtime/native/include/edgewright.h")
_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-DC10_USING_CUSTOM_GENERATED_MACROS",
)
_HEADERS = ("include", "include/executorch/runtime/core/portable_type/c10")
_COMPILERS = ("c++", "g++", "clang++")
_SHOWN_LINES = 15
_WHAT = "edgewright::Subgraph for executorch"
_delegate: Any = None


def load(library: str) -> None:
    """Registers the delegate for as long as the process lives.

    Args:
        library: Path of our library.

    Raises:
        DependencyError: There is no C++ compiler, or what it makes cannot be used.
    """
    global _delegate
    if _delegate is not None:
        return
    from executorch.extension.pybindings import _portable_lib

    path = _compiled(Path(library), Path(_portable_lib.__file__))
    try:
        ctypes.CDLL(library)
        opened = ctypes.CDLL(str(path))
    except OSError as error:
        raise DependencyError(f"{_WHAT} cannot be loaded: {error}; remove {path}") from error
    opened.edge_executorch_error.restype = ctypes.c_char_p
    _delegate = opened


def explain(error: Exception) -> str:
    """The delegate's sentence where an exception of ExecuTorch on this thread comes from it, else its own."""
    said = _delegate.edge_executorch_error().decode(errors="replace") if _delegate is not None else ""
    return f"edgewright::Subgraph: {said}" if said else str(error)


def _compiled(library: Path, bindings: Path) -> Path:
    """The shared library for these bindings, compiled if it is not there."""
    sources = [source_folder() / name for name in (_SOURCE, *_INCLUDED)]
    told = (installed("executorch") or "", bindings.name, *_FLAGS)
    key = hashlib.sha256("\0".join([*told, *(path.read_text(encoding="utf-8") for path in sources)]).encode())
    target = _cache() / f"executorch-{key.hexdigest()[:32]}.so"
    if not target.exists():
        package = bindings.parents[2]
        folders = [f"-isystem{package / name}" for name in _HEADERS]
        folders += [f"-I{path.parent}" for path in sources[1:]]
        _compile([*_FLAGS, *folders, str(sources[0]), str(bindings), str(library)], target)
    return target


def _compile(arguments: list[str], target: Path) -> None:
    command = _compiler()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="compile-", dir=target.parent) as work:
            made = Path(work) / target.name
            done = subprocess.run([*command, *arguments, "-o", str(made)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                made.replace(target)
    except OSError as error:
        hint = "$CXX chooses the compiler, $XDG_CACHE_HOME the cache"
        raise DependencyError(f"{_WHAT} cannot be compiled: {error}; {hint}") from error
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[:_SHOWN_LINES])
        raise DependencyError(f"{_WHAT}: {command[0]} ended with {done.returncode}; $CXX chooses another\n{said}")


def _compiler() -> list[str]:
    """The command of ``$CXX``, else the first that there is."""
    given = shlex.split(os.environ.get("CXX", ""))
    found = next((name for name in (given[:1] or _COMPILERS) if shutil.which(name)), None)
    if found is None:
        tried = ", ".join(given[:1] or _COMPILERS)
        fix = "install one (Debian: apt-get install g++) or name it in $CXX"
        raise DependencyError(f"{_WHAT} is compiled on this machine, which has no C++ compiler: tried {tried}; {fix}")
    return given or [found]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgewright"
