"""Writes a bundle's report: one HTML file without script, links or anything to fetch.

This file turns the manifest, the device profile and the measurements beside the core into
numbers and words; ``report.html.jinja`` lays them out.  Nothing in the page depends on the clock,
so the same bundle gives the same bytes.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import device_profiles
from device_profiles import DeviceProfile
from device_profiles.errors import DeviceError, OutputError
from device_profiles.load import HOST
from device_profiles.record import structure, unstructure
from edgewright_runtime.bundle.latency import Latency, Measurement
from edgewright_runtime.bundle.manifest import Manifest, Parity, Quality
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.bundle.seal import MANIFEST_MAX_BYTES, MEASUREMENTS, REPORT
from edgewright_runtime.measure import Timing

from .axis import BINARY, TIME, Axis, decimals, linear_axis, time_axis
from .tradeoff import tradeoff

if TYPE_CHECKING:
    from ..bundle import Bundle

__all__ = ["write_report"]

TEMPLATE = "report.html.jinja"
KINDS = ("measured", "estimated", "simulated")
DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
LABELS_SHOWN = 6


def write_report(bundle: Bundle, path: Path) -> Path:
    """Writes the report of a bundle as one self-contained HTML file.

    Args:
        bundle: The bundle; its ``measurements/`` are read if it is a folder.
        path: The HTML file; inside the bundle only ``report.html`` is allowed.

    Returns:
        ``path``.

    Raises:
        OutputError: It cannot be written, or would damage the bundle.
    """
    _check_place(bundle.path, path)
    write_file(path, _render(bundle).encode("utf-8", "replace"))
    return path


def _check_place(bundle: Path, path: Path) -> None:
    home, place = bundle.resolve(), path.resolve()
    if place == home or (home in place.parents and place != home / REPORT):
        raise OutputError(
            f"cannot write the report to {path}: it would damage the bundle {bundle}; "
            f"inside it only {REPORT} is allowed, or choose a path outside"
        )


def _render(bundle: Bundle) -> str:
    manifest = bundle.manifest
    profile = _profile(manifest.device)
    beside = _beside(bundle)
    page = environment().get_template(TEMPLATE)
    return page.render(
        m=manifest,
        sha256=bundle.sha256,
        file_bytes=bundle.file_bytes,
        profile=profile,
        board=_board_name(manifest.device, profile),
        figures=_figures(bundle, beside.runs),
        latency=_by_kind(manifest.latency),
        beside=beside,
        runs=_by_kind(beside.runs),
        labels=_labels(bundle),
        parity_axis=_parity_axis(manifest.parity),
        tradeoff=tradeoff(manifest.tried),
        provenance=_provenance(manifest, beside.runs),
    )


@cache
def environment() -> Environment:
    """Of all pages: what the templates of this folder can call."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (size, seconds, short, number, exact, signed, fields, option, share, plural)
    made.filters.update({function.__name__: function for function in filters})
    made.globals.update(time_axis=time_axis)
    return made


# The board.


def _profile(name: str) -> DeviceProfile | None:
    """The device's profile; None for one that is no longer known, and for whatever machine this is."""
    if name == HOST:
        return None
    try:
        return device_profiles.device(name)
    except DeviceError:
        return None


def _board_name(name: str, profile: DeviceProfile | None) -> str:
    if profile:
        return profile.name
    return "the machine it was exported on" if name == HOST else name


# Numbers as text.


def size(count: int) -> str:
    """Bytes, ``13.6 MiB``."""
    return " ".join(_scaled(count, BINARY))


def seconds(value: float) -> str:
    """Seconds, ``4.72 ms``."""
    return " ".join(_scaled(value, TIME))


def short(value: float, unit: str = "") -> str:
    """A large number, ``3.5 M`` or with its unit ``1.43 GHz``."""
    digits, prefix = _scaled(value, DECIMAL)
    return f"{digits} {prefix}{unit}".rstrip()


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def exact(value: float) -> str:
    """Six significant digits; a minus, not a hyphen."""
    return f"{value + 0.0:.6g}".replace("-", "−")


def signed(value: float) -> str:
    """Four significant digits after a sign; a minus, not a hyphen."""
    return f"{value:+.4g}".replace("-", "−")


def share(part: float, whole: float) -> float:
    """Percent for the length of a bar: at most 100, visible if anything is there."""
    if whole <= 0 or part <= 0:
        return 0.0
    return round(min(100.0, max(100.0 * part / whole, 0.3)), 2)


def fields(record: Any) -> dict[str, Any]:
    """The fields of a record as plain data."""
    plain = unstructure(record)
    return plain if isinstance(plain, dict) else {}


