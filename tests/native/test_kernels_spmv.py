"""Sparse products of rows against float64: of few rows as they lie, and of tiles that are turned; NaN, and memory outside."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from edgewright_runtime import kernels, kernels_planes
from edgewright_runtime.kernels import Kernel
from edgewright_runtime.kernels_planes import Packed
from tests.native.test_kernels import (
    CLAMPS,
    HALF_ULP,
    ISAS,
    SENTINEL,
    among,
    among_nan,
    assert_within,
    before_a_locked_page,
    draw_f32,
    each_of,
    room,
    run_touch_each,
    touch_each,
)
from tests.native.test_kernels_planes import KEPT, Product

__all__ = ["ROWS", "touch_each", "touch_nothing_behind"]
ROWS = [row for row in kernels.rows() if row.op == "spmv"]
FEW = each_of(ROWS, ("spmv",))
TILES = each_of(kernels.rows(), ("spmm",))
OUTPUTS = (1, 3, 4, 5, 8, 30)
DEPTHS = (1, 3, 4, 33, 130)
COUNTS = (1, 2, 3, 4, 5, 7)
"""Rows of x."""


def drawn(kernel: Kernel, count: int, n: int, depth: int, kept: float) -> Product:
    """With x and what is added lying as rows."""
    whole = Product.drawn(kernel, count, n, depth, kept)
    return whole._replace(x=np.ascontiguousarray(whole.x.T), add=np.ascontiguousarray(whole.add.T))


def run(kernel: Kernel, whole: Product, offset: int = 1, **given: object) -> np.ndarray:
    """In memory among NaN."""
    packed = kernels_planes.pack(kernel, whole.w)
    packed = packed._replace(value=among(packed.value, np.float32(np.nan), offset, gap=0))
    given = {"bias": among_nan(whole.bias, offset), "add": among_nan(whole.add, offset), **given}
    prepared = kernels_planes.prepare_spmv(kernel, among_nan(whole.x, offset), packed, len(whole.w), **given)
    prepared()
    return np.asarray(prepared.out)


def test_every_instruction_set_of_this_machine_has_both():
    found = [(row.isa, row.format) for row in ROWS if row.usable]
    assert found == [(isa, format) for isa in ISAS for format in ("blocks_1x1", "blocks_4x1")]


@FEW
@pytest.mark.parametrize("kept", KEPT)
def test_a_product_of_any_size(kernel, kept):
    for place, (n, depth, count) in enumerate(itertools.product(OUTPUTS, DEPTHS, COUNTS)):
        whole = drawn(kernel, count, n, depth, kept)
        w, x = whole.w.astype(np.float64), whole.x.astype(np.float64)
        clamp, with_bias, with_add = CLAMPS[place % 4], (place + n) % 2, (place + n) // 2 % 2
        out = room(count, n)
        bias, add = (among_nan(one) if with_ else None for one, with_ in ((whole.bias, with_bias), (whole.add, with_add)))
        run(kernel, whole, bias=bias, add=add, low=clamp[0], high=clamp[1], out=out.view)
        exact = x @ w.T + with_bias * whole.bias.astype(np.float64) + with_add * whole.add
        sums = np.abs(x) @ np.abs(w).T + with_bias * np.abs(whole.bias) + with_add * np.abs(whole.add)
        assert_within(out.view, np.clip(exact, *clamp), (depth + 6) * HALF_ULP * 1.01 * sums, (count, n, depth))
        assert out.untouched(SENTINEL), (count, n, depth)


@FEW
def test_a_column_has_the_bits_that_it_has_alone_and_anywhere(kernel):
    whole = drawn(kernel, 7, 22, 77, 0.4)
    expected = run(kernel, whole, low=-2, high=2)
    for offset in range(2, 16, 5):
        np.testing.assert_array_equal(run(kernel, whole, offset=offset, low=-2, high=2), expected)
    for begin, end in ((0, 4), (4, 16), (16, 22), (8, 8)):
        out = room(7, 22)
        run(kernel, whole, low=-2, high=2, out=out.view, columns=(begin, end))
        np.testing.assert_array_equal(out.view[:, begin:end], expected[:, begin:end])
        out.view[:, begin:end] = SENTINEL
        assert (out.whole == SENTINEL).all()


@FEW
def test_nan_and_infinity_reach_what_reads_them(kernel):
    """What meets no block is not read: nothing times zero is nothing."""
    for value, depth in itertools.product((np.nan, np.inf, -np.inf), (5, 40)):
        whole = drawn(kernel, 3, 8, depth, 1.0)
        whole.w[...] = np.abs(whole.w) + 1
        whole.w[:4, depth - 1] = 0
        whole.x[1, depth - 1] = value
        found = run(kernel, whole)
        assert np.isfinite(found[:, :4]).all() and np.isfinite(np.delete(found, 1, 0)).all()
        assert not np.isfinite(found[1, 4:]).any()
        whole.w[0, 0] = np.nan
        assert np.isnan(run(kernel, whole, low=-1, high=1)[:, 0]).all()


def test_a_matrix_of_any_size_is_turned():
    for rows, columns in itertools.product((1, 3, 4, 5, 8, 13, 31), (1, 2, 4, 7, 16, 21)):
        x, out = among_nan(draw_f32(np.random.default_rng(rows), rows, columns)), room(columns, rows)
        kernels_planes.turn(x, out.view)
        np.testing.assert_array_equal(out.view, x.T)
        assert out.untouched(SENTINEL)


@TILES
def test_tiles_hold_all_rows_and_few_more(kernel):
    for rows in range(1, 400):
        tile = kernels_planes.tile(kernel, rows)
        rest = rows % tile
        last = kernels_planes.tile(kernel, rest) if rest else 0
        assert 1 <= tile <= 64 and (rows <= tile or rest == 0 or last >= rest) and last - rest < 32
        assert tile < rows or tile - rows < 32


@TILES
def test_a_tile_needs_no_memory_to_work_in_and_has_the_bits_of_any_product(kernel):
    for rows, depth in itertools.product({1, 5, kernel.mr // 2, kernel.mr, 2 * kernel.mr} - {0}, (3, 1100)):
        count = kernels_planes.tile(kernel, rows)
        whole = Product.drawn(kernel, count, 22, depth)
        apart = whole.run(kernel, low=-2, high=2)
        packed = kernels_planes.pack(kernel, whole.w)
        given = {"bias": whole.bias, "add": whole.add, "low": -2, "high": 2}
        prepared = kernels_planes.prepare_spmm(kernel, whole.x, packed, 22, in_place=True, **given)
        prepared()
        np.testing.assert_array_equal(prepared.out, apart)


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""
    for n, count, depth in itertools.product((1, 4, 7), COUNTS, (1, 4, 6, 40)):
        whole = drawn(kernel, count, n, depth, 0.4)
        packed = Packed(*map(before_a_locked_page, kernels_planes.pack(kernel, before_a_locked_page(whole.w))))
        x, bias, add = map(before_a_locked_page, (whole.x, whole.bias, whole.add))
        given = {"bias": bias, "add": add, "out": before_a_locked_page(np.zeros((count, n), np.float32))}
        kernels_planes.prepare_spmv(kernel, x, packed, n, **given)()


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)
