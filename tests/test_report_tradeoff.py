"""The plot of quality against size in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgewright_runtime.bundle.manifest import Manifest, Quality, Tried
from sdk.report.tradeoff import Label, tradeoff
from tests.test_report import HOSTILE, _board, make, manifest, parsed, words, written  # noqa: F401

MiB = 1 << 20


def tried(size: int, quality: float | None, what: str = "some", *, chosen: bool = False) -> Tried:
    return Tried(what, size, quality, None if quality is None else "module", chosen)


ROWS = (
    tried(12 * MiB, 71.88, "float32, as given"),
    tried(3 * MiB, 64.2, "28 of 28 layers quantized"),
    tried(5 * MiB, 71.3, "26 of 28 layers quantized; float32 stay: first, head", chosen=True),
    tried(4 * MiB, 69.9, "27 of 28 layers quantized; float32 stay: head"),
)


def content(rows: tuple[Tried, ...] = ROWS) -> Manifest:
    return manifest(tried=rows, quality=Quality(71.88, 71.31, "measured", "evaluate()"))


def test_every_point_is_drawn_and_listed(tmp_path: Path) -> None:
    page = written(make(tmp_path, content()), tmp_path / "r.html")
    text = words(page)
    assert "1. float32, as given as module 12 MiB 71.88" in text
    assert "3. 26 of 28 layers quantized; float32 stay: first, head chosen as module 5 MiB 71.3" in text
    assert "Weights of what was tried measured counted in each graph" in text
    circles = [attributes for name, attributes in parsed(page) if name == "circle"]
    assert [circle["class"] for circle in circles].count("point chosen") == 1 and len(circles) == 4
    x = {circle["cx"]: circle["cy"] for circle in circles}
    assert x["96.15%"] == "8.0%", "the float model is the best, on the right, where 12 MiB of 12.48 lie"
    assert x["24.04%"] == "92.0%", "the smallest is the worst"
    charts = re.findall(r'<svg class="plot"[^>]*><title>([^<]+)</title>', page)
    assert charts == ["Quality over weights of 4 of what was tried: quality 64.2 to 71.88; the table has all numbers"]


def test_axes_have_round_numbers() -> None:
    plot = tradeoff(ROWS)
    assert plot is not None
    assert [plot.axis.tick(tick) for tick in plot.axis.ticks] == ["0", "5", "10"] and plot.axis.unit == "MiB"
    assert [text for _, text in plot.levels] == ["66", "68", "70"]
    tops = [top for top, _ in plot.levels]
    assert tops == sorted(tops, reverse=True) and all(8 <= top <= 92 for top in tops)


def test_one_level_is_the_quality_itself() -> None:
    plot = tradeoff((tried(100, 99.0), tried(30, 99.0, chosen=True)))
    assert plot is not None and plot.levels == ((50.0, "99"),)


def test_points_that_lie_together_share_a_label() -> None:
    plot = tradeoff((tried(100, 1.0), tried(40, 0.5), tried(40, 0.5), tried(41, 0.51), tried(40, 0.0)))
    assert plot is not None
    assert [label.text for label in plot.labels] == ["1", "2, 3, 4", "5"]
    assert plot.labels[0] == Label("1", plot.points[0].x, plot.points[0].y, before=True)


@pytest.mark.parametrize(
    "rows",
    [
        (tried(100, 0.7),),
        (tried(100, 0.7), tried(100, 0.7)),
        (tried(0, 0.0), tried(0, 0.0)),
        (tried(0, -1.0), tried((1 << 63) - 1, 1.0)),
        (tried(8, -1.7e308), tried(4, 1.7e308)),
        (tried(8, 5e-324), tried(4, 0.0)),
        (tried(8, -5e-324), tried(4, -1e-323)),
        (tried(8, 1e15), tried(4, 1e15 - 1)),
        (tried(8, 1e16), tried(4, 1e16 + 2)),
        (tried(8, -123456.7), tried(4, -123456.8)),
        (tried(8, -1e-9), tried(4, -2e-9), tried(2, None)),
        (tried(8, 1.0), tried(4, float("inf")), tried(2, float("-inf")), tried(1, float("nan"))),
    ],
    ids=str,
)
def test_odd_numbers_are_drawn_inside_the_plot(tmp_path: Path, rows: tuple[Tried, ...]) -> None:
    plot = tradeoff(rows)
    assert plot is not None and plot.points
    assert all(0 <= p.x <= 100 and 0 <= p.y <= 100 for p in plot.points)
    assert 1 <= len(plot.levels) <= 8 and all(0 <= top <= 100 for top, _ in plot.levels)
    texts = [text for _, text in plot.levels]
    assert len(set(texts)) == len(texts) and all(len(text) < 25 for text in texts), texts


def test_a_quality_that_nobody_knows_is_listed_and_not_drawn(tmp_path: Path) -> None:
    rows = (tried(8, 1.0), tried(4, None), Tried("broken", 4, None, "module", False))
    page = written(make(tmp_path, content(rows)), tmp_path / "r.html")
    assert page.count("<circle") == 1 and "2. some not evaluated 4 B" in words(page)
    assert "3. broken as module 4 B not finite" in words(page)
    assert tradeoff(rows[1:]) is None


def test_a_table_without_a_plot(tmp_path: Path) -> None:
    page = written(make(tmp_path, content((tried(8, None),))), tmp_path / "r.html")
    assert "<circle" not in page and "Quality against size" in page


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    page = written(make(tmp_path, content((tried(8, 1.0, HOSTILE),))), tmp_path / "r.html")
    assert "alert('x')" not in page and page.count("&lt;script&gt;") == 2


def test_without_anything_tried_the_page_is_as_it_was(tmp_path: Path) -> None:
    text = words(written(make(tmp_path, content(())), tmp_path / "r.html"))
    assert "Quality against size" not in text and "tried" not in text