def option(value: Any) -> str:
    """An option's value in one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (tuple, list)):
        return ", ".join(option(item) for item in value) or "none"
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def plural(count: int, noun: str) -> str:
    """``1 thread``, ``4 threads``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _scaled(value: float, units: Iterable[tuple[float, str]]) -> tuple[str, str]:
    listed = tuple(units)
    # 0.9995: what would round up to 1000 of the smaller unit is 1.00 of this one.
    scale, unit = next((pair for pair in listed if abs(value) >= pair[0] * 0.9995), listed[-1])
    return _three_digits(value / scale), unit


def _three_digits(value: float) -> str:
    if value == int(value) and abs(value) < 1e4:
        return str(int(value))
    return f"{value:.{min(decimals(value), 6)}f}"


def _parity_axis(parity: Parity) -> Axis:
    finite = [output.snr_db for output in parity.outputs if output.snr_db is not None]
    high = max([parity.threshold_db * 1.5, 1.0, *finite])
    return linear_axis(0.0, high, 1.0, "dB", high)


# Measurements beside the core.


@dataclass(frozen=True)
class Histogram:
    """Counts of samples; ``bars`` are (left, width, height) in percent."""

    axis: Axis
    bars: tuple[tuple[float, float, float], ...]
    beyond: int
    """Samples right of the axis."""


@dataclass(frozen=True)
class Run:
    """A measurement of this bundle and where it was read."""

    file: str
    record: Measurement
    timing: Timing
    histogram: Histogram

    @property
    def kind(self) -> str:
        """``measured`` or ``simulated``."""
        return self.record.kind


@dataclass(frozen=True)
class Beside:
    """What lies in ``measurements/``."""

    runs: tuple[Run, ...] = ()
    foreign: int = 0
    """Measurements of another manifest."""
    unread: tuple[tuple[str, str], ...] = ()
    """File and reason."""


def _beside(bundle: Bundle) -> Beside:
    runs: list[Run] = []
    unread: list[tuple[str, str]] = []
    foreign = 0
    for path in sorted((bundle.path / MEASUREMENTS).glob("*.json")):
        try:
            record = _measurement(path)
        except (ValueError, OSError, RecursionError) as error:
            unread.append((path.name, str(error).partition("\n")[0]))
            continue
        if record.manifest_sha256 == bundle.sha256:
            runs.append(Run(path.name, record, Timing(record.samples_s), _histogram(record.samples_s)))
        else:
            foreign += 1
    runs.sort(key=lambda run: (run.record.date, run.file))
    return Beside(tuple(runs), foreign, tuple(unread))


def _measurement(path: Path) -> Measurement:
    if path.stat().st_size > MANIFEST_MAX_BYTES:
        raise ValueError(f"larger than {MANIFEST_MAX_BYTES} bytes")
    record = structure(Measurement, json.loads(path.read_bytes()), strict=False)
    if not record.samples_s:
        raise ValueError("no samples")
    if not all(math.isfinite(value) and value >= 0 for value in (*record.samples_s, *record.ops.values())):
        raise ValueError("a sample or operation is not a finite number of seconds")
    return record


def _histogram(samples_s: tuple[float, ...]) -> Histogram:
    timing = Timing(samples_s)
    low, high = timing.min_s, max(samples_s)
    # A few stalls must not squash the rest into one bar; they are counted instead.
    cut = timing.quantile_s(0.9) + 1.5 * (timing.quantile_s(0.9) - low)
    high = cut if low < cut < high else high
    axis = time_axis([timing.median_s, high], low)
    bins = min(48, max(12, 2 * math.isqrt(len(samples_s))))
    counts, edges = np.histogram(samples_s, bins=bins, range=(axis.low, axis.high))
    tallest = int(counts.max())
    width = round(100.0 / bins, 3)
    bars = tuple(
        (axis.at(float(edge)), width, share(int(count), tallest))
        for edge, count in zip(edges, counts, strict=False)
        if count
    )
    return Histogram(axis, bars, len(samples_s) - int(counts.sum()))


def _by_kind(rows: Iterable[Any]) -> dict[str, list[Any]]:
    listed = list(rows)
    found = {kind: [row for row in listed if row.kind == kind] for kind in KINDS}
    return {kind: group for kind, group in found.items() if group}


# Labels.


def _labels(bundle: Bundle) -> tuple[int, tuple[str, ...]] | None:
    """How many labels, and the first ones; None without labels or where they cannot be read."""
    name = bundle.manifest.labels
    if name is None:
        return None
    try:
        text = _core_bytes(bundle.path, name).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
    lines = text.splitlines()
    return len(lines), tuple(lines[:LABELS_SHOWN])


def _core_bytes(bundle: Path, name: str) -> bytes:
    if bundle.is_dir():
        return (bundle / name).read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


# Key figures.


@dataclass(frozen=True)
class Figure:
    """One number of the headline; ``kind`` is empty where there is no number."""

    label: str
    value: str
    unit: str
    kind: str
    details: tuple[str, ...]


