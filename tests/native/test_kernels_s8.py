"""Every row for 8 bits against exact sums: odd sizes, borders, extreme values, and memory outside of what is given."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from edgewright_runtime import kernels, kernels_s8
from edgewright_runtime.kernels import INFINITY, Kernel
from edgewright_runtime.kernels_s8 import Grid, PackedWeights, Rescale
from tests.native.test_kernels import (
    HALF_ULP,
    HEADER,
    ISAS,
    LENGTHS,
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
ROWS = [row for row in kernels.rows() if row.dtype == "s8"]
OPS = ("gemm", "depthwise", "add", "quantize", "dequantize")
BYTES = ("int8", "uint8")
Clamp = tuple[float | None, float | None]
NEAR_A_TIE = 1e-4
"""Where the exact value is so near to the middle of two steps, either is right: it is rounded to float32 before."""


def each(*ops: str) -> pytest.MarkDecorator:
    """Every row of these ops that this machine runs."""
    return each_of(ROWS, ops)


DENSE = each_of([row for row in ROWS if row.format == "dense"], ("gemm",))
BLOCKS = each_of([row for row in ROWS if row.format == "blocks_4x4"], ("gemm",))


def garbage(dtype: str) -> np.generic:
    return np.array(0xA5, np.uint8).astype(dtype)[()]


def draw_bytes(draw: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Any byte, the two ends more often than others."""
    ends = np.iinfo(dtype)
    drawn = draw.integers(ends.min, ends.max + 1, shape)
    return np.where(draw.random(shape) < 0.2, draw.choice([ends.min, ends.max], shape), drawn).astype(dtype)


def among_bytes(values: np.ndarray, offset: int = 1, gap: int = 3) -> np.ndarray:
    return among(values, garbage(values.dtype), offset, gap)


def either_end(draw: np.random.Generator, dtype: str) -> int:
    """A zero point: an end of the dtype, or any other."""
    ends = np.iinfo(dtype)
    return int(draw.choice([ends.min, ends.max, draw.integers(ends.min, ends.max + 1)]))


def ends_of(dtype: str) -> tuple[int, int]:
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def clamp_of(draw: np.random.Generator, dtype: str) -> tuple[int, int]:
    """The dtype's ends, or bounds within."""
    ends = np.iinfo(dtype)
    low, high = sorted(int(value) for value in draw.integers(ends.min, ends.max + 1, 2))
    return (low if draw.random() < 0.5 else ends.min), (high if draw.random() < 0.5 else ends.max)


def assert_rounded(found: np.ndarray, exact: np.ndarray, zero: int, clamp: tuple[int, int], what: object) -> None:
    """Each byte is the exact value rounded; near a tie it may be the next one."""
    expected = np.clip(np.rint(exact) + zero, *clamp)
    difference = np.abs(found.astype(np.float64) - expected)
    near = np.abs(exact - np.floor(exact) - 0.5) < NEAR_A_TIE
    good = (difference == 0) | ((difference == 1) & near)
    assert good.all(), f"{what}: {found[~good][:3]} instead of {expected[~good][:3]}, exact {exact[~good][:3]}"


# The table


def test_every_row_is_tested_here():
    assert {(row.op, row.format) for row in ROWS} <= {(op, "dense") for op in OPS} | {("gemm", "blocks_4x4")}


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512vnni"])
def test_instruction_sets_of_this_processor_family_have_every_op(isa):
    if isa not in ISAS:
        pytest.skip(f"this machine has no {isa}")
    assert {row.op for row in ROWS if row.isa == isa} == set(OPS)
    assert [kernels.find(op, isa, "s8").isa for op in OPS] == [isa] * len(OPS)


def test_a_kernel_is_refused_what_it_cannot_do():
    scalar, b = kernels.find("gemm", "scalar", "s8"), np.ones((3, 2), np.int8)
    with pytest.raises(ValueError, match="s8 kernel of op gemm.*edge_gemm_f32_scalar"):
        kernels_s8.pack(kernels.find("gemm", "scalar"), b)
    with pytest.raises(ValueError, match="f32 kernel of op gemm.*edge_gemm_s8_scalar"):
        kernels.pack(scalar, b)
    with pytest.raises(ValueError, match="int8 or uint8, given is float32"):
        kernels_s8.gemm(scalar, np.ones((1, 3), np.float32), b, Rescale(np.ones(2)))
    with pytest.raises(ValueError, match=r"scale must be float32 of shape \(2,\)"):
        kernels_s8.gemm(scalar, b.T, b, Rescale(np.ones(3)))
    with pytest.raises(ValueError, match=r"packed must be uint8 of shape \(32,\)"):
        kernels_s8.prepare_gemm(scalar, b.T, np.zeros(16, np.uint8), 2, Rescale(np.ones(2)))
    depthwise, out = kernels.find("depthwise", "scalar", "s8"), np.zeros((1, 1), np.int8)
    weights, rescale = kernels_s8.pack_depthwise(depthwise, np.ones((1, 3, 3))), Rescale(np.ones(1))
    with pytest.raises(ValueError, match="weights have 3 rows, given are 2 lines"):
        kernels_s8.depthwise_row(depthwise, [None] * 2, weights, rescale, out)
    with pytest.raises(ValueError, match="at most 8 rows and 32 columns, given are 3 and 33"):
        kernels_s8.depthwise_row(depthwise, [None] * 3, weights, rescale, out, dilation=16)


