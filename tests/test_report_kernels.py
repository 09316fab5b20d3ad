"""The report of a kernel benchmark: time against zeros."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright_runtime import kernels
from sdk import OptionError, OutputError
from sdk.kernel_benchmark import GemmShape, KernelBenchResult, KernelTiming, ShapeFile
from sdk.report.kernels import break_even, charts, write_kernel_report
from tests.test_bench_kernels import BEST, edgewright, small  # noqa: F401
from tests.test_report import HOSTILE, parsed, words

SHAPE = GemmShape("pointwise", "gemm", 100, 8, 16)


def timing(median_s: float, format: str = "dense", sparsity: float | None = None, **changed) -> KernelTiming:
    over = None if sparsity is None else (median_s / 1e-3, 0.9 * median_s / 1e-3, 1.1 * median_s / 1e-3)
    row = KernelTiming(
        "net", SHAPE, f"edge_{format}", "avx2", "f32", format, SHAPE.operations, 10, median_s, median_s, median_s, median_s,
        SHAPE.operations / median_s, 1, 0.0, None, None, None, sparsity, *(over or (None, None, None)),
    )  # fmt: skip
    return replace(row, **changed)


ROWS = (
    timing(1e-3),
    timing(0.2e-3, "blocks_4x1", 0.9),
    timing(1.4e-3, "blocks_4x1", 0.5),
    timing(0.6e-3, "blocks_4x1", 0.7),
    timing(2e-3, "blocks_1x1", 0.5),
    timing(1.1e-3, "blocks_1x1", 0.9),
)


def result(rows: tuple[KernelTiming, ...] = ROWS, network: str = "A net") -> KernelBenchResult:
    files = (ShapeFile("net", network, "made up", (SHAPE,)),)
    return KernelBenchResult(rows, files, "measured", 1, 0.0, {"processor": "a processor"}, {}, "abc", "today")


def written(found: KernelBenchResult, tmp_path: Path) -> str:
    return write_kernel_report(found, tmp_path / "k.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("points", "share"),
    [
        ([(0.5, 2.0), (0.7, 0.0)], 0.6),
        ([(0.5, 1.0), (0.7, 0.5)], 0.5),
        ([(0.5, 2.0), (0.7, 1.0)], 0.7),
        ([(0.5, 1.1), (0.7, 1.01)], None),
        ([(0.5, 0.5), (0.7, 1.01)], None),
        ([(0.0, 0.5), (0.5, 1.5), (1.0, 0.5)], 0.75),
        ([(0.8, 0.5)], 0.8),
        ([(0.8, 1.5)], None),
    ],
)
def test_break_even_is_where_it_stays_as_fast(points, share):
    assert break_even(points, 1.0) == (None if share is None else pytest.approx(share))


def test_every_time_is_drawn_and_listed(tmp_path):
    page = written(result(), tmp_path)
    (chart,) = charts(ROWS)
    assert [curve.pattern for curve in chart.curves] == ["single weights", "blocks (4, 1)"]
    single, four = chart.curves
    assert [row.sparsity for row in four.rows] == [0.5, 0.7, 0.9] and [x for x, _ in four.points] == [50, 70, 90]
    assert chart.level == pytest.approx(100 - 100 / 2.1, abs=0.01) and 0 < single.points[0][1] < chart.level
    circles = [given for name, given in parsed(page) if name == "circle"]
    assert len(circles) == 5 and len([given for name, given in parsed(page) if given.get("class") == "curve2 even"]) == 1
    text = words(page)
    assert "single weights: slower than dense at 90% zeros, the most that was timed" in text
    assert "blocks (4, 1): breaks even at about 60% zeros" in text
    assert "blocks (4, 1) 70 % 600 µs 600 µs 600 µs 1.67 1.52 to 1.85" in text and "measured" in text


def test_the_first_share_that_was_timed_may_be_enough(tmp_path):
    page = written(result((ROWS[0], timing(1e-3, "blocks_4x1", 0.0))), tmp_path)
    assert "no slower than dense at 0% zeros, the least that was timed" in words(page)
    assert not [given for _, given in parsed(page) if given.get("class", "").endswith(" even")], "nothing is crossed"


def test_places_do_not_mix():
    other = [timing(2e-3, isa="scalar"), timing(1e-3, "blocks_4x1", 0.5, isa="scalar"), timing(1e-3, dtype="s8")]
    found = charts((*ROWS, *other, timing(1e-3, network="another")))
    assert [(chart.dense.isa, len(chart.rows)) for chart in found] == [("avx2", 6), ("scalar", 2)]


@pytest.mark.parametrize("median_s", [1e-12, 1e-9, 3600.0])
def test_odd_times_are_drawn_inside_the_plot(tmp_path, median_s):
    rows = (timing(median_s), timing(median_s, "blocks_4x1", 1.0))
    (chart,) = charts(rows)
    assert all(0 <= place <= 100 for point in chart.curves[0].points for place in point) and 0 <= chart.level <= 100
    assert written(result(rows), tmp_path)


@pytest.mark.parametrize("rows", [(), ROWS[:1], ROWS[1:]], ids=["empty", "no zeros", "no dense"])
def test_nothing_to_draw_is_an_error(tmp_path, rows):
    with pytest.raises(OptionError, match="nothing to draw.*--sparsity"):
        written(result(rows), tmp_path)


def test_hostile_names_are_escaped_and_nothing_is_fetched(tmp_path):
    page = written(result(network=HOSTILE), tmp_path)
    assert "alert('x')" not in page and not re.search(r"<script|src=|href=|@import|url\(", page)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError):
        write_kernel_report(result(), tmp_path / "none" / "k.html")


def test_the_command_writes_it(edgewright, small, tmp_path):  # noqa: F811
    path = tmp_path / "k.html"
    chosen = ("--shapes", small, "--seconds", "0", "--isa", BEST, "--report", path)
    code, out, err = edgewright(*chosen)
    assert (code, err) == (0, "") and out.splitlines()[-1] == str(path)
    text = words(path.read_text(encoding="utf-8"))
    assert all(f"{share} %" in text for share in ("20", "40", "60", "80", "90")) and "A small one" in text
    assert path.read_text(encoding="utf-8").count("<circle") == 10
    isa = kernels.find("gemm", BEST, "s8", "blocks_4x4").isa
    code, _, err = edgewright("--shapes", small, "--seconds", "0", "--isa", isa, "--dtype", "s8", "--report", path)
    page = path.read_text(encoding="utf-8")
    assert (code, err) == (0, "") and page.count("<circle") == 5 and "blocks (4, 4)" in page and "of s8 on" in page
    windows = Path(small).with_name("windows.toml")
    head, product, window = Path(small).read_text().split("[[shapes]]")
    windows.write_text(f"{head}[[shapes]]{window}")
    code, _, err = edgewright("--shapes", windows, "--seconds", "0", "--report", path)
    assert code == 1 and "OptionError: nothing to draw" in err
