"""Writes the report of a kernel benchmark: time against zeros, one HTML file without script, links or anything to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_profiles.errors import OptionError
from edgewright_runtime.bundle.paths import write_file

from ..kernel_benchmark import KernelBenchResult, KernelTiming
from .axis import Axis, linear_axis, time_axis
from .html import environment

TEMPLATE = "kernels.html.jinja"
PATTERNS = {"blocks_1x1": "single weights", "blocks_4x1": "blocks (4, 1)", "blocks_4x4": "blocks (4, 4)"}


@dataclass(frozen=True)
class Curve:
    """One pattern: ``rows`` by their share of zeros, ``points`` in percent from the left and from the top.

    ``break_even`` is the share from which on the product is no slower than the dense one, None: the last row is slower.
    """

    pattern: str
    rows: tuple[KernelTiming, ...]
    points: tuple[tuple[float, float], ...]
    break_even: float | None

    @property
    def verdict(self) -> str:
        """Where it breaks even, in words."""
        first, last = (row.sparsity or 0.0 for row in (self.rows[0], self.rows[-1]))
        if self.break_even is None:
            return f"slower than dense at {last:.0%} zeros, the most that was timed"
        if self.break_even == first:
            return f"no slower than dense at {first:.0%} zeros, the least that was timed"
        return f"breaks even at about {self.break_even:.0%} zeros"


@dataclass(frozen=True)
class Chart:
    """A product on one instruction set; ``level`` is the dense kernel, in percent from the top."""

    dense: KernelTiming
    zeros: Axis
    time: Axis
    level: float
    curves: tuple[Curve, ...]

    @property
    def rows(self) -> tuple[tuple[str, KernelTiming], ...]:
        """The dense row, then those of each pattern, with what their weights are."""
        return (("dense", self.dense), *((curve.pattern, row) for curve in self.curves for row in curve.rows))


def write_kernel_report(result: KernelBenchResult, path: Path) -> Path:
    """Writes what was timed as one self-contained HTML file.

    Args:
        result: A benchmark with sparse kernels.
        path: The HTML file.

    Returns:
        ``path``.

    Raises:
        OptionError: Nothing was timed with zeros.
        OutputError: It cannot be written.
    """
    drawn = charts(result.rows)
    if not drawn:
        raise OptionError(
            "nothing to draw: no product was timed both with zeros and without; the report needs --sparsity "
            "and a network with products"
        )
    networks = [(file, [chart for chart in drawn if chart.dense.network == file.name]) for file in result.files]
    page = environment().get_template(TEMPLATE).render(result=result, networks=networks)
    write_file(path, page.encode("utf-8", "replace"))
    return path


def charts(rows: Sequence[KernelTiming]) -> tuple[Chart, ...]:
    """One for each dense product that was timed beside sparse ones."""
    dense = [row for row in rows if row.sparsity is None]
    beside = [(one, [row for row in rows if row.sparsity is not None and _place(row) == _place(one)]) for one in dense]
    return tuple(_chart(one, sparse) for one, sparse in beside if sparse)


def break_even(points: Sequence[tuple[float, float]], dense_s: float) -> float | None:
    """The share of zeros from which on times are at most that of the dense kernel, on straight lines between points.

    Args:
        points: Shares of zeros, rising, each with a time in seconds; not empty.
        dense_s: Time of the dense kernel.

    Returns:
        The share; the first point's where that and all others are fast enough; None where the last one is not.
    """
    slow = [i for i, (_, time_s) in enumerate(points) if time_s > dense_s]
    if not slow:
        return points[0][0]
    if slow[-1] == len(points) - 1:
        return None
    (share, time_s), (next_share, next_s) = points[slow[-1]], points[slow[-1] + 1]
    return share + (next_share - share) * (time_s - dense_s) / (time_s - next_s)


def _place(row: KernelTiming) -> tuple[object, ...]:
    return row.network, row.shape, row.isa, row.dtype


def _chart(dense: KernelTiming, sparse: Sequence[KernelTiming]) -> Chart:
    zeros = linear_axis(0.0, 100.0, 1.0, "%", 100.0)
    times = [row.median_s for row in (dense, *sparse)]
    time = time_axis([1.05 * max(times), min(times)])
    curves = []
    for pattern, name in PATTERNS.items():
        rows = sorted((row for row in sparse if row.format == pattern), key=lambda row: row.sparsity or 0.0)
        if rows:
            places = [(row.sparsity or 0.0, row.median_s) for row in rows]
            points = tuple((zeros.at(100 * share), _top(time, median_s)) for share, median_s in places)
            curves.append(Curve(name, tuple(rows), points, break_even(places, dense.median_s)))
    return Chart(dense, zeros, time, _top(time, dense.median_s), tuple(curves))


def _top(axis: Axis, value: float) -> float:
    """Percent from the top."""
    return round(100.0 - axis.at(value), 2)
