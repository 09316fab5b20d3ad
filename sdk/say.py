"""What an export prints on stderr: at most eight lines, and one for each method."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from device_profiles import DeviceProfile

from .bundle import Bundle
from .plan import Plan

_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def nothing() -> Iterator[None]:
    """Keeps :func:`exported` from printing."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


class _Stages(logging.Handler):
    """Shows what the export is doing in one line of a terminal."""

    def __init__(self, status: Any) -> None:
        super().__init__(logging.INFO)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        self._status.update(record.getMessage())


@contextmanager
def progress() -> Iterator[None]:
    """Shows the messages of the log ``edgewright.progress`` while an export runs, on a terminal only."""
    if _silent.get() or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    log = logging.getLogger("edgewright.progress")
    level = log.level
    with open(os.dup(2), "w") as terminal, Console(file=terminal).status("starting") as status:
        handler = _Stages(status)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


def exported(bundle: Bundle, profile: DeviceProfile, planned: Plan) -> None:
    """Prints what an export did."""
    if not _silent.get():
        for line in lines(bundle, profile, planned):
            print(line, file=sys.stderr)


def lines(bundle: Bundle, profile: DeviceProfile, planned: Plan) -> list[str]:
    """The lines: path, engine, inputs, methods, parity, quality, latency, idle accelerators, next gain, deployment."""
    manifest, parity = bundle.manifest, bundle.parity
    version = manifest.engine.max_version or manifest.engine.verified_version
    rows = [
        f"{shown_path(bundle)}  {megabytes(bundle.file_bytes)}, {bundle.format} for {profile.id}",
        f"engine    {bundle.engine} {version}, {threads(planned.threads)} ({planned.why}){_kernels(bundle)}",
        f"inputs    {', '.join(map(str, manifest.entries['main'].inputs)) or 'none'} (from {manifest.model.example})",
        *(f"method    {line}" for line in _done(bundle)),
        f"parity    {decibels(parity.snr_db)} against {parity.reference} (threshold {parity.threshold_db:g} dB), "
        f"measured here in {parity.engine} {parity.engine_version}",
        *_quality(bundle),
        f"latency   {_latency(bundle, profile)}",
    ]
    idle = [part.name for part in profile.accelerators if part is not None and planned.next_step == ""]
    if idle:
        rows.append(f"unused    {', '.join(idle)}")
    if planned.next_step:
        rows.append(f"next      on the board: {planned.next_step}")
    elif profile.id == "host":
        rows.append(f"next      run it: edgewright run {shown_path(bundle)}")
    else:
        rows.append(f"next      deploy it: edgewright deploy {shown_path(bundle)} --to DIR")
    return rows


def shown_path(bundle: Bundle) -> str:
    """The path as the user would type it."""
    from pathlib import Path

    try:
        return str(bundle.path.relative_to(Path.cwd()))
    except ValueError:
        return str(bundle.path)


def megabytes(count: int) -> str:
    """Bytes as MB (10^6) or kB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def decibels(value: float) -> str:
    """A signal-to-noise ratio."""
    return "bit for bit equal" if value == float("inf") else f"SNR {value:.0f} dB"


def threads(count: int) -> str:
    """A number of threads."""
    return f"{count} thread" if count == 1 else f"{count} threads"


def _done(bundle: Bundle) -> list[str]:
    """The first change of each method."""
    changes = bundle.manifest.changes
    starts = [f"{method['name']}: " for method in bundle.manifest.recipe.methods]
    found = (next((line for line in changes if line.startswith(start)), None) for start in starts)
    return [line for line in found if line is not None]


def _kernels(bundle: Bundle) -> str:
    """How many layers with zeros run without them; "" where none may, or there are none."""
    rows = [row for row in bundle.manifest.sparse if row.zeros]
    sparse = sum(row.runs == "sparse" for row in rows)
    isa = next((row.isa for row in rows if row.isa is not None), None)
    how = f"as decided on {isa}" if isa else f"by {bundle.manifest.engine.name}'s own rules"
    return f"; sparse kernels run {sparse} of {len(rows)} layers with zeros, {how}" if sparse or isa else ""


def _quality(bundle: Bundle) -> list[str]:
    found = bundle.quality
    return [f"quality   {found.after + 0.0:.6g}, {found.before + 0.0:.6g} before, measured with evaluate="] if found else []


def _latency(bundle: Bundle, profile: DeviceProfile) -> str:
    if not bundle.latency:
        return f"unknown for {profile.id} (no measurement and no predictor yet)"
    row = bundle.latency[0]
    low, high = row.low_s * 1e3, row.high_s * 1e3
    return f"{row.median_s * 1e3:.3g} ms, {row.coverage:.0%} in {low:.3g} to {high:.3g} ms, {row.kind} on {row.device}"