def test_the_largest_window_and_depth_are_those_of_the_header():
    text = HEADER.read_text(encoding="utf-8")
    assert f"EDGE_DEPTHWISE_MOST_HEIGHT = {kernels_s8.DEPTHWISE_MOST_HEIGHT}," in text
    assert f"EDGE_DEPTHWISE_MOST_SPAN = {kernels_s8.DEPTHWISE_MOST_SPAN} " in text
    assert f"EDGE_BLOCKS_MOST_FOURS = {kernels_s8.BLOCKS_MOST_DEPTH // 4} " in text


# Products


class Product(NamedTuple):
    """A product and its exact sums, zero points and bias included."""

    a: np.ndarray
    b: np.ndarray
    index: np.ndarray
    bias: np.ndarray | None
    a_zero: int
    sums: np.ndarray

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, index: np.ndarray, bias: np.ndarray | None, a_zero: int) -> Product:
        rows = a[index].reshape(len(index), -1).astype(np.float64) - a_zero
        return cls(a, b, index, bias, a_zero, rows @ b.astype(np.float64) + (0 if bias is None else bias))

    @classmethod
    def drawn(cls, draw: np.random.Generator, rows: int, n: int, depth: int, taps: int, dtype: str) -> Product:
        """With any share of its blocks, from none to all."""
        lines = rows if taps == 1 else rows + 2
        index = np.arange(rows)[:, None] if taps == 1 else draw.integers(0, lines, (rows, taps))
        a, b = draw_bytes(draw, dtype, lines, depth), draw_bytes(draw, "int8", taps * depth, n)
        there = draw.random((taps, -(-depth // 4), -(-n // 4))) < draw.choice([0, 0.2, 0.6, 1])
        b *= there.repeat(4, 1).repeat(4, 2)[:, :depth, :n].reshape(b.shape)
        bias = draw.integers(-100_000, 100_000, n, np.int32) if draw.random() < 0.7 else None
        return cls.of(a, b, index, bias, either_end(draw, dtype))

    def rescale(self, scale: np.ndarray, zero: int = 0, clamp: Clamp = (None, None)) -> Rescale:
        return Rescale(scale, self.bias, self.a_zero, zero, *clamp)

    def run(self, kernel: Kernel, rescale: Rescale, **given: object) -> np.ndarray:
        """On memory that lies among other values, at odd addresses."""
        bias = None if self.bias is None else among(self.bias, np.int32(2**30))
        rescale = rescale._replace(scale=among_nan(rescale.scale, 5), bias=bias)
        packed = kernels_s8.pack(kernel, among_bytes(self.b), self.index.shape[1])
        packed = among_bytes(packed, offset=1 if kernel.format == "dense" else 4)
        a = among_bytes(self.a, offset=len(self.index) % 64)
        prepared = kernels_s8.prepare_gemm(kernel, a, packed, self.b.shape[1], rescale, index=self.index, **given)
        prepared()
        return prepared.out


def products() -> Iterator[tuple[np.random.Generator, Product]]:
    """Every number of columns with every number of rows; depths and taps take turns."""
    for place, (n, rows) in enumerate(itertools.product(LENGTHS, range(1, 26))):
        draw = np.random.default_rng([n, rows])
        yield draw, Product.drawn(draw, rows, n, 1 + place * 7 % 37, 1 + place * 5 % 9, BYTES[place % 2])


def scales_for(draw: np.random.Generator, sums: np.ndarray) -> np.ndarray:
    """For each column one that brings most sums into the range of a byte, and some out of it."""
    return (draw.uniform(60, 200, sums.shape[-1]) / (1 + np.abs(sums).max(tuple(range(sums.ndim - 1))))).astype(
        np.float32
    )


def assert_product(kernel: Kernel, draw: np.random.Generator, whole: Product) -> None:
    """Both as bytes and as its sums."""
    dtype, scale = str(draw.choice(BYTES)), scales_for(draw, whole.sums)
    zero, clamp = either_end(draw, dtype), clamp_of(draw, dtype)
    out = room(*whole.sums.shape, fill=garbage(dtype), offset=int(draw.integers(64)))
    whole.run(kernel, whole.rescale(scale, zero, clamp), dtype=dtype, out=out.view)
    what = (whole.sums.shape, whole.a.shape, whole.index.shape, dtype, zero, clamp)
    assert_rounded(out.view, whole.sums * scale.astype(np.float64), zero, clamp, what)
    assert out.untouched(garbage(dtype)), what
    found = whole.run(kernel, whole.rescale(np.ones(len(scale), np.float32)), dtype="float32")
    np.testing.assert_array_equal(found, whole.sums.astype(np.float32))


@each("gemm")
def test_a_product_of_any_size(kernel):
    for draw, whole in products():
        assert_product(kernel, draw, whole)


@each("gemm")
@pytest.mark.parametrize("dtype", BYTES)
def test_a_product_with_many_columns_of_great_depth(kernel, dtype):
    sizes = itertools.product((1, 13, 96, 97, 200), (33, 64, 131), ((64, 1), (127, 1), (257, 1), (63, 3), (66, 2)))
    for rows, n, (depth, taps) in sizes:
        draw = np.random.default_rng([rows, n, depth])
        assert_product(kernel, draw, Product.drawn(draw, rows, n, depth, taps, dtype))


@each("gemm")
@pytest.mark.parametrize("dtype", BYTES)
def test_extreme_bytes_are_not_saturated_inside(kernel, dtype):
    ends = np.iinfo(dtype)
    for depth, rows, n in itertools.product((3, 4, 1027), (1, kernel.mr + 1), (1, kernel.nr)):
        for a, b, a_zero in itertools.product((ends.min, ends.max), (-128, 127), (ends.min, ends.max)):
            given = np.full((rows, depth), a, dtype), np.full((depth, n), b, np.int8), np.arange(rows)[:, None]
            whole = Product.of(*given, None, a_zero)
            found = whole.run(kernel, whole.rescale(np.ones(n, np.float32)), dtype="float32")
            np.testing.assert_array_equal(found, whole.sums.astype(np.float32))


@each("gemm")
def test_what_leaves_32_bits_on_the_way_comes_back(kernel):
    depth = 70_001 if kernel.format == "dense" else kernels_s8.BLOCKS_MOST_DEPTH
    a, b, index = np.full((2, depth), 255, np.uint8), np.full((depth, 5), 127, np.int8), np.arange(2)[:, None]
    for bias in (-(2**31), 0, 2**31 - 1):
        whole = Product.of(a, b, index, np.full(5, bias, np.int32), 255)
        found = whole.run(kernel, whole.rescale(np.ones(5, np.float32)), dtype="float32")
        np.testing.assert_array_equal(found, np.full((2, 5), bias, np.float32))


@each("gemm")
@pytest.mark.parametrize(("dtype", "zero"), [("int8", -3), ("uint8", 130)])
def test_ties_are_rounded_to_even(kernel, dtype, zero):
    a = np.arange(-128, 128, dtype=np.int8)[:, None]
    whole = Product.of(a, np.ones((1, 37), np.int8), np.arange(256)[:, None], None, 0)
    found = whole.run(kernel, whole.rescale(np.full(37, 0.5, np.float32), zero), dtype=dtype)
    np.testing.assert_array_equal(found, np.rint(whole.sums / 2) + zero)


@each("gemm")
@pytest.mark.parametrize("dtype", BYTES)
def test_far_beyond_a_byte_is_its_end(kernel, dtype):
    a, scale = np.arange(-128, 128, dtype=np.int8)[:, None], np.full(37, 2.0**40, np.float32)
    whole = Product.of(a, np.ones((1, 37), np.int8), np.arange(256)[:, None], None, 0)
    found = whole.run(kernel, whole.rescale(scale, 1), dtype=dtype)
    np.testing.assert_array_equal(found, np.clip(whole.sums * 2.0**40 + 1, *ends_of(dtype)))


@each("gemm")
def test_a_product_of_bytes_as_floats(kernel):
    for place, (draw, whole) in enumerate(products()):
        if place % 3:
            continue
        shape, scale = whole.sums.shape, scales_for(draw, whole.sums) / 100
        offset = draw_f32(draw, shape[1]) if place % 2 else None
        add = draw_f32(draw, *shape) if draw.random() < 0.5 else None
        clamp = ((-INFINITY, INFINITY), (0.0, INFINITY), (-INFINITY, 0.25), (-0.5, 0.75))[int(draw.integers(4))]
        out = room(*shape, offset=int(draw.integers(16)))
        more = {"offset": None if offset is None else among_nan(offset), "add": None if add is None else among_nan(add)}
        whole.run(kernel, whole.rescale(scale, 77, clamp), dtype="float32", out=out.view, **more)
        parts = [whole.sums * scale.astype(np.float64), 0 if offset is None else offset, 0 if add is None else add]
        bound = 4 * HALF_ULP * 1.01 * sum(np.abs(part) for part in parts)
        assert_within(out.view, np.clip(sum(parts), *clamp), bound, (shape, clamp))
        assert out.untouched(SENTINEL)


@each("gemm")
def test_what_is_added_to_a_product_may_be_no_number(kernel):
    rows, n = kernel.mr + 1, kernel.nr + 3
    whole = Product.drawn(np.random.default_rng(0), rows, n, 7, 1, "int8")
    add, scale = np.zeros((rows, n), np.float32), np.full(n, 0.01, np.float32)
    add[0, 0], add[-1, -1], add[1, 2] = np.nan, np.inf, -np.inf
    found = whole.run(kernel, whole.rescale(scale, clamp=(-1.0, 2.0)), dtype="float32", add=add)
    assert (found[0, 0], found[-1, -1], found[1, 2]) == (-1, 2, -1)
    scale[3] = np.nan
    assert (whole.run(kernel, whole.rescale(scale, 3, (-100, 90)))[:, 3] == -100).all()


@each("gemm")
def test_blocks_of_rows_and_no_rows(kernel):
    rows, n = 3 * kernel.mr + 2, kernel.nr + 1
    whole = Product.drawn(np.random.default_rng(0), rows, n, 9, 2, "uint8")
    rescale = whole.rescale(scales_for(np.random.default_rng(0), whole.sums), 3, (-128, 127))
    expected = whole.run(kernel, rescale)
    np.testing.assert_array_equal(whole.run(kernel, rescale, block=kernel.mr + 1), expected)
    np.testing.assert_array_equal(kernels_s8.gemm(kernel, whole.a, whole.b, rescale, index=whole.index), expected)
    out = room(rows, n, fill=garbage("int8"))
    packed = kernels_s8.pack(kernel, whole.b, 2)
    kernels_s8.prepare_gemm(kernel, whole.a, packed, n, rescale, index=whole.index, out=out.view).idle()
    assert (out.whole == garbage("int8")).all()


@DENSE
def test_packing_is_sums_and_panels_of_columns(kernel):
    draw = np.random.default_rng(0)
    for n, (depth, taps) in itertools.product(LENGTHS, ((1, 1), (4, 1), (5, 3), (11, 2))):
        b = draw_bytes(draw, "int8", taps * depth, n)
        fours = np.zeros((taps, -(-depth // 4) * 4, -(-n // kernel.nr) * kernel.nr), np.int8)
        fours[:, :depth, :n] = b.reshape(taps, depth, n)
        panels = []
        for begin in range(0, n, kernel.nr):
            width = kernel.nr // 2 if n - begin <= kernel.nr // 2 else kernel.nr
            panel = fours[:, :, begin : begin + width]
            panels.append(panel.sum((0, 1), dtype=np.int32).view(np.uint8))
            panels.append(panel.reshape(taps, -1, 4, width).swapaxes(2, 3).ravel().view(np.uint8))
        expected = np.concatenate(panels)
        assert kernels_s8.packed_size(kernel, n, depth, taps) == expected.size
        for given in (b, np.asfortranarray(b), among_bytes(b), among_bytes(np.ascontiguousarray(b.T)).T):
            out = room(expected.size, fill=np.uint8(0xA5), gap=0)
            np.testing.assert_array_equal(kernels_s8.pack(kernel, given, taps, out=out.view), expected)
            assert out.untouched(np.uint8(0xA5))


@BLOCKS
def test_packing_in_blocks_keeps_those_that_hold_anything(kernel):
    draw = np.random.default_rng(0)
    for n, (depth, taps) in itertools.product((1, 4, 5, 30), ((1, 1), (4, 1), (5, 3), (11, 2))):
        b = Product.drawn(draw, 1, n, depth, taps, "int8").b
        padded = np.zeros((taps, -(-depth // 4) * 4, -(-n // 4) * 4), np.int8)
        padded[:, :depth, :n] = b.reshape(taps, depth, n)
        fours = padded.reshape(-1, 4, padded.shape[2] // 4, 4).transpose(2, 0, 3, 1).reshape(padded.shape[2] // 4, -1, 16)
        there = fours.any(2)
        index = np.nonzero(there)[1].astype(np.uint16)
        counts = np.array([len(there), there.sum()], np.int32)
        sums = padded.sum((0, 1), dtype=np.int32)
        start = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
        parts = (counts, sums, start, np.pad(index, (0, len(index) % 2)), fours[there])
        expected = np.concatenate([part.ravel().view(np.uint8) for part in parts])
        for given in (b, np.asfortranarray(b), among_bytes(np.ascontiguousarray(b.T)).T):
            np.testing.assert_array_equal(kernels_s8.pack(kernel, given, taps), expected)


@BLOCKS
def test_some_columns_of_blocks_have_the_bytes_that_they_have_among_all(kernel):
    whole = Product.drawn(np.random.default_rng(1), kernel.mr + 3, 31, 40, 2, "uint8")
    rescale = whole.rescale(scales_for(np.random.default_rng(0), whole.sums), 3, (-128, 127))
    expected = whole.run(kernel, rescale)
    packed = kernels_s8.pack(kernel, whole.b, 2)
    for begin, end in ((0, 4), (4, 31), (8, 28), (28, 31)):
        scale, bias = rescale.scale[begin:end], None if whole.bias is None else whole.bias[begin:end]
        some, n = rescale._replace(scale=scale, bias=bias), end - begin
        prepared = kernels_s8.prepare_gemm(kernel, whole.a, packed, n, some, index=whole.index, first=begin)
        prepared()
        np.testing.assert_array_equal(prepared.out, expected[:, begin:end])


# Depthwise


class Window(NamedTuple):
    """Where a depthwise kernel reads."""

    channels: int
    height: int
    width: int
    stride: int
    dilation: int
    pad: int
    out_width: int
    in_width: int


class Convolved(NamedTuple):
    """A line of a depthwise convolution and its exact sums."""

    window: Window
    lines: list[np.ndarray | None]
    weights: np.ndarray
    bias: np.ndarray | None
    a_zero: int
    dtype: str
    sums: np.ndarray

    @classmethod
    def of(cls, w: Window, lines: list[np.ndarray | None], weights: np.ndarray, *more: object) -> Convolved:
        """What is outside of the image is the zero point, and so adds nothing."""
        bias, a_zero, dtype = more
        columns = np.arange(w.out_width)[:, None] * w.stride - w.pad + np.arange(w.width) * w.dilation
        inside = (columns >= 0) & (columns < w.in_width)
        image = [np.zeros((w.in_width, w.channels)) if x is None else x.astype(np.float64) - a_zero for x in lines]
        seen = np.where(inside[None, :, :, None], np.array(image)[:, np.where(inside, columns, 0)], 0)
        sums = np.einsum("ioxc,cix->oc", seen, weights.astype(np.float64)) + (0 if bias is None else bias)
        return cls(w, lines, weights, bias, a_zero, dtype, sums)

    @classmethod
    def drawn(cls, draw: np.random.Generator, w: Window, dtype: str) -> Convolved:
        image = draw_bytes(draw, dtype, w.height, w.in_width, w.channels)
        lines = [line if draw.random() < 0.75 else None for line in image]
        bias = draw.integers(-10_000, 10_000, w.channels, np.int32) if draw.random() < 0.7 else None
        weights = draw_bytes(draw, "int8", w.channels, w.height, w.width)
        return cls.of(w, lines, weights, bias, either_end(draw, dtype), dtype)

    def run(self, kernel: Kernel, scale: np.ndarray, out: np.ndarray, zero: int, clamp: tuple[int, int]) -> np.ndarray:
        """On memory that lies among other values, at odd addresses."""
        w = self.window
        lines = [None if line is None else among_bytes(line, offset=w.channels % 64, gap=0) for line in self.lines]
        packed = kernels_s8.pack_depthwise(kernel, self.weights)
        packed = packed._replace(packed=among_bytes(packed.packed))
        bias = None if self.bias is None else among(self.bias, np.int32(2**30))
        zeros = among_bytes(np.full(w.channels, self.a_zero, self.dtype))
        rescale = Rescale(among_nan(scale, 5), bias, self.a_zero, zero, *clamp)
        where = {"stride": w.stride, "dilation": w.dilation, "pad": w.pad, "zeros": zeros}
        return kernels_s8.depthwise_row(kernel, lines, packed, rescale, out, a_dtype=self.dtype, **where)


def windows() -> Iterator[tuple[np.random.Generator, Convolved]]:
    """Every kernel up to 8 x 5 with every stride and dilation; channels, widths and padding take turns."""
    sides = itertools.product(range(1, 9), range(1, 6), (1, 2, 3), (1, 2), range(3))
    for place, (height, width, stride, dilation, turn) in enumerate(sides):
        draw = np.random.default_rng([place, turn])
        span, out_width = (width - 1) * dilation + 1, int(draw.choice([1, 2, draw.integers(3, 20), 21 + place % 80]))
        pad = int(draw.integers(0, span + 1))
        in_width = max(1, (out_width - 1) * stride + span - 2 * pad + int(draw.integers(-2, 3)))
        channels = 1 + place * 37 % 130
        yield (
            draw,
            Convolved.drawn(
                draw, Window(channels, height, width, stride, dilation, pad, out_width, in_width), BYTES[place % 2]
            ),
        )


def assert_convolved(kernel: Kernel, draw: np.random.Generator, case: Convolved) -> None:
    dtype, scale = str(draw.choice(BYTES)), scales_for(draw, case.sums)
    zero, clamp = either_end(draw, dtype), clamp_of(draw, dtype)
    out = room(*case.sums.shape, fill=garbage(dtype), offset=int(draw.integers(64)), gap=0)
    case.run(kernel, scale, out.view, zero, clamp)
    assert_rounded(out.view, case.sums * scale.astype(np.float64), zero, clamp, case.window)
    assert out.untouched(garbage(dtype)), case.window


@each("depthwise")
def test_a_line_of_a_depthwise_convolution_of_any_window(kernel):
    for draw, case in windows():
        assert_convolved(kernel, draw, case)


@each("depthwise")
def test_every_number_of_channels_and_the_widest_windows(kernel):
    draw = np.random.default_rng(0)
    for channels in range(1, 131):
        assert_convolved(kernel, draw, Convolved.drawn(draw, Window(channels, 3, 3, 1, 1, 1, 4, 4), "uint8"))
        assert_convolved(kernel, draw, Convolved.drawn(draw, Window(channels, 5, 5, 2, 1, 2, 3, 6), "int8"))
    for width, dilation, stride in ((32, 1, 1), (2, 31, 3), (11, 3, 2), (1, 1, 65), (1, 1, 32)):
        for height, out_width in itertools.product((1, 4, 8), (1, 34, 70)):
            window = Window(70, height, width, stride, dilation, 9, out_width, out_width * stride)
            assert_convolved(kernel, draw, Convolved.drawn(draw, window, "int8"))


@each("depthwise")
@pytest.mark.parametrize("dtype", BYTES)
def test_extreme_windows_are_not_saturated_inside(kernel, dtype):
    w, ends = Window(67, 8, 5, 1, 1, 0, 3, 7), np.iinfo(dtype)
    for a, b, a_zero in itertools.product((ends.min, ends.max), (-128, 127), (ends.min, ends.max)):
        lines, weights = [np.full((7, 67), a, dtype)] * 8, np.full((67, 8, 5), b, np.int8)
        case = Convolved.of(w, lines, weights, np.arange(67, dtype=np.int32) - 33, a_zero, dtype)
        for target in (100, -100):
            scale = np.abs(target / np.where(case.sums[0] == 0, 1, case.sums[0])).astype(np.float32)
            found = case.run(kernel, scale, np.zeros((3, 67), np.int8), 0, (-128, 127))
            assert_rounded(found, case.sums * scale.astype(np.float64), 0, (-128, 127), (a, b, a_zero))


@each("depthwise")
@pytest.mark.parametrize("dtype", BYTES)
def test_a_window_far_beyond_a_byte_is_its_end(kernel, dtype):
    line = np.arange(-100, 101, dtype=np.int8).reshape(3, 67)
    case = Convolved.of(Window(67, 1, 1, 1, 1, 0, 3, 3), [line], np.ones((67, 1, 1), np.int8), None, 0, "int8")
    found = case.run(kernel, np.full(67, 2.0**40, np.float32), np.zeros((3, 67), dtype), 1, ends_of(dtype))
    np.testing.assert_array_equal(found, np.clip(line * 2.0**40 + 1, *ends_of(dtype)))


@each("depthwise")
def test_outside_of_an_image_is_the_zero_point(kernel):
    for dtype, a_zero in (("int8", -128), ("int8", 127), ("uint8", 0), ("uint8", 255)):
        bias = np.arange(19, dtype=np.int32)
        weights = kernels_s8.pack_depthwise(kernel, np.full((19, 3, 3), -77))
        rescale, out = Rescale(np.ones(19), bias, a_zero), np.zeros((5, 19), np.int8)
        kernels_s8.depthwise_row(kernel, [None] * 3, weights, rescale, out, a_dtype=dtype, pad=1)
        np.testing.assert_array_equal(out, np.tile(bias, (5, 1)))


@each("depthwise")
def test_an_image_at_once_is_its_lines(kernel):
    draw = np.random.default_rng(0)
    image, weights = (
        draw_bytes(draw, "uint8", 7, 6, 19),
        kernels_s8.pack_depthwise(kernel, draw_bytes(draw, "int8", 19, 3, 3)),
    )
    rescale, where = Rescale(np.full(19, 0.003), None, 128), {"stride": 2, "pad": 1}
    out = room(4, 3, 19, fill=garbage("int8"), gap=0)
    prepared = kernels_s8.prepare_depthwise(kernel, image, weights, rescale, out.view, **where)
    prepared.idle()
    assert (out.whole == garbage("int8")).all() and prepared.calls == 4
    prepared()
    padded = [None, *image, None]
    for place, line in enumerate(out.view):
        lines, one = padded[2 * place : 2 * place + 3], np.zeros((3, 19), np.int8)
        kernels_s8.depthwise_row(kernel, lines, weights, rescale, one, a_dtype="uint8", **where)
        np.testing.assert_array_equal(line, one)
    assert out.untouched(garbage("int8"))


@each("depthwise")
def test_packed_windows_are_sums_and_groups_of_rows(kernel):
    draw = np.random.default_rng(0)
    for channels, height, width in itertools.product((1, 15, 16, 17, 70), range(1, 9), range(1, 6)):
        weights = draw_bytes(draw, "int8", channels, height, width)
        all_, lines = -(-channels // 16) * 16, -(-height // kernel.mr) * kernel.mr
        padded = np.zeros((all_, lines, width), np.int8)
        padded[:channels, :height] = weights
        groups = padded.reshape(all_, -1, kernel.mr, width).transpose(1, 3, 0, 2)
        parts = (padded.sum((1, 2), dtype=np.int32).view(np.uint8), groups.ravel().view(np.uint8))
        out = room(sum(part.size for part in parts), fill=np.uint8(0xA5), gap=0)
        packed = kernels_s8.pack_depthwise(kernel, among_bytes(weights, gap=0), out=out.view)
        assert packed == PackedWeights(out.view, channels, height, width)
        np.testing.assert_array_equal(out.view, np.concatenate(parts))
        assert out.untouched(np.uint8(0xA5))


# Bytes and floats


GRIDS = [
    Grid(scale, zero, dtype)
    for dtype, zeros in (("int8", (-128, 0, 3, 127)), ("uint8", (0, 128, 255)))
    for zero, scale in itertools.product(zeros, (0.037, 1.0, 3e-6, 1e6))
]


@each("quantize")
def test_floats_become_bytes(kernel):
    draw = np.random.default_rng(0)
    for grid, count in itertools.product(GRIDS, LENGTHS):
        scale = np.float32(grid.scale)
        x = among_nan(draw_f32(draw, count) * (scale * 150), offset=count % 16)
        out = room(count, fill=garbage(grid.dtype), offset=count % 64, gap=0)
        kernels_s8.quantize(kernel, grid, x, out=out.view)
        assert_rounded(out.view, x / np.float64(scale), grid.zero, ends_of(grid.dtype), grid)
        assert out.untouched(garbage(grid.dtype))


@each("quantize")
def test_floats_that_are_ties_or_no_numbers(kernel):
    for grid, copies in itertools.product(GRIDS, (1, 5)):
        low, high = ends_of(grid.dtype)
        special = np.tile(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0, -0.0, 1e-45], np.float32), copies)
        zero = grid.zero
        expected = np.tile([low, high, low, high, low, zero, zero, zero], copies)
        np.testing.assert_array_equal(kernels_s8.quantize(kernel, grid._replace(scale=0.25), special), expected)
        ties = np.arange(-600, 600, dtype=np.float32) / 8
        expected = np.clip(np.rint(ties.astype(np.float64) * 4) + zero, low, high)
        np.testing.assert_array_equal(kernels_s8.quantize(kernel, grid._replace(scale=0.25), ties), expected)


@each("dequantize")
def test_bytes_become_floats(kernel):
    draw = np.random.default_rng(0)
    for grid, count in itertools.product(GRIDS, (*LENGTHS, 256)):
        x = draw_bytes(draw, grid.dtype, count) if count < 256 else np.arange(256).astype(grid.dtype)
        out = room(count, offset=count % 16, gap=0)
        kernels_s8.dequantize(kernel, grid, among_bytes(x, offset=count % 64), out=out.view)
        expected = (x.astype(np.int32) - grid.zero).astype(np.float32) * np.float32(grid.scale)
        np.testing.assert_array_equal(out.view, expected)
        assert out.untouched(SENTINEL)


@each("quantize")
def test_every_byte_comes_back(kernel):
    for grid in GRIDS:
        x = np.arange(256).astype(grid.dtype)
        back = kernels_s8.dequantize(kernels.find("dequantize", kernel.isa, "s8"), grid, x)
        np.testing.assert_array_equal(kernels_s8.quantize(kernel, grid, back), x)


def sums_in_float32(pair: list[np.ndarray], grids: list[Grid], clamp: tuple[int, int]) -> np.ndarray:
    """With a rounding after each operation, as a file says it."""
    a, b = ((x.astype(np.float32) - grid.zero) * np.float32(grid.scale) for x, grid in zip(pair, grids, strict=False))
    return np.clip(np.rint((a + b) / np.float32(grids[2].scale)) + grids[2].zero, *clamp)


@each("add")
def test_sums_of_bytes(kernel):
    draw = np.random.default_rng(0)
    for count in (*LENGTHS, 1027):
        grids = []
        for low, high in ((0.01, 0.6), (0.01, 0.6), (0.7, 1.0)):
            dtype = str(draw.choice(BYTES))
            grids.append(Grid(float(np.float32(draw.uniform(low, high))), either_end(draw, dtype), dtype))
        pair, clamp = [draw_bytes(draw, grid.dtype, count) for grid in grids[:2]], clamp_of(draw, grids[2].dtype)
        limits = {"low": clamp[0], "high": clamp[1]}
        out = room(count, fill=garbage(grids[2].dtype), offset=count % 64, gap=0)
        a, b = among_bytes(pair[0], offset=3), among_bytes(pair[1], offset=6)
        kernels_s8.add(kernel, a, b, tuple(grids), **limits, out=out.view)
        np.testing.assert_array_equal(out.view, sums_in_float32(pair, grids, clamp), str(grids))
        found = out.view.copy()
        assert out.untouched(garbage(grids[2].dtype))
        for x in (a, b):
            if x.dtype == grids[2].dtype:
                kept = x.copy()
                np.testing.assert_array_equal(kernels_s8.add(kernel, a, b, tuple(grids), **limits, out=x), found)
                x[...] = kept


@each("add")
def test_sums_of_all_bytes_are_rounded_as_float32_is(kernel):
    """What is not, is another byte for few of them, which a deep network spreads over most of its values."""
    pair = [x.ravel() for x in np.meshgrid(*[np.arange(-128, 128, dtype=np.int8)] * 2)]
    for scales in np.random.default_rng(0).uniform(0.01, 0.6, (20, 3)).astype(np.float32):
        grids = [Grid(float(scale), zero) for scale, zero in zip(scales, (-9, 30, 4), strict=True)]
        expected = sums_in_float32(pair, grids, ends_of("int8"))
        np.testing.assert_array_equal(kernels_s8.add(kernel, *pair, tuple(grids)), expected, str(grids))


@each("add")
def test_sums_of_bytes_that_are_ties_or_far_out(kernel):
    a, b = (x.ravel() for x in np.meshgrid(np.arange(-128, 128, dtype=np.int8), np.arange(0, 256, 5, dtype=np.uint8)))
    for scale, y_dtype in itertools.product((0.5, 4.0, 2.0**40), BYTES):
        grids = (Grid(scale, -128), Grid(scale, 255, "uint8"), Grid(1.0, 3, y_dtype))
        exact = ((a.astype(np.float64) + 128) + (b.astype(np.float64) - 255)) * scale
        expected = np.clip(np.rint(exact) + 3, *ends_of(y_dtype))
        np.testing.assert_array_equal(kernels_s8.add(kernel, a, b, grids), expected)


# Memory that ends where a page ends


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""
    {"gemm": touch_gemm, "depthwise": touch_depthwise}.get(kernel.op, touch_map)(kernel)


def locked(dtype: str, *shape: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return before_a_locked_page(draw_bytes(draw, dtype, *shape) if dtype in BYTES else draw.random(shape).astype(dtype))


def touch_gemm(kernel: Kernel) -> None:
    for n, depth, rows in itertools.product((1, 4, 5, 16, 17, 40), (1, 3, 4, 6), (1, kernel.mr + 1)):
        b = locked("int8", depth, n)
        packed = locked("uint8", kernels_s8.pack(kernel, b).size)
        kernels_s8.pack(kernel, b, out=packed)
        rescale = Rescale(locked("float32", n), locked("int32", n))
        a, more = locked("int8", rows, depth), {"offset": locked("float32", n), "add": locked("float32", rows, n)}
        kernels_s8.prepare_gemm(kernel, a, packed, n, rescale, out=locked("int8", rows, n))()
        out = locked("float32", rows, n)
        kernels_s8.prepare_gemm(kernel, a, packed, n, rescale, dtype="float32", out=out, **more)()


def touch_depthwise(kernel: Kernel) -> None:
    for channels, side, stride in itertools.product((1, 7, 8, 17, 33, 64, 65, 127), (1, 3, 5), (1, 2)):
        lines, out = [locked("int8", 5 * stride, channels) for _ in range(side)], locked("int8", 5, channels)
        packed = locked("uint8", kernels_s8.depthwise_packed_size(kernel, channels, side, side))
        weights = kernels_s8.pack_depthwise(kernel, locked("int8", channels, side, side), out=packed)
        rescale = Rescale(locked("float32", channels), locked("int32", channels))
        where = {"stride": stride, "pad": side // 2, "zeros": locked("int8", channels)}
        kernels_s8.depthwise_row(kernel, lines, weights, rescale, out, **where)


def touch_map(kernel: Kernel) -> None:
    grid = Grid(0.5)
    for count in (1, 3, 7, 9, 15, 17, 33):
        if kernel.op == "add":
            kernels_s8.add(kernel, *(locked("int8", count) for _ in range(2)), (grid,) * 3, out=locked("int8", count))
        elif kernel.op == "quantize":
            kernels_s8.quantize(kernel, grid, locked("float32", count), out=locked("int8", count))
        else:
            kernels_s8.dequantize(kernel, grid, locked("int8", count), out=locked("float32", count))


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)
