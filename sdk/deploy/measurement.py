"""Keeps what a board measured beside the bundle, where the predictor finds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_profiles.errors import OptionError, OutputError
from device_profiles.record import unstructure
from edgewright_runtime.bundle import Measurement
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.bundle.seal import MEASUREMENTS


def measurement_of(told: Mapping[str, Any]) -> Measurement:
    """The record of what ``edge_run.py --json`` printed."""
    return Measurement(
        manifest_sha256=told["manifest_sha256"],
        device=told["device"],
        engine=told["engine"],
        engine_version=told["engine_version"],
        threads=told["threads"],
        samples_s=tuple(told["samples_s"]),
        ops={},
        peak_memory_bytes=told["peak_memory_bytes"],
        throttled=told["throttled"],
        kind="measured",
        machine=told["machine"],
        versions=told["versions"],
        commit="",
        date=told["date"],
    )


def check_saveable(bundle: Path) -> None:
    """Refuses a packed bundle before any work is done.

    Raises:
        OptionError: The bundle is an ``.edgez`` file, which cannot be added to.
    """
    if bundle.is_file():
        raise OptionError(f"--save writes beside the bundle's core, {bundle} is one file; deploy the folder instead")


def save_measurement(told: Mapping[str, Any], bundle: Path) -> Path:
    """Writes a record into the bundle's ``measurements/``.

    Returns:
        Its path.

    Raises:
        OutputError: It cannot be written.
    """
    record = measurement_of(told)
    moment = re.sub(r"[^0-9T]", "", record.date.partition("+")[0])
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{record.device}-{record.engine}-{record.threads}t-{moment}")
    path = bundle / MEASUREMENTS / f"{name}.json"
    text = json.dumps(unstructure(record), indent=2, sort_keys=True, ensure_ascii=False)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    write_file(path, text.encode() + b"\n")
    return path
