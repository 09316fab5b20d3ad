"""Every row for sparse weights against float64: patterns, odd sizes, NaN, and memory outside of what is given."""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

import numpy as np
import pytest

from edgewright_runtime import kernels, kernels_sparse
from edgewright_runtime.kernels import Kernel
from edgewright_runtime.kernels_sparse import Packed
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

__all__ = ["ROWS", "touch_each", "touch_nothing_behind"]
ROWS = [row for row in kernels.rows() if row.op == "spmm"]
EACH = each_of(ROWS, ("spmm",))
COLUMNS = (1, 3, 4, 5, 8, 30)
DEPTHS = (1, 3, 4, 33, 130)
KEPT = (0.0, 0.1, 0.5, 1.0)
"""Shares of the blocks that hold anything."""


class Product(NamedTuple):
    """A product: lines of ``a`` as ``index`` says, and ``b`` with blocks of zeros."""

    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray
    add: np.ndarray
    index: np.ndarray

    @classmethod
    def drawn(cls, kernel: Kernel, rows: int, n: int, depth: int, taps: int = 1, kept: float = 0.4) -> Product:
        draw = np.random.default_rng([rows, n, depth, taps, int(10 * kept)])
        b = draw_f32(draw, taps * depth, n)
        blocks = draw.random((taps * depth, -(-n // kernel.nr))) < kept
        b *= np.repeat(blocks, kernel.nr, axis=1)[:, :n]
        b[draw.random(b.shape) < 0.1] = 0
        lines = rows + 2
        index = draw.integers(0, lines, (rows, taps))
        return cls(draw_f32(draw, lines, depth), b, draw_f32(draw, n), draw_f32(draw, rows, n), index)

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """The product, and that of the magnitudes."""
        a, b = self.a[self.index].reshape(len(self.index), -1).astype(np.float64), self.b.astype(np.float64)
        return a @ b, np.abs(a) @ np.abs(b)

    def run(self, kernel: Kernel, rows: int | None = None, offset: int = 1, **given: object) -> np.ndarray:
        """The first rows, in memory among NaN."""
        packed = _among(kernels_sparse.pack(kernel, self.b), offset)
        given = {"bias": among_nan(self.bias, offset), "add": among_nan(self.add, offset)[:rows], **given}
        index = self.index[:rows]
        prepared = kernels_sparse.prepare_spmm(
            kernel, among_nan(self.a, offset), packed, self.b.shape[1], index=index, **given
        )
        prepared()
        return np.asarray(prepared.out)


def _among(packed: Packed, offset: int = 1) -> Packed:
    return Packed(packed.start, packed.index, among(packed.value, np.float32(np.nan), offset, gap=0))


def test_every_instruction_set_of_this_machine_has_both_formats():
    found = [(row.isa, row.format, row.nr) for row in ROWS if row.usable]
    assert found == [(isa, f"blocks_{nr}x1", nr) for isa in ISAS for nr in (1, 4)]


@EACH
@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("kept", KEPT)
def test_a_product_of_any_size(kernel, taps, kept):
    for n, depth in itertools.product(COLUMNS, DEPTHS):
        whole = Product.drawn(kernel, 2 * kernel.mr + 1, n, depth, taps, kept)
        product, magnitude = whole.exact()
        some = sorted({1, 2, kernel.mr - 1, kernel.mr, kernel.mr + 1, 2 * kernel.mr + 1} - {0})
        for place, rows in enumerate(some):
            clamp, with_bias, with_add = CLAMPS[(place + depth) % 4], (place + n) % 2, (place + n) // 2 % 2
            out = room(rows, n)
            bias = among_nan(whole.bias) if with_bias else None
            add = among_nan(whole.add)[:rows] if with_add else None
            whole.run(kernel, rows, bias=bias, add=add, low=clamp[0], high=clamp[1], out=out.view)
            exact = product[:rows] + with_bias * whole.bias.astype(np.float64) + with_add * whole.add[:rows]
            sums = magnitude[:rows] + with_bias * np.abs(whole.bias) + with_add * np.abs(whole.add[:rows])
            bound = (depth * taps + 3) * HALF_ULP * 1.01 * sums
            assert_within(out.view, np.clip(exact, *clamp), bound, (rows, n, depth))
            assert out.untouched(SENTINEL), (rows, n, depth)


@EACH
def test_a_row_has_the_bits_that_it_has_among_others_and_in_parts(kernel):
    n, rows = 22, 3 * kernel.mr + 5
    whole = Product.drawn(kernel, rows, n, 77, 2)
    expected = whole.run(kernel, low=-2, high=2)
    for count in (1, 2, kernel.mr + 1):
        np.testing.assert_array_equal(whole.run(kernel, count, low=-2, high=2), expected[:count])
    for offset in range(2, 16, 5):
        np.testing.assert_array_equal(whole.run(kernel, offset=offset, low=-2, high=2, block=7), expected)
    for first, last in ((0, 4), (4, 16), (16, 22), (8, 8)):
        out = room(rows, n)
        whole.run(kernel, low=-2, high=2, out=out.view, columns=(first, last))
        np.testing.assert_array_equal(out.view[:, first:last], expected[:, first:last])
        out.view[:, first:last] = SENTINEL
        assert (out.whole == SENTINEL).all()


@EACH
def test_packing_keeps_the_blocks_that_hold_anything(kernel):
    for n, k, kept in itertools.product(COLUMNS, (1, 8, 21), KEPT):
        b = Product.drawn(kernel, 1, n, k, 1, kept).b
        b[b > 1.5] = -0.0
        padded = np.zeros((k, -(-n // kernel.nr) * kernel.nr), np.float32)
        padded[:, :n] = b
        blocks = padded.reshape(k, -1, kernel.nr).swapaxes(0, 1)
        held = (blocks != 0).any(2)
        for given in (b, np.asfortranarray(b)):
            found = kernels_sparse.pack(kernel, given)
            np.testing.assert_array_equal(found.start, np.concatenate([[0], held.sum(1).cumsum()]))
            np.testing.assert_array_equal(found.index, np.nonzero(held)[1])
            np.testing.assert_array_equal(found.value, blocks[held])


@EACH
def test_nan_and_infinity_reach_what_reads_them(kernel):
    """What meets no block is not read: nothing times zero is nothing."""
    for value, depth in itertools.product((np.nan, np.inf, -np.inf), (5, 40)):
        whole = Product.drawn(kernel, kernel.mr + 2, 8, depth, 1, 1.0)
        whole.b[...] = np.abs(whole.b) + 1
        whole.b[depth - 1, :4] = 0
        whole.index[...] = np.arange(len(whole.index))[:, None]
        whole.a[1, depth - 1] = value
        found = whole.run(kernel)
        assert np.isfinite(found[:, :4]).all() and np.isfinite(np.delete(found, 1, 0)).all()
        assert not np.isfinite(found[1, 4:]).any()
        whole.b[0, 0] = np.nan
        assert np.isnan(whole.run(kernel, low=-1, high=1)[:, 0]).all()


@EACH
def test_no_rows_write_nothing(kernel):
    whole, out = Product.drawn(kernel, 3, 8, 16), room(3, 8)
    packed = kernels_sparse.pack(kernel, whole.b)
    kernels_sparse.prepare_spmm(kernel, whole.a, packed, 8, index=whole.index, out=out.view).idle()
    assert (out.whole == SENTINEL).all()


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""
    for n, rows, depth, taps in itertools.product((1, 4, 7), (1, kernel.mr, kernel.mr + 3), (1, 6, 40), (1, 2)):
        whole = Product.drawn(kernel, rows, n, depth, taps)
        packed = Packed(*map(before_a_locked_page, kernels_sparse.pack(kernel, before_a_locked_page(whole.b))))
        a, bias, add = map(before_a_locked_page, (whole.a, whole.bias, whole.add))
        given = {"bias": bias, "add": add, "out": before_a_locked_page(np.zeros((rows, n), np.float32))}
        kernels_sparse.prepare_spmm(kernel, a, packed, n, index=whole.index, **given)()


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)