def _figures(bundle: Bundle, runs: tuple[Run, ...]) -> tuple[Figure, ...]:
    manifest = bundle.manifest
    files = plural(len(manifest.files), "core file")
    memory = manifest.memory
    parts = f"{size(memory.weight_bytes)} weights, {size(memory.activation_bytes)} activations"
    figures = (
        _latency_figure(manifest, runs),
        Figure("File size", *_scaled(bundle.file_bytes, BINARY), "measured", (f"{bundle.file_bytes:,} bytes", files)),
        Figure("Memory", *_scaled(memory.bytes, BINARY), memory.kind, (parts,)),
        _parity_figure(manifest.parity),
    )
    return (*figures, _quality_figure(manifest.quality)) if manifest.quality else figures


def _latency_figure(manifest: Manifest, runs: tuple[Run, ...]) -> Figure:
    """The best knowledge of the target device: sealed measurement, later measurement, estimate."""
    sealed = _by_kind(row for row in manifest.latency if row.device == manifest.device)
    timed = [run for run in runs if run.record.device == manifest.device and run.kind == "measured"]
    if "measured" in sealed:
        return _sealed_figure(sealed["measured"][0])
    if timed:
        return _timed_figure(timed[-1])
    if "estimated" in sealed:
        return _sealed_figure(sealed["estimated"][0])
    return Figure("Latency", "unknown", "", "", (f"nothing was measured or estimated for {manifest.device}",))


def _sealed_figure(row: Latency) -> Figure:
    axis = time_axis([row.median_s, row.high_s])
    span = (
        f"median; {axis.text(row.low_s)} to {axis.text(row.high_s)} {axis.unit} for {100 * row.coverage:.0f} % of runs"
    )
    how = f"{row.engine}, {plural(row.threads, 'thread')}"
    return Figure("Latency", *_scaled(row.median_s, TIME), row.kind, (span, how))


def _timed_figure(run: Run) -> Figure:
    axis = time_axis([run.timing.median_s, run.timing.quantile_s(0.9)])
    span = f"median; min {axis.text(run.timing.min_s)}, p90 {axis.text(run.timing.quantile_s(0.9))} {axis.unit}"
    how = f"{run.record.engine}, {plural(run.record.threads, 'thread')}, {plural(len(run.record.samples_s), 'sample')}"
    return Figure("Latency", *_scaled(run.timing.median_s, TIME), run.kind, (span, how))


def _parity_figure(parity: Parity) -> Figure:
    outputs = plural(len(parity.outputs), "output")
    limit = f"threshold {number(parity.threshold_db)} dB"
    if not parity.outputs:
        return Figure("Parity", "unknown", "", "", ("no output was compared",))
    if math.isinf(parity.snr_db):
        return Figure("Parity", "exact", "", parity.kind, (f"{outputs} equal bit for bit", limit))
    worst = f"worst of {outputs}" if len(parity.outputs) > 1 else "signal to error, one output"
    return Figure("Parity", f"{parity.snr_db:.1f}", "dB SNR", parity.kind, (worst, limit))


def _quality_figure(quality: Quality) -> Figure:
    change = f"{signed(quality.after - quality.before)} against {number(quality.before)} before"
    return Figure("Quality", number(quality.after), "", quality.kind, (change,))


# Where each number comes from.

_WEIGHTS = "counted in each graph: every constant once, integers with their scales, everything else as it is"


@dataclass(frozen=True)
class Provenance:
    """A number's kind and source."""

    name: str
    kind: str
    source: str


def _provenance(manifest: Manifest, runs: tuple[Run, ...]) -> tuple[Provenance, ...]:
    parity = manifest.parity
    checked = f"{parity.engine} {parity.engine_version} against {parity.reference}; inputs: {', '.join(parity.cases)}"
    rows = [
        *(Provenance(_latency_name(row), row.kind, row.source) for row in manifest.latency),
        *(Provenance(_run_name(run), run.kind, _run_source(run)) for run in runs),
        Provenance("File size", "measured", "length of the core files, as sealed"),
        Provenance("Memory for a run", manifest.memory.kind, manifest.memory.source),
        Provenance("Parity", parity.kind, f"on the host before sealing: {checked}"),
        Provenance("Parameters, multiply-adds", "measured", "counted in the captured model"),
    ]
    if manifest.quality:
        rows.append(Provenance("Quality", manifest.quality.kind, manifest.quality.source))
    if manifest.tried:
        rows.append(Provenance("Weights of what was tried", "measured", _WEIGHTS))
    return tuple(rows)


def _latency_name(row: Latency) -> str:
    return f"Latency, {row.engine} on {row.device}, {plural(row.threads, 'thread')}"


def _run_name(run: Run) -> str:
    return f"Timing, {run.record.engine} on {run.record.device}, {plural(run.record.threads, 'thread')}"


def _run_source(run: Run) -> str:
    taken = f"{MEASUREMENTS}/{run.file}, {run.record.date}, {plural(len(run.record.samples_s), 'sample')}"
    return f"{taken}, Edgewright {run.record.commit}" if run.record.commit else taken
