"""Every row of the table of kernels against float64: odd sizes, borders, NaN, and memory outside of what is given."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from onnx import helper

from edgewright_runtime import kernels
from edgewright_runtime.kernels import COMBINES, INFINITY, MAPS, Kernel
from tests.native.small_models import model

HEADER = Path(__file__).parents[2] / "kernels_arm" / "include" / "edge_kernels.h"
OPS = [op for op in kernels.OPS if op not in ("quantize", "dequantize", "gemm_grouped", "spmm", "spmv", "depthwise_plane")]
TESTED = {(op, "f32", "dense") for op in OPS}
ROWS = [row for row in kernels.rows() if row.dtype == "f32" and row.op in OPS]
ISAS = kernels.isas()
HALF_ULP = 2.0**-24
TINY = 2.0**-149
"""The smallest float32: no error can be smaller."""
GAP = 3
LENGTHS = range(1, 71)
SENTINEL = np.float32(-12345.678)
NAN = np.float32(np.nan)


def each(*ops: str) -> pytest.MarkDecorator:
    """Every row of these ops that this machine runs."""
    return each_of(ROWS, ops)


def each_of(rows: list[Kernel], ops: tuple[str, ...]) -> pytest.MarkDecorator:
    found = [row for row in rows if row.usable and row.op in ops]
    return pytest.mark.parametrize("kernel", found, ids=[row.name for row in found])


class Room(NamedTuple):
    """An array within memory that is filled with something else: before, behind and between its rows."""

    whole: np.ndarray
    view: np.ndarray

    def untouched(self, fill: np.generic) -> bool:
        """Whether only the array has changed; the array is overwritten."""
        self.view[...] = fill
        return bool((self.whole == fill).all())


def room(*shape: int, fill: np.generic = SENTINEL, offset: int = 1, gap: int = GAP) -> Room:
    """An array of the dtype of ``fill`` whose first value lies ``offset`` values behind a multiple of 64 bytes."""
    rows, columns, line = math.prod(shape[:-1]), shape[-1], 64 // fill.itemsize
    whole = np.full(4 * line + rows * (columns + gap) + 4 * line, fill)
    begin = 2 * line - whole.ctypes.data // fill.itemsize % line + offset
    block = whole[begin : begin + rows * (columns + gap)].reshape(*shape[:-1], columns + gap)
    return Room(whole, block[..., :columns] if gap else block)


def among_nan(values: np.ndarray, offset: int = 1, gap: int = GAP) -> np.ndarray:
    """The values, in memory whose other values are NaN."""
    return among(values, NAN, offset, gap)


def among(values: np.ndarray, fill: np.generic, offset: int = 1, gap: int = GAP) -> np.ndarray:
    """The values, in memory that is filled with something else."""
    view = room(*values.shape, fill=fill, offset=offset, gap=gap if values.ndim > 1 else 0).view
    view[...] = values
    return view


def draw_f32(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.standard_normal(shape).astype(np.float32)


def assert_within(found: np.ndarray, exact: np.ndarray, bound: np.ndarray | float, what: object) -> None:
    """Each value is within its bound of the exact one; NaN and infinities are at the same places."""
    with np.errstate(invalid="ignore"):
        good = (
            (np.abs(found.astype(np.float64) - exact) <= bound) | (found == exact) | (np.isnan(found) & np.isnan(exact))
        )
    assert good.all(), f"{what}: {found[~good][:3]} instead of {exact[~good][:3]}"


# The table


def test_the_binding_names_what_the_header_names():
    text = HEADER.read_text(encoding="utf-8")
    for kind, prefix, names in (
        ("op", "EDGE_", kernels.OPS),
        ("dtype", "EDGE_KERNEL_", kernels.DTYPES),
        ("format", "EDGE_", kernels.FORMATS),
    ):
        body = re.search(rf"typedef enum edge_kernel_{kind} {{(.*?)}}", text, re.DOTALL)
        listed = re.findall(rf"{prefix}(\w+)", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL))
        assert [name.lower() for name in listed] == list(names)


def test_every_row_is_tested_here():
    assert {(row.op, row.dtype, row.format) for row in ROWS} <= TESTED


def test_every_op_has_a_scalar_row():
    rows = kernels.rows()
    wanted = {(row.op, row.dtype, row.format) for row in rows}
    assert {(row.op, row.dtype, row.format) for row in rows if row.isa == "scalar" and row.usable} == wanted
    assert {op for op, _, _ in wanted} == set(kernels.OPS)


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_of_this_machine_has_every_op(isa):
    assert {row.op for row in ROWS if row.isa == isa} == set(OPS)


def test_names_are_unique_and_end_with_their_instruction_set():
    rows = kernels.rows()
    assert len({row.name for row in rows}) == len(rows)
    assert len({row[:4] for row in rows}) == len(rows)
    assert all(row.name.startswith(f"edge_{row.op}_{row.dtype}_") and row.name.endswith(f"_{row.isa}") for row in rows)
    assert all((row.mr > 0 and row.nr > 0) == (row.op in ("gemm", "gemm_grouped", "spmm", "spmv")) for row in rows)


@pytest.mark.parametrize("isa", ISAS)
def test_find_gives_the_row_of_the_instruction_set(isa):
    for op in OPS:
        found = kernels.find(op, isa)
        assert (found.op, found.isa, found.dtype) == (op, isa, "f32")
    with pytest.raises(ValueError, match="scalar"):
        kernels.find("gemm", "nonsense")


def test_a_kernel_is_refused_what_it_cannot_do():
    a, scalar = np.ones((2, 3), np.float32), kernels.find("gemm", "scalar")
    with pytest.raises(ValueError, match="softmax.*edge_gemm_f32_scalar"):
        kernels.softmax(scalar, a[0])
    with pytest.raises(ValueError, match=r"packed.*\(24,\).*\(16,\)"):
        kernels.prepare_gemm(scalar, a, np.zeros(16, np.float32), 8)
    with pytest.raises(ValueError, match=r"out .*float64"):
        kernels.gemm(scalar, a, a.T, out=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="with gaps"):
        kernels.softmax(kernels.find("softmax", "scalar"), a[0], out=np.zeros(6, np.float32)[::2])
    with pytest.raises(ValueError, match="has scalar"):
        kernels.gemm(scalar._replace(usable=False), a, a.T)


# Products


class Product(NamedTuple):
    """A product with what it may have, and for each value the sum of the magnitudes that were added."""

    a: np.ndarray
    b: np.ndarray
    index: np.ndarray
    bias: np.ndarray
    add: np.ndarray

    @classmethod
    def drawn(cls, rows: int, n: int, depth: int, taps: int) -> Product:
        draw = np.random.default_rng([rows, n, depth, taps])
        lines = rows if taps == 1 else rows + 2
        a = draw_f32(draw, lines, depth)
        a[-1] = 0 if taps > 1 else a[-1]
        index = np.arange(rows)[:, None] if taps == 1 else draw.integers(0, lines, (rows, taps))
        shapes = ((taps * depth, n), (n,), (rows, n))
        b, bias, add = (draw_f32(draw, *shape) for shape in shapes)
        return cls(a, b, index, bias, add)

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """``a @ b`` and the same of magnitudes."""
        a, b = self.a[self.index].reshape(len(self.index), -1).astype(np.float64), self.b.astype(np.float64)
        return a @ b, np.abs(a) @ np.abs(b)


def columns_of(kernel: Kernel) -> tuple[int, ...]:
    return (1, kernel.nr // 2 - 1, kernel.nr // 2, kernel.nr // 2 + 1, kernel.nr, kernel.nr + 1, 2 * kernel.nr + 3)


CLAMPS = ((-INFINITY, INFINITY), (0.0, INFINITY), (-INFINITY, 0.25), (-0.5, 0.75))


@each("gemm")
@pytest.mark.parametrize("taps", [1, 3, 9])
def test_a_product_of_any_size(kernel, taps):
    for n, depth in itertools.product(columns_of(kernel), (1, 2, 7, 33, 257)):
        whole = Product.drawn(kernel.mr + 1, n, depth, taps)
        product, magnitude = whole.exact()
        a, bias, add = among_nan(whole.a), among_nan(whole.bias), among_nan(whole.add)
        packed = among_nan(kernels.pack(kernel, among_nan(whole.b)))
        for rows, (place, clamp) in itertools.product(range(1, kernel.mr + 2), enumerate(CLAMPS)):
            with_bias, with_add = (rows + place) % 2, (rows + place) // 2 % 2
            given = {"bias": bias if with_bias else None, "add": add[:rows] if with_add else None}
            out, index = room(rows, n), whole.index[:rows]
            given.update(index=index, low=clamp[0], high=clamp[1], out=out.view)
            kernels.prepare_gemm(kernel, a, packed, n, **given)()
            exact = product[:rows] + with_bias * whole.bias.astype(np.float64) + with_add * whole.add[:rows]
            sums = magnitude[:rows] + with_bias * np.abs(whole.bias) + with_add * np.abs(whole.add[:rows])
            bound = (depth * taps + 2) * HALF_ULP * 1.01 * sums
            assert_within(out.view, np.clip(exact, *clamp), bound, (rows, n, depth, given))
            assert out.untouched(SENTINEL), (rows, n, depth)


@each("gemm")
def test_a_row_of_a_product_has_the_same_bits_among_any_rows_at_any_address(kernel):
    n = 2 * kernel.nr - 1
    whole = Product.drawn(2 * kernel.mr + 1, n, 33, 3)
    given = {"index": whole.index, "bias": whole.bias, "add": whole.add, "low": -2, "high": 2}
    expected = kernels.gemm(kernel, whole.a, whole.b, **given)
    for rows in range(1, kernel.mr + 2):
        given.update(index=whole.index[:rows], add=whole.add[:rows])
        np.testing.assert_array_equal(kernels.gemm(kernel, whole.a, whole.b, **given), expected[:rows])
    for offset in range(1, 16, 2):
        a, packed = among_nan(whole.a, offset), among_nan(kernels.pack(kernel, whole.b), offset)
        given = {"bias": among_nan(whole.bias, offset), "add": among_nan(whole.add, offset), "low": -2, "high": 2}
        out = room(*expected.shape, offset=offset).view
        kernels.prepare_gemm(kernel, a, packed, n, index=whole.index, out=out, **given, block=kernel.mr)()
        np.testing.assert_array_equal(out, expected)


@each("gemm")
def test_packing_is_panels_of_columns(kernel):
    for n, k in itertools.product(columns_of(kernel), (1, 5)):
        b = draw_f32(np.random.default_rng([n, k]), k, n)
        panels = []
        for begin in range(0, n, kernel.nr):
            left = n - begin
            panel = np.zeros((k, kernel.nr // 2 if left <= kernel.nr // 2 else kernel.nr), np.float32)
            panel[:, : min(left, kernel.nr)] = b[:, begin : begin + kernel.nr]
            panels.append(panel.ravel())
        expected = np.concatenate(panels)
        assert kernels.packed_size(kernel, n, k) == expected.size
        for given in (b, np.asfortranarray(b), among_nan(b), among_nan(np.ascontiguousarray(b.T)).T):
            out = room(expected.size, gap=0)
            np.testing.assert_array_equal(kernels.pack(kernel, given, out=out.view), expected)
            assert out.untouched(SENTINEL)


@each("gemm")
@pytest.mark.parametrize("n", [1, 21])
def test_nan_and_infinity_in_a_product_reach_what_they_should(kernel, n):
    rows, depth = kernel.mr + 2, 7
    for clamp, value in itertools.product(CLAMPS, (np.nan, np.inf, -np.inf)):
        whole = Product.drawn(rows, n, depth, 1)
        whole.b[:, 0] = np.abs(whole.b[:, 0])
        whole.a[0, 3] = whole.a[1, 0] = whole.bias[n // 2] = whole.add[2, n - 1] = value
        found = kernels.gemm(kernel, whole.a, whole.b, bias=whole.bias, add=whole.add, low=clamp[0], high=clamp[1])
        with np.errstate(invalid="ignore"):
            product = (whole.a.astype(np.float64)[:, :, None] * whole.b.astype(np.float64)).sum(1)
            exact = product + whole.bias + whole.add
        expected = np.where(np.isnan(exact), np.nan, np.clip(exact, *clamp))
        assert_within(found, expected, 1e-5, (clamp, value))
        whole.b[2, 0] = np.nan
        assert np.isnan(kernels.gemm(kernel, whole.a, whole.b)[:, 0]).all()


@each("gemm")
def test_no_rows_write_nothing(kernel):
    out = room(4, 2 * kernel.nr)
    whole = Product.drawn(4, 2 * kernel.nr, 3, 1)
    prepared = kernels.prepare_gemm(kernel, whole.a, kernels.pack(kernel, whole.b), 2 * kernel.nr, out=out.view)
    prepared.idle()
    assert (out.whole == SENTINEL).all() and prepared.calls == 1
    prepared = kernels.prepare_gemm(kernel, whole.a, kernels.pack(kernel, whole.b), 2 * kernel.nr, block=3)
    assert prepared.calls == 2


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
    """A line of a depthwise convolution and what it gives in float64."""

    window: Window
    lines: list[np.ndarray | None]
    weights: np.ndarray
    bias: np.ndarray
    clamp: tuple[float, float]
    exact: np.ndarray
    bound: np.ndarray

    def run(self, kernel: Kernel, out: np.ndarray | None = None) -> np.ndarray:
        w, (low, high) = self.window, self.clamp
        lines = [None if line is None else among_nan(line, gap=0) for line in self.lines]
        weights, bias = among_nan(self.weights, gap=0), among_nan(self.bias)
        where = {"stride": w.stride, "dilation": w.dilation, "pad": w.pad, "out_width": w.out_width}
        return kernels.depthwise_row(kernel, lines, weights, bias, **where, low=low, high=high, out=out)


def convolve(w: Window, lines: list[np.ndarray | None], weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """In float64; what is outside of the image is zero."""
    columns = np.arange(w.out_width)[:, None] * w.stride - w.pad + np.arange(w.width) * w.dilation
    inside = (columns >= 0) & (columns < w.in_width)
    image = np.array([np.zeros((w.in_width, w.channels)) if line is None else line for line in lines], np.float64)
    seen = np.where(inside[None, :, :, None], image[:, np.where(inside, columns, 0)], 0)
    return np.einsum("ioxc,ixc->oc", seen, weights.astype(np.float64)) + bias


def convolved(w: Window, seed: int) -> Convolved:
    draw = np.random.default_rng(seed)
    image = draw_f32(draw, w.height, w.in_width, w.channels)
    lines = [line if draw.random() < 0.75 else None for line in image]
    weights, bias = draw_f32(draw, w.height, w.width, w.channels), draw_f32(draw, w.channels)
    magnitudes = [None if line is None else np.abs(line) for line in lines]
    sums = convolve(w, magnitudes, np.abs(weights), np.abs(bias))
    clamp = CLAMPS[seed % len(CLAMPS)]
    exact = np.clip(convolve(w, lines, weights, bias), *clamp)
    return Convolved(w, lines, weights, bias, clamp, exact, (w.height * w.width + 1) * HALF_ULP * 1.01 * sums)


@cache
def windows() -> list[Convolved]:
    sides, found = ((1, 1), (3, 3), (5, 5), (3, 1), (7, 7)), []
    for (height, width), channels in itertools.product(sides, (1, 7, 8, 16, 17, 33)):
        for stride, dilation, out_width in itertools.product((1, 2, 3), (1, 2), range(1, 10)):
            pad = (0, 1, max(height, width) // 2)[len(found) % 3]
            seen = (out_width - 1) * stride + (width - 1) * dilation + 1
            in_width = max(1, seen - 2 * pad + (len(found) // 3 % 3))
            found.append(
                convolved(Window(channels, height, width, stride, dilation, pad, out_width, in_width), len(found))
            )
    return found


@each("depthwise")
def test_a_line_of_a_depthwise_convolution_of_any_window(kernel):
    for case in windows():
        out = room(case.window.out_width, case.window.channels, gap=0)
        assert_within(case.run(kernel, out.view), case.exact, case.bound, case.window)
        assert out.untouched(SENTINEL), case.window


@each("depthwise")
@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_a_window_outside_of_the_image_gives_the_bias(kernel, side):
    bias = draw_f32(np.random.default_rng(side), 19)
    weights = np.ones((side, side, 19), np.float32)
    where = {"stride": 1, "pad": 100, "out_width": 5}
    found = kernels.depthwise_row(kernel, [None] * side, weights, bias, **where, low=-0.5, high=0.5)
    np.testing.assert_array_equal(found, np.tile(np.clip(bias, -0.5, 0.5), (5, 1)))
    lines = [np.ones((4, 19), np.float32)] * side
    np.testing.assert_array_equal(kernels.depthwise_row(kernel, lines, weights, bias, **where), np.tile(bias, (5, 1)))


@each("depthwise")
@pytest.mark.parametrize("side", [1, 3, 5, 7])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_an_image_reach_the_windows_that_see_them(kernel, side, value):
    for stride, clamp in itertools.product((1, 2), CLAMPS):
        w = Window(19, side, side, stride, 1, side // 2, 9, 9 * stride)
        draw = np.random.default_rng(side)
        image, weights = draw_f32(draw, side, w.in_width, 19), draw_f32(draw, side, side, 19)
        bias = draw_f32(draw, 19)
        image[0, 4, 2] = image[side - 1, 7, 18] = bias[9] = value
        with np.errstate(invalid="ignore"):
            exact = convolve(w, list(image), weights, bias)
        expected = np.where(np.isnan(exact), np.nan, np.clip(exact, *clamp))
        case = Convolved(w, list(image), weights, bias, clamp, expected, np.full(expected.shape, 1e-4))
        assert_within(case.run(kernel), expected, case.bound, (w, clamp))


def unrolled_windows() -> list[object]:
    sizes = ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1))
    return [
        pytest.param(row, *size, id=f"{row.name}-{size[0]}-{size[1]}")
        for row, size in itertools.product(ROWS, sizes)
        if row.op == "depthwise" and row.usable
    ]


@pytest.mark.parametrize(("kernel", "side", "stride"), unrolled_windows())
def test_a_weight_that_is_no_number_does_the_same_in_every_instruction_set(kernel, side, stride):
    image, weights = np.ones((side, 9, 5), np.float32), np.ones((side, side, 5), np.float32)
    weights[0, 0] = [np.nan, np.inf, -np.inf, 1, 1]
    for lines in (list(image), [None, *image[1:]]):
        rows = [
            kernels.depthwise_row(one, lines, weights, np.zeros(5), stride=stride, pad=side // 2, out_width=4)
            for one in (kernel, kernels.find("depthwise", "scalar"))
        ]
        np.testing.assert_array_equal(*rows)


@each("depthwise")
def test_an_image_at_once_is_its_lines(kernel):
    draw = np.random.default_rng(0)
    image, weights, bias = draw_f32(draw, 7, 6, 9), draw_f32(draw, 3, 3, 9), draw_f32(draw, 9)
    where = {"stride": 2, "pad": 1}
    out = room(4, 3, 9, gap=0)
    prepared = kernels.prepare_depthwise(kernel, image, weights, bias, out.view, **where)
    prepared.idle()
    assert (out.whole == SENTINEL).all() and prepared.calls == 4
    prepared()
    padded = [None, *image, None]
    for place, line in enumerate(out.view):
        lines = padded[2 * place : 2 * place + 3]
        np.testing.assert_array_equal(line, kernels.depthwise_row(kernel, lines, weights, bias, out_width=3, **where))
    assert out.untouched(SENTINEL)


# Functions of each value


class Function(NamedTuple):
    """A function in float64, the range of its test, and the largest errors in units of the last place.

    Errors of gelu are in units of the last place of x: it is a difference of nearly equal numbers where x is negative.
    """

    exact: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    scalar_ulp: float
    vector_ulp: float


def each_value(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.array([function(value) for value in x.tolist()])


FUNCTIONS = {
    "exp": Function(np.exp, -104, 88.7, 1, 1.9),
    "erf": Function(each_value(math.erf), -5, 5, 1.5, 4),
    "gelu": Function(each_value(lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2))), -12, 12, 1, 3),
    "tanh": Function(np.tanh, -12, 12, 4, 4),
    "sigmoid": Function(lambda x: 1 / (1 + np.exp(-x)), -100, 100, 3.5, 4.5),
    "silu": Function(lambda x: x / (1 + np.exp(-x)), -80, 80, 4.5, 5.5),
}
SPECIAL = (np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, TINY, -TINY)
OF_SPECIAL = {
    "exp": (np.nan, np.inf, 0, np.inf, 0, 1, 1, 1, 1),
    "erf": (np.nan, 1, -1, 1, -1, 0, -0.0, TINY, -TINY),
    "gelu": (np.nan, np.inf, np.nan, 3e38, 0, 0, -0.0, 0, 0),
    "tanh": (np.nan, 1, -1, 1, -1, 0, -0.0, TINY, -TINY),
    "sigmoid": (np.nan, 1, 0, 1, 0, 0.5, 0.5, 0.5, 0.5),
    "silu": (np.nan, np.inf, np.nan, 3e38, 0, 0, -0.0, 0, 0),
}
"""What is a product with x is NaN at -inf: -inf times zero."""


@cache
def values(op: str) -> tuple[np.ndarray, np.ndarray]:
    """Values over the whole range, near zero and tiny, and the function of each."""
    function, draw = FUNCTIONS[op], np.random.default_rng(0)
    tiny = 10.0 ** draw.uniform(-44, 0, 10_000) * draw.choice([-1, 1], 10_000)
    parts = (np.linspace(function.low, function.high, 60_000), draw.uniform(-1, 1, 20_000), tiny)
    x = np.concatenate(parts).astype(np.float32)
    return x, function.exact(x.astype(np.float64))


@each(*MAPS)
def test_a_function_is_near_the_exact_one(kernel):
    function, (x, exact) = FUNCTIONS[kernel.op], values(kernel.op)
    unit = np.spacing(np.abs(x if kernel.op == "gelu" else exact.astype(np.float32))).astype(np.float64)
    error = (np.abs(kernels.map_rows(kernel, x) - exact) / unit).max()
    assert error <= (function.scalar_ulp if kernel.isa == "scalar" else function.vector_ulp)


@each(*MAPS)
@pytest.mark.parametrize("copies", [1, 5])
def test_a_function_of_special_values(kernel, copies):
    found = kernels.map_rows(kernel, np.tile(np.array(SPECIAL, np.float32), copies))
    expected = np.tile(np.array(OF_SPECIAL[kernel.op], np.float32), copies)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2 * TINY)
    zeros = np.tile(np.array(SPECIAL) == 0, copies)
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(expected[zeros]))


@each(*MAPS)
def test_a_function_of_any_number_of_values_at_any_address(kernel):
    x, _ = values(kernel.op)
    x = np.random.default_rng(0).choice(x, LENGTHS[-1])
    expected = kernels.map_rows(kernel, x)
    for count in LENGTHS:
        out = room(count, offset=count % 16, gap=0)
        found = kernels.map_rows(kernel, among_nan(x[-count:], offset=count % 5), out=out.view)
        np.testing.assert_array_equal(found, expected[-count:])
        assert out.untouched(SENTINEL)


# Two values at a time


@each(*COMBINES)
def test_two_values_at_a_time(kernel):
    exact = {"max": np.maximum, "add": np.add}[kernel.op]
    draw = np.random.default_rng(0)
    special = np.array([np.nan, np.inf, -np.inf, 0, 1, -1, 3e38, TINY], np.float32)
    for count in LENGTHS:
        pair = draw_f32(draw, 2, count)
        pair = np.where(draw.random(pair.shape) < 0.3, draw.choice(special, pair.shape), pair)
        with np.errstate(invalid="ignore", over="ignore"):
            expected = exact(*pair)
        out, a, b = room(count, gap=0), among_nan(pair[0], offset=3), among_nan(pair[1], offset=6)
        np.testing.assert_array_equal(kernels.combine(kernel, a, b, out=out.view), expected)
        assert out.untouched(SENTINEL)
        np.testing.assert_array_equal(kernels.combine(kernel, a, b, out=a), expected)
        np.testing.assert_array_equal(kernels.combine(kernel, among_nan(pair[0]), b, out=b), expected)


# The range of values


@each("range")
def test_the_range_of_values_holds_all_of_them_and_zero(kernel):
    draw = np.random.default_rng(0)
    for count, shift in itertools.product(LENGTHS, (-9, 0, 9)):
        x = draw_f32(draw, count) + np.float32(shift)
        assert kernels.value_range(kernel, among_nan(x, offset=count % 16)) == (min(x.min(), 0), max(x.max(), 0))
        for value in (np.inf, -np.inf):
            x[draw.integers(count)] = value
            assert kernels.value_range(kernel, x) == (min(x.min(), 0), max(x.max(), 0))


@each("range")
def test_the_range_of_values_passes_over_nan(kernel):
    draw = np.random.default_rng(0)
    for count in LENGTHS:
        x = draw_f32(draw, count)
        x[draw.random(count) < 0.5] = np.nan
        numbers = [0, *x[~np.isnan(x)]]
        assert kernels.value_range(kernel, x) == (min(numbers), max(numbers))
        assert kernels.value_range(kernel, np.full(count, np.nan)) == (0, 0)
    assert kernels.value_range(kernel, np.zeros(0)) == (0, 0)


# A row by many


@each("dots", "mix")
def test_one_row_by_many_at_any_distance(kernel):
    draw = np.random.default_rng(0)
    for count, depth in itertools.product((1, 2, 3, 4, 5, 9, 33), (1, 3, 7, 8, 16, 17, 31, 64, 65, 80, 130)):
        gap = int(draw.integers(0, 5))
        wide = np.full((count, depth + gap), np.nan, np.float32)
        rows = wide[:, :depth]
        rows[...] = draw_f32(draw, count, depth)
        x = among_nan(draw_f32(draw, depth if kernel.op == "dots" else count), offset=3)
        out = room(count if kernel.op == "dots" else depth, gap=0)
        found = (kernels.dots if kernel.op == "dots" else kernels.mix)(kernel, x, rows, out=out.view)
        terms = rows.astype(np.float64) * (x if kernel.op == "dots" else x[:, None])
        axis = 1 if kernel.op == "dots" else 0
        bound = HALF_ULP * 2 * terms.shape[axis] * np.abs(terms).sum(axis) + TINY
        assert_within(found, terms.sum(axis), bound, (count, depth))
        assert out.untouched(SENTINEL)


@each("dots", "mix")
def test_nothing_by_nothing(kernel):
    run = kernels.dots if kernel.op == "dots" else kernels.mix
    none = np.zeros((0, 5), np.float32)
    if kernel.op == "mix":
        np.testing.assert_array_equal(run(kernel, np.zeros(0, np.float32), none), np.zeros(5))
        none = np.zeros((5, 0), np.float32)
        assert run(kernel, np.zeros(5, np.float32), none).size == 0
    else:
        assert run(kernel, np.zeros(5, np.float32), none).size == 0
        none = np.zeros((5, 0), np.float32)
        np.testing.assert_array_equal(run(kernel, np.zeros(0, np.float32), none), np.zeros(5))


# Rows


def softmax_exact(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - float(x.max()))
    return e / e.sum()


def rows_of_scores() -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    for count in LENGTHS:
        x = draw_f32(draw, count)
        yield x * np.float32(draw.choice([0.01, 1, 10]))
        yield x + np.float32(draw.choice([1e4, -1e4, 0]))
        yield np.where(draw.random(count) < 0.3, np.float32(-np.inf), x)[: count - 1].tolist() + [1]
        yield np.full(count, draw.choice([3.4e38, -3.4e38, 0]))
    yield np.array([3e38, -3e38] * 20)


SOFTMAX_UNITS = {"scalar": 9.5, "vector": 6.5}
"""Largest error over ``HALF_ULP * value * (1 + distance from the largest score)``: that difference is rounded once."""


@each("softmax")
def test_softmax_of_any_length(kernel):
    units = SOFTMAX_UNITS["scalar" if kernel.isa == "scalar" else "vector"]
    for x in rows_of_scores():
        x = among_nan(np.asarray(x, np.float32))
        out = room(x.size, gap=0)
        exact = softmax_exact(x)
        with np.errstate(invalid="ignore"):
            distance = np.minimum(float(x.max()) - x.astype(np.float64), 104)
        bound = units * HALF_ULP * exact * (1 + distance) + 2 * TINY
        assert_within(kernels.softmax(kernel, x, out=out.view), exact, bound, x)
        assert out.untouched(SENTINEL)
        assert_within(kernels.softmax(kernel, x, out=x), exact, bound, "in place")


@each("softmax")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 40])
def test_softmax_without_an_answer_is_nan(kernel, count):
    assert np.isnan(kernels.softmax(kernel, np.full(count, -np.inf))).all()
    for place, value in itertools.product({0, count // 2, count - 1}, (np.nan, np.inf)):
        x = draw_f32(np.random.default_rng(count), count)
        x[place] = value
        found, scalar = (kernels.softmax(one, x) for one in (kernel, kernels.find("softmax", "scalar")))
        assert np.isnan(found[place])
        np.testing.assert_array_equal(np.isnan(found), np.isnan(scalar))
        np.testing.assert_array_equal(found, scalar)


NORM_UNITS = {"scalar": 2.0, "vector": 5.5}
"""Largest error over ``HALF_ULP * (|scale| * (1 + largest |x| / deviation) + |bias|)``: the mean is rounded once."""

EQUAL_UNITS = 9.0
"""The same where all values are equal: their sums are rounded the same way again and again."""


@each("layer_norm")
@pytest.mark.parametrize("mean", [0.0, 3.0, 1000.0])
def test_layer_norm_of_any_length(kernel, mean):
    units = NORM_UNITS["scalar" if kernel.isa == "scalar" else "vector"]
    draw = np.random.default_rng(0)
    for count, epsilon in itertools.product((*LENGTHS, 768, 1023), (1e-5, 1e-12)):
        spread = np.float32(draw.choice([0.1, 1, 10]))
        x = among_nan(draw_f32(draw, count) * spread + np.float32(mean))
        scale, bias = among_nan(draw_f32(draw, count), 2), among_nan(draw_f32(draw, count), 3) if count % 3 else None
        wide, added = x.astype(np.float64), 0.0 if bias is None else bias.astype(np.float64)
        deviation = math.sqrt(wide.var() + epsilon)
        exact = (wide - wide.mean()) / deviation * scale + added
        bound = units * HALF_ULP * (np.abs(scale) * (1 + np.abs(x).max() / deviation) + np.abs(added))
        out = room(count, gap=0)
        assert_within(kernels.layer_norm(kernel, x, scale, bias, epsilon, out=out.view), exact, bound, count)
        assert out.untouched(SENTINEL)


@each("layer_norm")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 40])
def test_layer_norm_without_an_answer_is_nan(kernel, count):
    x, scale, bias = draw_f32(np.random.default_rng(count), 3, count)
    for value in (np.nan, np.inf, -np.inf):
        x[count // 2] = value
        assert np.isnan(kernels.layer_norm(kernel, x, scale, bias)).all()
    x[count // 2], scale[0], bias[count - 1] = 0, np.nan, np.nan
    found = np.isnan(kernels.layer_norm(kernel, x, scale, bias))
    assert found[0] and found[-1] and found.sum() == len({0, count - 1})


@each("layer_norm")
def test_layer_norm_of_equal_values_is_the_bias(kernel):
    for count in (1, 4, 16, 64):
        bias = draw_f32(np.random.default_rng(count), count)
        found = kernels.layer_norm(kernel, np.full(count, 7.5), np.ones(count), bias)
        np.testing.assert_array_equal(found, bias)
    for count, value in itertools.product(LENGTHS, (0.1, -3.3, 1000.1)):
        found = kernels.layer_norm(kernel, np.full(count, value), np.ones(count), np.zeros(count), 1e-12)
        assert np.abs(found).max() <= EQUAL_UNITS * HALF_ULP * abs(value) / 1e-6


# Memory that ends where a page ends


_PAGES = []


def before_a_locked_page(values: np.ndarray) -> np.ndarray:
    """The values, directly before memory that ends the process when it is touched."""
    size = -(-values.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + mmap.PAGESIZE)
    _PAGES.append(pages)
    behind = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + size
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(behind), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    view = np.frombuffer(pages, values.dtype, values.size, size - values.nbytes).reshape(values.shape)
    view[...] = values
    return view


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""

    def drawn(*shape: int) -> np.ndarray:
        return before_a_locked_page(draw_f32(np.random.default_rng(0), *shape))

    if kernel.op == "gemm":
        for n, rows in itertools.product(columns_of(kernel), (1, kernel.mr + 1)):
            packed, bias, add = drawn(kernels.packed_size(kernel, n, 3)), drawn(n), drawn(rows, n)
            kernels.prepare_gemm(kernel, drawn(rows, 3), packed, n, bias=bias, add=add, out=drawn(rows, n))()
            kernels.pack(kernel, drawn(3, n), out=packed)
    elif kernel.op == "depthwise":
        for channels, side, stride in itertools.product((1, 7, 8, 17, 33), (1, 3, 5), (1, 2)):
            lines, out = [drawn(5 * stride, channels) for _ in range(side)], drawn(5, channels)
            weights, bias = drawn(side, side, channels), drawn(channels)
            kernels.depthwise_row(kernel, lines, weights, bias, stride=stride, pad=side // 2, out_width=5, out=out)
    else:
        for count in (1, 3, 7, 9, 15, 17, 33):
            x, y, z, out = (drawn(count) for _ in range(4))
            if kernel.op == "layer_norm":
                kernels.layer_norm(kernel, x, y, z, out=out)
            elif kernel.op in COMBINES:
                kernels.combine(kernel, x, y, out=out)
            elif kernel.op == "range":
                kernels.value_range(kernel, x)
            elif kernel.op in ("dots", "mix"):
                rows = drawn(count, 5) if kernel.op == "mix" else drawn(5, count)
                (kernels.dots if kernel.op == "dots" else kernels.mix)(kernel, x, rows, out=drawn(5))
            else:
                (kernels.softmax if kernel.op == "softmax" else kernels.map_rows)(kernel, x, out=out)


def touch_each(rows: list[Kernel], isa: str, touch: Callable[[Kernel], None]) -> None:
    """Names each row before it runs, so that the last name is the one that ended the process."""
    for row in rows:
        if row.isa == isa:
            print(row.name, flush=True)
            touch(row)


def run_touch_each(module: str, isa: str) -> None:
    command = f"from {module} import *; touch_each(ROWS, {isa!r}, touch_nothing_behind)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]} ended with {done.returncode}: {done.stderr}"


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)


# Which instruction set a session runs


RUN = """
import json, sys
import numpy as np
from edgewright_runtime.native_library import Model
session = Model(sys.argv[1]).session()
(y,) = session.run([np.load(sys.argv[2])])
print(json.dumps({"kernels": [step.kernel for step in session.steps() if step.kernel], "y": y.tolist()}))
"""


def small_network() -> bytes:
    draw = np.random.default_rng(0)
    shapes = {
        "w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "b2": (16,), "w3": (16, 16, 1, 1),
        "w4": (16, 20), "b4": (20,), "scale": (20,), "bias": (20,),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Sigmoid", ["c2"], ["s2"]),
        helper.make_node("Mul", ["c2", "s2"], ["m2"]),
        helper.make_node("Conv", ["m2", "w3"], ["c3"]),
        helper.make_node("Add", ["c3", "r1"], ["a3"]),
        helper.make_node("Tanh", ["a3"], ["t3"]),
        helper.make_node("MaxPool", ["t3"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p3"], ["g3"]),
        helper.make_node("Flatten", ["g3"], ["f3"]),
        helper.make_node("MatMul", ["f3", "w4"], ["l4"]),
        helper.make_node("Add", ["l4", "b4"], ["a4"]),
        helper.make_node("Gelu", ["a4"], ["g4"]),
        helper.make_node("LayerNormalization", ["g4", "scale", "bias"], ["n5"]),
        helper.make_node("Softmax", ["n5"], ["y"]),
    ]
    constants = {name: draw_f32(draw, *shape) * np.float32(0.3) for name, shape in shapes.items()}
    return model(nodes, {"x": (2, 3, 12, 12)}, ["y"], constants, opset=20)


@pytest.fixture(scope="module")
def run_with(tmp_path_factory) -> Callable[[str], subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("isa")
    (folder / "m.onnx").write_bytes(small_network())
    np.save(folder / "x.npy", draw_f32(np.random.default_rng(1), 2, 3, 12, 12))

    def run(isa: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", RUN, str(folder / "m.onnx"), str(folder / "x.npy")]
        environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": isa}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_a_forced_instruction_set_is_used_and_differs_in_rounding_only(run_with):
    results = {}
    for isa in ISAS:
        done = run_with(isa)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        stems = {name.removesuffix(f"_{isa}") for name in result["kernels"]}
        assert {"edge_gemm_f32", "edge_depthwise_f32", "edge_layer_norm_f32", "edge_softmax_f32"} == stems
        results[isa] = np.array(result["y"])
    for isa in ISAS:
        np.testing.assert_allclose(results[isa], results["scalar"], rtol=1e-5, atol=1e-7)


def test_an_instruction_set_that_is_not_there_is_refused(run_with):
    done = run_with("nonsense")
    assert done.returncode != 0
    assert "NativeError: EDGEWRIGHT_FORCE_ISA is 'nonsense'" in done.stderr
