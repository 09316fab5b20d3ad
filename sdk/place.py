"""Where a bundle goes, judged before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

from device_profiles.errors import OutputError
from edgewright_runtime.bundle.seal import is_bundle


def output_path(output: str | Path | None, model: str, device: str) -> Path:
    """The absolute path of the bundle.

    Raises:
        OutputError: Something that is not a bundle stands there, or the folder cannot be written.
    """
    path = Path(output) if output is not None else Path(f"{model}-{device}.edge")
    path = path.absolute()
    if not path.name.endswith(".edge"):
        raise OutputError(f"output {path.name!r} must end in .edge; pack it into one file afterwards: edgewright pack")
    if path.is_symlink() or path.is_file():
        raise OutputError(f"{path} exists and is not a bundle folder; choose another output or remove it")
    if path.is_dir() and any(path.iterdir()) and not is_bundle(path):
        raise OutputError(f"{path} is a folder that holds other files; choose another output")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {path.parent} is not writable")
    return path
