"""Every row for images with channels first against float64: patterns, odd sizes, NaN, and memory outside."""

from __future__ import annotations

import itertools
import math
import sys
from typing import NamedTuple

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

__all__ = ["ROWS", "touch_each", "touch_nothing_behind"]
ROWS = [row for row in kernels.rows() if row.op in ("spmm", "depthwise_plane")]
SPARSE = each_of(ROWS, ("spmm",))
PLANE = each_of(ROWS, ("depthwise_plane",))
HEIGHTS = (1, 3, 4, 5, 8, 30)
DEPTHS = (1, 3, 4, 33, 130)
KEPT = (0.0, 0.1, 0.5, 1.0)
"""Shares of the blocks that hold anything."""


def counts(kernel: Kernel) -> list[int]:
    """Numbers of values about those of vectors and tiles."""
    around = {m + d for m in (4, 8, 16, kernel.mr, 2 * kernel.mr) for d in (-1, 0, 1)}
    return sorted({1, 2, 7, 49, *around} - {0})


class Product(NamedTuple):
    """A product of weights with blocks of zeros."""

    w: np.ndarray
    x: np.ndarray
    bias: np.ndarray
    add: np.ndarray

    @classmethod
    def drawn(cls, kernel: Kernel, count: int, n: int, depth: int, kept: float = 0.4) -> Product:
        draw = np.random.default_rng([count, n, depth, int(10 * kept)])
        w = draw_f32(draw, n, depth)
        blocks = draw.random((-(-n // kernel.nr), depth)) < kept
        w *= np.repeat(blocks, kernel.nr, axis=0)[:n]
        w[draw.random(w.shape) < 0.1] = 0
        return cls(w, draw_f32(draw, depth, count), draw_f32(draw, n), draw_f32(draw, n, count))

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """The product, and that of the magnitudes."""
        w, x = self.w.astype(np.float64), self.x.astype(np.float64)
        return w @ x, np.abs(w) @ np.abs(x)

    def run(self, kernel: Kernel, offset: int = 1, **given: object) -> np.ndarray:
        """In memory among NaN."""
        packed = _among(kernels_planes.pack(kernel, self.w), offset)
        given = {"bias": among_nan(self.bias, offset), "add": among_nan(self.add, offset), **given}
        prepared = kernels_planes.prepare_spmm(kernel, among_nan(self.x, offset), packed, len(self.w), **given)
        prepared()
        return np.asarray(prepared.out)


def _among(packed: Packed, offset: int = 1) -> Packed:
    return Packed(packed.start, packed.index, among(packed.value, np.float32(np.nan), offset, gap=0))


def test_every_instruction_set_of_this_machine_has_all():
    found = [(row.isa, row.op, row.format) for row in ROWS if row.usable]
    kinds = [("spmm", "blocks_1x1"), ("spmm", "blocks_4x1"), ("depthwise_plane", "dense")]
    assert found == [(isa, *kind) for isa in ISAS for kind in kinds]


@SPARSE
@pytest.mark.parametrize("kept", KEPT)
def test_a_product_of_any_size(kernel, kept):
    sizes = itertools.product(HEIGHTS, DEPTHS)
    for place, ((n, depth), count) in enumerate(itertools.product(sizes, counts(kernel))):
        whole = Product.drawn(kernel, count, n, depth, kept)
        product, magnitude = whole.exact()
        clamp, with_bias, with_add = CLAMPS[place % 4], (place + n) % 2, (place + n) // 2 % 2
        out = room(n, count)
        bias, add = (among_nan(one) if with_ else None for one, with_ in ((whole.bias, with_bias), (whole.add, with_add)))
        whole.run(kernel, bias=bias, add=add, low=clamp[0], high=clamp[1], out=out.view)
        exact = product + with_bias * whole.bias.astype(np.float64)[:, None] + with_add * whole.add
        sums = magnitude + with_bias * np.abs(whole.bias)[:, None] + with_add * np.abs(whole.add)
        assert_within(out.view, np.clip(exact, *clamp), (depth + 3) * HALF_ULP * 1.01 * sums, (count, n, depth))
        assert out.untouched(SENTINEL), (count, n, depth)


@SPARSE
@pytest.mark.parametrize("depth", [700, 1100])
@pytest.mark.parametrize(
    ("n", "count"), [(6, 97), (6, 64), (6, 63), (6, 49), (6, 40), (6, 31), (6, 27), (6, 17), (2053, 64), (2053, 49)]
)
def test_depths_for_which_there_is_no_room_at_once(kernel, n, count, depth):
    whole = Product.drawn(kernel, count, n, depth, 0.2)
    product, magnitude = whole.exact()
    bias, out = whole.bias.astype(np.float64)[:, None], room(n, count)
    found = whole.run(kernel, low=-20, high=20, out=out.view).copy()
    bound = (depth + 3) * HALF_ULP * 1.01 * (magnitude + np.abs(bias) + np.abs(whole.add))
    assert_within(found, np.clip(product + bias + whole.add, -20, 20), bound, (n, count))
    assert out.untouched(SENTINEL)
    few = whole._replace(x=whole.x[:, -3:], add=whole.add[:, -3:])
    np.testing.assert_array_equal(few.run(kernel, low=-20, high=20), found[:, -3:])


@SPARSE
def test_a_value_has_the_bits_that_it_has_among_others_and_in_parts(kernel):
    n, count = 22, 3 * kernel.mr + 5
    whole = Product.drawn(kernel, count, n, 77)
    expected = whole.run(kernel, low=-2, high=2)
    for some in (1, 2, kernel.mr + 1):
        few = whole._replace(x=whole.x[:, :some], add=whole.add[:, :some])
        np.testing.assert_array_equal(few.run(kernel, low=-2, high=2), expected[:, :some])
    for offset in range(2, 16, 5):
        np.testing.assert_array_equal(whole.run(kernel, offset=offset, low=-2, high=2), expected)
    for begin, end in ((0, 4), (4, 16), (16, 22), (8, 8)):
        out = room(n, count)
        whole.run(kernel, low=-2, high=2, out=out.view, rows=(begin, end))
        np.testing.assert_array_equal(out.view[begin:end], expected[begin:end])
        out.view[begin:end] = SENTINEL
        assert (out.whole == SENTINEL).all()


@SPARSE
def test_packing_keeps_the_blocks_that_hold_anything(kernel):
    for n, k, kept in itertools.product(HEIGHTS, (1, 8, 21), KEPT):
        w = Product.drawn(kernel, 1, n, k, kept).w
        w[w > 1.5] = -0.0
        padded = np.zeros((-(-n // kernel.nr) * kernel.nr, k), np.float32)
        padded[:n] = w
        blocks = padded.reshape(-1, kernel.nr, k).swapaxes(1, 2)
        held = (blocks != 0).any(2)
        for given in (w, np.asfortranarray(w)):
            found = kernels_planes.pack(kernel, given)
            np.testing.assert_array_equal(found.start, np.concatenate([[0], held.sum(1).cumsum()]))
            np.testing.assert_array_equal(found.index, np.nonzero(held)[1])
            np.testing.assert_array_equal(found.value, blocks[held])


@SPARSE
def test_nan_and_infinity_reach_what_reads_them(kernel):
    """What meets no block is not read: nothing times zero is nothing."""
    for value, depth in itertools.product((np.nan, np.inf, -np.inf), (5, 40)):
        whole = Product.drawn(kernel, kernel.mr + 2, 8, depth, 1.0)
        whole.w[...] = np.abs(whole.w) + 1
        whole.w[:4, depth - 1] = 0
        whole.x[depth - 1, 1] = value
        found = whole.run(kernel)
        assert np.isfinite(found[:4]).all() and np.isfinite(np.delete(found, 1, 1)).all()
        assert not np.isfinite(found[4:, 1]).any()
        whole.w[0, 0] = np.nan
        assert np.isnan(whole.run(kernel, low=-1, high=1)[0]).all()


@SPARSE
def test_no_rows_write_nothing(kernel):
    whole, out = Product.drawn(kernel, 3, 8, 16), room(8, 3)
    kernels_planes.prepare_spmm(kernel, whole.x, kernels_planes.pack(kernel, whole.w), 8, out=out.view).idle()
    assert (out.whole == SENTINEL).all()


class Window(NamedTuple):
    """A window that moves over one channel; pairs are down and to the right."""

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    behind: tuple[int, int] = (0, 0)

    def out(self) -> tuple[int, ...]:
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        sizes = zip(self.image, self.pad, self.behind, reach, self.stride, strict=True)
        return tuple((size + before + after - whole) // step + 1 for size, before, after, whole, step in sizes)

    def exact(self, image: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The convolution, and that of the magnitudes."""
        wide = np.pad(image.astype(np.float64), [(before, 99) for before in self.pad])
        found, magnitude = np.zeros((2, *self.out()))
        for (i, j), weight in np.ndenumerate(weights.astype(np.float64)):
            top, left = i * self.dilation[0], j * self.dilation[1]
            tap = wide[top :: self.stride[0], left :: self.stride[1]][: found.shape[0], : found.shape[1]]
            found += tap * weight
            magnitude += np.abs(tap * weight)
        return found, magnitude

    def run(self, kernel: Kernel, images: np.ndarray, weights: np.ndarray, out: np.ndarray, clamp: tuple[float, float]) -> None:
        """Of some channels, with biases 1, 2, .."""
        where = {"stride": self.stride, "dilation": self.dilation, "pad": self.pad, "low": clamp[0], "high": clamp[1]}
        bias = np.arange(1, 1 + len(images), dtype=np.float32)
        kernels_planes.prepare_planes(kernel, images, weights, among_nan(bias), out, **where)()


def windows() -> list[Window]:
    squares = [
        Window((h, w), (k, k), (s, s), (1, 1), (k // 2, k // 2), (k // 2, k // 2))
        for w in (*range(5, 40), 56, 112) for h, k, s in ((7, 3, 1), (6, 3, 2), (9, 5, 1), (8, 5, 2))
    ]  # fmt: skip
    odd = [
        Window((1, 1), (1, 1)),
        Window((1, 50), (1, 9), (1, 3), (1, 2), (0, 5), (0, 20)),
        Window((50, 1), (9, 1), (3, 1), (2, 1), (5, 0), (20, 0)),
        Window((5, 17), (3, 2), (2, 5), (2, 3), (0, 1), (3, 0)),
        Window((4, 4), (3, 3), (1, 1), (1, 1), (9, 9), (9, 9)),
        Window((20, 20), (9, 8), (3, 2), (1, 1), (7, 8), (8, 7)),
    ]
    return [*squares, *odd]


@PLANE
@pytest.mark.parametrize("channels", [1, 3])
def test_a_window_of_any_kind(kernel, channels):
    draw = np.random.default_rng(0)
    for place, window in enumerate(windows()):
        images, weights = draw_f32(draw, channels, *window.image), draw_f32(draw, channels, *window.kernel)
        out, clamp, size = room(channels, math.prod(window.out())), CLAMPS[place % 4], math.prod(window.image)
        apart = among_nan(images.reshape(channels, size), place % 7)
        views = [
            np.lib.stride_tricks.as_strided(flat, (channels, *shape), (flat.strides[0], shape[1] * 4, 4))
            for flat, shape in ((apart, window.image), (out.view, window.out()))
        ]
        window.run(kernel, views[0], among_nan(weights, 3, gap=0), views[1], clamp)
        for channel, (image, kernel_of) in enumerate(zip(images, weights, strict=True), 1):
            exact, magnitude = window.exact(image, kernel_of)
            bound = (kernel_of.size + 2) * HALF_ULP * 1.01 * (magnitude + channel)
            assert_within(views[1][channel - 1], np.clip(exact + channel, *clamp), bound, window)
        assert out.untouched(SENTINEL), window


@PLANE
def test_nan_reaches_the_windows_that_see_it(kernel):
    for width in (7, 33):
        window = Window((5, width), (3, 3), pad=(1, 1), behind=(1, 1))
        images, weights = np.ones((2, 5, width), np.float32), np.ones((2, 3, 3), np.float32)
        out = np.zeros_like(images)
        images[0, 2, 3] = np.nan
        window.run(kernel, images, weights, out, (-1, 1))
        seen = (np.abs(np.arange(5)[:, None] - 2) <= 1) & (np.abs(np.arange(width) - 3) <= 1)
        assert (np.isnan(out[0]) == seen).all() and np.isfinite(out[1]).all()


def touch_nothing_behind(kernel: Kernel) -> None:
    """Runs a kernel on memory that ends with a page."""
    if kernel.op == "depthwise_plane":
        draw = np.random.default_rng(0)
        for window in windows():
            operands = [draw_f32(draw, 2, *window.image), draw_f32(draw, 2, *window.kernel), np.zeros((2, *window.out()), np.float32)]
            window.run(kernel, *map(before_a_locked_page, operands), (-1, 1))
        return
    for n, count, depth in itertools.product((1, 4, 7), counts(kernel), (1, 6, 40)):
        whole = Product.drawn(kernel, count, n, depth)
        packed = Packed(*map(before_a_locked_page, kernels_planes.pack(kernel, before_a_locked_page(whole.w))))
        x, bias, add = map(before_a_locked_page, (whole.x, whole.bias, whole.add))
        given = {"bias": bias, "add": add, "out": before_a_locked_page(np.zeros((n, count), np.float32))}
        kernels_planes.prepare_spmm(kernel, x, packed, n, **given)()


@pytest.mark.skipif(sys.platform == "win32", reason="locks pages with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_memory_behind_what_is_given_is_not_touched(isa):
    run_touch_each(__name__, isa)
