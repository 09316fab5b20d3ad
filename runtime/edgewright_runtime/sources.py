"""Where the sources of what is compiled on the user's machine lie."""

from __future__ import annotations

from pathlib import Path

from device_profiles.errors import DependencyError


def source_folder() -> Path:
    """The folder that holds ``runtime/native``, ``runtime/shims`` and ``kernels_arm``: the checkout, or what an
    installation brought.

    Raises:
        DependencyError: There are no sources.
    """
    package = Path(__file__).parent
    for folder in (package / "source", package.parents[1]):
        if (folder / "runtime" / "native" / "CMakeLists.txt").is_file():
            return folder
    raise DependencyError(f"the engine's sources are not beside {package}; install edgewright again")
