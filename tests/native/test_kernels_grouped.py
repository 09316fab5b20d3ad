"""Every row for small weights against float64, and against the product of float32 of what the weights stand for."""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

import numpy as np
import pytest

from edgewright_runtime import kernels
from edgewright_runtime.kernels import Kernel
from tests.native import grouped_kernels
from tests.native.test_kernels import (
    CLAMPS,
    HALF_ULP,
    ISAS,
    SENTINEL,
    among,
    among_nan,
    assert_within,
    before_a_locked_page,
    columns_of,
    draw_f32,
    each_of,
    room,
    run_touch_each,
    touch_each,
)

__all__ = ["ROWS", "touch_each", "touch_nothing_behind"]
ROWS = [row for row in kernels.rows() if row.op == "gemm_grouped"]
EACH = each_of(ROWS, ("gemm_grouped",))
BITS = pytest.mark.parametrize("bits", [4, 8])
GARBAGE = np.int32(0x5A5A5A5A)
DEPTHS = ((1, 1), (7, 7), (8, 8), (33, 33), (48, 16), (261, 261), (608, 32), (1032, 8))
"""Depth and group: less than a word, part of one, several parts of a panel, groups that parts cut."""


class Product(NamedTuple):
    """A product: ``b`` are whole numbers, of which every ``group`` in a column have a scale."""

    a: np.ndarray
    b: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    add: np.ndarray
    group: int
    bits: int

    @classmethod
    def drawn(cls, rows: int, n: int, depth: int, group: int, bits: int) -> Product:
        draw = np.random.default_rng([rows, n, depth, group, bits])
        half = 2 ** (bits - 1)
        b = draw.integers(-half, half, (depth, n)).astype(np.int8)
        scale = draw.uniform(0.01, 0.2, (depth // group, n)).astype(np.float32)
        return cls(*(draw_f32(draw, rows, depth), b, scale, draw_f32(draw, n), draw_f32(draw, rows, n), group, bits))

    def wide(self) -> np.ndarray:
        """What ``b`` stands for."""
        return self.b.astype(np.float32) * np.repeat(self.scale, self.group, axis=0)

    def run(self, kernel: Kernel, rows: int | None = None, offset: int = 1, **given: object) -> np.ndarray:
        """The first rows, in memory among NaN."""
        n, a = self.b.shape[1], among_nan(self.a[:rows], offset)
        words = among(grouped_kernels.pack(kernel, self.b, self.bits), GARBAGE, offset)
        scale = among_nan(kernels.pack(grouped_kernels.f32_kernel(kernel), self.scale), offset)
        prepared = grouped_kernels.prepare_gemm(kernel, a, words, scale, n, self.group, self.bits, **given)
        prepared()
        return np.asarray(prepared.out)


def test_every_instruction_set_of_this_machine_has_a_row():
    assert [row.isa for row in ROWS if row.usable] == ISAS


@EACH
@BITS
def test_a_product_of_any_size(kernel, bits):
    for n, (depth, group) in itertools.product(columns_of(kernel), DEPTHS):
        whole = Product.drawn(kernel.mr + 1, n, depth, group, bits)
        wide = whole.wide().astype(np.float64)
        product, magnitude = whole.a.astype(np.float64) @ wide, np.abs(whole.a).astype(np.float64) @ np.abs(wide)
        for place, rows in enumerate((1, 2, kernel.mr + 1)):
            clamp, with_bias, with_add = CLAMPS[(place + depth) % 4], (place + n) % 2, (place + n) // 2 % 2
            out = room(rows, n)
            bias = among_nan(whole.bias) if with_bias else None
            add = among_nan(whole.add)[:rows] if with_add else None
            whole.run(kernel, rows, bias=bias, add=add, low=clamp[0], high=clamp[1], out=out.view)
            exact = product[:rows] + with_bias * whole.bias.astype(np.float64) + with_add * whole.add[:rows]
            sums = magnitude[:rows] + with_bias * np.abs(whole.bias) + with_add * np.abs(whole.add[:rows])
            bound = (depth + 3) * HALF_ULP * 1.01 * sums
            assert_within(out.view, np.clip(exact, *clamp), bound, (rows, n, depth, group))
            assert out.untouched(SENTINEL), (rows, n, depth)


@EACH
@BITS
def test_one_row_has_the_bits_that_it_has_among_others_at_any_address(kernel, bits):
    n = 2 * kernel.nr + 1
    whole = Product.drawn(200, n, 1032, 24, bits)
    expected = whole.run(kernel, bias=whole.bias, add=whole.add, low=-2, high=2)
    for rows in (1, 2, 97):
        found = whole.run(kernel, rows, bias=whole.bias, add=whole.add[:rows], low=-2, high=2)
        np.testing.assert_array_equal(found, expected[:rows])
    for offset in range(2, 16, 5):
        given = {"bias": among_nan(whole.bias, offset), "add": among_nan(whole.add, offset), "low": -2, "high": 2}
        np.testing.assert_array_equal(whole.run(kernel, offset=offset, **given, block=7), expected)


@EACH
@BITS
def test_a_part_of_a_panel_has_the_bits_of_a_product_of_floats(kernel, bits):
    whole = Product.drawn(kernel.mr + 1, 2 * kernel.nr, 128, 32, bits)
    found = whole.run(kernel, bias=whole.bias, add=whole.add)
    wanted = kernels.gemm(grouped_kernels.f32_kernel(kernel), whole.a, whole.wide(), bias=whole.bias, add=whole.add)
    np.testing.assert_array_equal(found, wanted)


@EACH
@BITS
def test_packing_is_words_of_a_column(kernel, bits):
    each = 32 // bits
    for n, k in itertools.product(columns_of(kernel), (1, 8, 21)):
        b, words, panels = Product.drawn(1, n, k, k, bits).b, -(-k // each), []
        padded = np.zeros((words * each, n + kernel.nr), np.uint32)
        padded[:k, :n] = b.astype(np.uint8).astype(np.uint32) & (2**bits - 1)
        parts = padded.reshape(words, each, -1) << (np.arange(each, dtype=np.uint32) * bits)[:, None]
        for begin in range(0, n, kernel.nr):
            width = kernel.nr // 2 if n - begin <= kernel.nr // 2 else kernel.nr
            panels.append(np.bitwise_or.reduce(parts[:, :, begin : begin + width], axis=1).ravel())
        expected = np.concatenate(panels).view(np.int32)
        assert grouped_kernels.packed_size(kernel, n, k, bits) == expected.size
        for given in (b, np.asfortranarray(b)):
            out = room(expected.size, fill=GARBAGE, gap=0)
            np.testing.assert_array_equal(grouped_kernels.pack(kernel, given, bits, out.view), expected)
            assert out.untouched(GARBAGE)


@EACH
@pytest.mark.parametrize("rows", [1, 3])
def test_nan_and_infinity_reach_their_row(kernel, rows):
    for value, depth in itertools.product((np.nan, np.inf, -np.inf), (9, 40)):
        whole = Product.drawn(rows, 2 * kernel.nr, depth, depth, 4)
        whole.b[depth - 1] = np.where(whole.b[depth - 1] == 0, 1, whole.b[depth - 1])
        whole.a[0, depth - 1] = value
        found = whole.run(kernel)
        assert not np.isfinite(found[0]).any() and np.isfinite(found[1:]).all()


@EACH
def test_no_rows_write_nothing(kernel):
    whole, out = Product.drawn(3, kernel.nr, 16, 16, 4), room(3, kernel.nr)
    words, f32 = grouped_kernels.pack(kernel, whole.b, 4), grouped_kernels.f32_kernel(kernel)
    scale = kernels.pack(f32, whole.scale)
    grouped_kernels.prepare_gemm(kernel, whole.a, words, scale, kernel.nr, 16, 4, out=out.view).idle()
    assert (out.whole == SENTINEL).all()


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""
    for n, rows, (depth, group), bits in itertools.product(columns_of(kernel)[2:], (1, 2), DEPTHS[:5:2], (4, 8)):
        whole = Product.drawn(rows, n, depth, group, bits)
        words = before_a_locked_page(np.zeros(grouped_kernels.packed_size(kernel, n, depth, bits), np.int32))
        scale = kernels.pack(grouped_kernels.f32_kernel(kernel), whole.scale)
        a, scale, bias, add = (before_a_locked_page(array) for array in (whole.a, scale, whole.bias, whole.add))
        grouped_kernels.pack(kernel, before_a_locked_page(whole.b), bits, words)
        given = {"bias": bias, "add": add, "out": before_a_locked_page(np.zeros((rows, n), np.float32))}
        grouped_kernels.prepare_gemm(kernel, a, words, scale, n, group, bits, **given)()


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)
