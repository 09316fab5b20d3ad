"""Kernels of 8 bits on numpy arrays: for tests and benchmarks, as ``kernels`` is for those of float32.

Arrays of int8 and of uint8 stand for signed and unsigned bytes; weights are int8.
"""

import ctypes
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .kernels import (
    Kernel,
    Prepared,
    entries,
    expect,
    fits,
    function,
    lines_of,
    prepare_lines,
    prepare_rows,
    row_pointer,
    width_of,
    windows_of,
)

#: The largest window of a depthwise kernel: its rows, and the columns from its first tap to its last.
DEPTHWISE_MOST_HEIGHT = 8
DEPTHWISE_MOST_SPAN = 32
#: Four times the fours of depth, of all taps, that kernels of blocks have room for.
BLOCKS_MOST_DEPTH = 4 * 2048
_FLOAT_BYTES = 4


class Grid(NamedTuple):
    """What a byte q means, ``(q - zero) * scale``; ``dtype`` is int8 or uint8."""

    scale: float
    zero: int = 0
    dtype: str = "int8"


class Rescale(NamedTuple):
    """What becomes of exact sums, ``bias + (a - a_zero) b``.

    A byte is ``clamp(round(sum * scale) + zero)``, ties to even; a float32 is ``clamp(sum * scale + offset + add)``.

    Args:
        scale: [n], float32
        bias: [n], int32, or None.
        a_zero: Zero point of the left side.
        zero: Zero point of a result of bytes.
        low: Clamped to at least this; None: the least that the dtype of the result has.
        high: Clamped to at most this; None: the most.
    """

    scale: Any
    bias: Any = None
    a_zero: int = 0
    zero: int = 0
    low: Optional[float] = None
    high: Optional[float] = None


class PackedWeights(NamedTuple):
    """Weights of a depthwise convolution in the order in which a kernel reads them."""

    packed: Any
    channels: int
    height: int
    width: int


class _Grid(ctypes.Structure):
    """``edge_grid``"""

    _fields_ = [("scale", ctypes.c_float), ("zero", ctypes.c_int32), ("is_signed", ctypes.c_int32)]


class _Rescale(ctypes.Structure):
    """``edge_rescale``"""

    _fields_ = [
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("a_zero", ctypes.c_int32),
        ("a_signed", ctypes.c_int32),
        ("zero", ctypes.c_int32),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    ]


class _Gemm(ctypes.Structure):
    """``edge_gemm_s8``"""

    _fields_ = [
        ("n", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("taps", ctypes.c_int64),
        ("b", ctypes.c_void_p),
        ("out", _Rescale),
        ("offset", ctypes.c_void_p),
        ("c_row", ctypes.c_int64),
        ("add_row", ctypes.c_int64),
        ("to_f32", ctypes.c_int32),
        ("first", ctypes.c_int32),
    ]


class _Depthwise(ctypes.Structure):
    """``edge_depthwise_s8``"""

    _fields_ = [
        ("channels", ctypes.c_int64),
        ("in_width", ctypes.c_int64),
        ("out_width", ctypes.c_int64),
        ("kernel_height", ctypes.c_int64),
        ("kernel_width", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("dilation", ctypes.c_int64),
        ("pad", ctypes.c_int64),
        ("weights", ctypes.c_void_p),
        ("zeros", ctypes.c_void_p),
        ("out", _Rescale),
    ]


class _Add(ctypes.Structure):
    """``edge_add_s8_job``"""

    _fields_ = [("a", _Grid), ("b", _Grid), ("y", _Grid), ("low", ctypes.c_int32), ("high", ctypes.c_int32)]


_MAP = [ctypes.c_void_p] * 3 + [ctypes.c_int64]
_ADD = [ctypes.c_void_p] * 4 + [ctypes.c_int64]


def pack(kernel: Kernel, b: Any, taps: int = 1, out: Any = None) -> Any:
    """The right side of a product in the order in which a kernel reads it.

    Args:
        kernel: A row of op gemm.
        b: [taps * depth, n], int8, of any strides.
        taps: Into how many lines a row of the left side is cut.
        out: Where to, :func:`packed_size` bytes, of a kernel of blocks as many as blocks need; None: a new array.

    Returns:
        [bytes], uint8
    """
    b = np.asarray(b, np.int8)
    depth, n = b.shape[0] // taps, b.shape[1]
    if kernel.format != "dense":
        return _pack_blocks(kernel, b, (n, depth, taps), out)
    size = packed_size(kernel, n, depth, taps)
    out = np.empty(size, np.uint8) if out is None else out
    fits("out", out, (size,), dtype=np.uint8)
    entries().edge_gemm_pack_s8(row_pointer(kernel), n, depth, taps, b.ctypes.data, *b.strides, out.ctypes.data)
    return out


def _pack_blocks(kernel: Kernel, b: Any, sizes: Tuple[int, int, int], out: Any) -> Any:
    expect(kernel, ("gemm",), "s8")
    library = entries()
    given = (*sizes, b.ctypes.data, sizes[1] * b.strides[0], *b.strides)
    size = library.edge_gemm_blocks_bytes_s8(sizes[0], library.edge_gemm_blocks_s8(*given))
    out = np.empty(size, np.uint8) if out is None else out
    fits("out", out, (size,), dtype=np.uint8)
    library.edge_gemm_pack_blocks_s8(*given, out.ctypes.data)
    return out


def _is_packed(kernel: Kernel, packed: Any, columns: int, depth: int, taps: int) -> None:
    """Refuses what is no packed matrix of this size."""
    if kernel.format == "dense":
        fits("packed", packed, (packed_size(kernel, columns, depth, taps),), dtype=np.uint8)
        return
    counts = packed[:8].view(np.int32)
    if 4 * counts[0] < columns or packed.size != entries().edge_gemm_blocks_bytes_s8(4 * int(counts[0]), int(counts[1])):
        raise ValueError("packed is no [{}, {}] matrix in blocks".format(taps * depth, columns))


def packed_size(kernel: Kernel, n: int, depth: int, taps: int = 1) -> int:
    """Bytes of the packed form of a [taps * depth, n] matrix."""
    expect(kernel, ("gemm",), "s8")
    return int(entries().edge_gemm_packed_s8(row_pointer(kernel), n, depth, taps))


def prepare_gemm(
    kernel: Kernel,
    a: Any,
    packed: Any,
    n: int,
    rescale: Rescale,
    *,
    index: Any = None,
    offset: Any = None,
    add: Any = None,
    dtype: str = "int8",
    out: Any = None,
    block: int = 0,
    first: int = 0,
) -> Prepared:
    """A product that can be repeated, with a right side that is packed already.

    Args:
        kernel: A row of op gemm.
        a: [lines, depth], int8 or uint8; lines may be apart.
        packed: What :func:`pack` made of the [taps * depth, n] matrix.
        n: Columns of the product.
        rescale: What becomes of its sums.
        index: [m, taps], integers: which lines of ``a`` make a row, one after the other.  None: row i is line i.
        offset: [n], float32, or None; of a float32 result.
        add: [m, n], float32, or None; of a float32 result.
        dtype: Of the result: int8, uint8 or float32.
        out: [m, n], where to; rows may be apart.  None: a new array.
        block: Rows of one call; 0: all in one.
        first: Of a kernel of blocks, the column of the matrix with which the product begins, a multiple of 4.
    """
    expect(kernel, ("gemm",), "s8")
    a, index = lines_of(a, a.dtype), np.arange(len(a))[:, None] if index is None else np.asarray(index)
    rows, taps = index.shape
    _is_packed(kernel, packed, first + n, a.shape[1], taps)
    out = np.empty((rows, n), dtype) if out is None else out
    fits("out", out, (rows, n), apart=True, dtype=dtype)
    offset, add = None if offset is None else _dense(offset), None if add is None else lines_of(add, np.float32)
    if offset is not None:
        fits("offset", offset, (n,))
    if add is not None:
        fits("add", add, (rows, n), apart=True)
    native, kept = _rescale(rescale, n, a.dtype, dtype)
    job = _Gemm(
        n, a.shape[1], taps, packed.ctypes.data, native, None if offset is None else offset.ctypes.data,
        out.strides[0] // out.itemsize, 0 if add is None else add.strides[0] // _FLOAT_BYTES, dtype == "float32", first,
    )  # fmt: skip
    return prepare_rows(kernel, job, a, index, add, out, block, (packed, offset, kept))


def gemm(
    kernel: Kernel,
    a: Any,
    b: Any,
    rescale: Rescale,
    *,
    index: Any = None,
    offset: Any = None,
    add: Any = None,
    dtype: str = "int8",
    out: Any = None,
) -> Any:
    """A product of bytes.

    Args:
        kernel: A row of op gemm.
        a: [m, k], int8 or uint8; with ``index``: [lines, depth].
        b: [k, n], int8; with ``index``: [taps * depth, n].
        rescale: What becomes of its sums.
        index: [m, taps], integers: which lines of ``a`` make a row, one after the other.
        offset: [n], float32, or None; of a float32 result.
        add: [m, n], float32, or None; of a float32 result.
        dtype: Of the result: int8, uint8 or float32.
        out: [m, n], where to; None: a new array.

    Returns:
        [m, n], ``dtype``
    """
    packed, n = pack(kernel, b, 1 if index is None else np.shape(index)[1]), np.shape(b)[1]
    given = {"index": index, "offset": offset, "add": add, "dtype": dtype, "out": out}
    prepared = prepare_gemm(kernel, a, packed, n, rescale, **given)
    prepared()
    return prepared.out


def pack_depthwise(kernel: Kernel, weights: Any, out: Any = None) -> PackedWeights:
    """Weights of a depthwise convolution in the order in which a kernel reads them.

    Args:
        kernel: A row of op depthwise.
        weights: [channels, kernel_height, kernel_width], int8.
        out: Where to, :func:`depthwise_packed_size` bytes; None: a new array.
    """
    weights = np.asarray(weights, np.int8, order="C")
    size = depthwise_packed_size(kernel, *weights.shape)
    out = np.empty(size, np.uint8) if out is None else out
    fits("out", out, (size,), dtype=np.uint8)
    entries().edge_depthwise_pack_s8(row_pointer(kernel), *weights.shape, weights.ctypes.data, out.ctypes.data)
    return PackedWeights(out, *weights.shape)


def depthwise_packed_size(kernel: Kernel, channels: int, height: int, width: int) -> int:
    """Bytes of the packed form of [channels, height, width] weights."""
    expect(kernel, ("depthwise",), "s8")
    return int(entries().edge_depthwise_packed_s8(row_pointer(kernel), channels, height, width))


def prepare_depthwise(
    kernel: Kernel,
    image: Any,
    weights: PackedWeights,
    rescale: Rescale,
    out: Any,
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: int = 0,
) -> Prepared:
    """A depthwise convolution of an image that can be repeated, one call for each line of the result.

    Args:
        kernel: A row of op depthwise.
        image: [height, width, channels], int8 or uint8.
        weights: What :func:`pack_depthwise` made.
        rescale: What becomes of the sums of each channel.
        out: [out_height, out_width, channels], int8 or uint8, where to.
        stride: Pixels from one window to the next, both ways.
        dilation: Pixels from one tap to the next, both ways.
        pad: Lines of zero points above, and pixels before each line.  What a window sees behind is the same.
    """
    image = np.ascontiguousarray(image)
    windows = windows_of(image, weights.height, len(out), stride, dilation, pad)
    return _prepare_depthwise(
        kernel, windows, weights, rescale, image.dtype, (stride, dilation, pad), list(out), out, None
    )


def depthwise_row(
    kernel: Kernel,
    lines: Sequence[Any],
    weights: PackedWeights,
    rescale: Rescale,
    out: Any,
    *,
    a_dtype: str = "int8",
    stride: int = 1,
    dilation: int = 1,
    pad: int = 0,
    zeros: Any = None,
) -> Any:
    """One line of a depthwise convolution.

    Args:
        kernel: A row of op depthwise.
        lines: For each row of the kernel the line of the image under it, [in_width, channels], or None outside.
        weights: What :func:`pack_depthwise` made.
        rescale: What becomes of the sums of each channel.
        out: [out_width, channels], int8 or uint8, where to.
        a_dtype: Of the lines: int8 or uint8.
        stride: Pixels from one window to the next.
        dilation: Pixels from one tap to the next.
        pad: Pixels of zero points before each line; what a window sees behind a line is the same.
        zeros: [channels], of ``a_dtype``, what is seen outside; None: the zero point.

    Returns:
        ``out``
    """
    where = (stride, dilation, pad)
    _prepare_depthwise(kernel, [list(lines)], weights, rescale, np.dtype(a_dtype), where, [out], out, zeros)()
    return out


def _prepare_depthwise(
    kernel: Kernel,
    windows: List[List[Any]],
    weights: PackedWeights,
    rescale: Rescale,
    a_dtype: Any,
    where: Tuple[int, int, int],
    outs: List[Any],
    out: Any,
    zeros: Any,
) -> Prepared:
    packed, channels, height, width = weights
    span = (width - 1) * where[1] + 1
    if height > DEPTHWISE_MOST_HEIGHT or span > DEPTHWISE_MOST_SPAN:
        most = (DEPTHWISE_MOST_HEIGHT, DEPTHWISE_MOST_SPAN)
        raise ValueError("a window has at most {} rows and {} columns, given are {} and {}".format(*most, height, span))
    size = depthwise_packed_size(kernel, channels, height, width)
    fits("weights", packed, (size,), dtype=np.uint8)
    in_width, out_width = width_of(windows, height, channels, a_dtype), len(outs[0]) if outs else 0
    for one in outs:
        fits("out", one, (out_width, channels), dtype=out.dtype)
    zeros = np.full(channels, rescale.a_zero, a_dtype) if zeros is None else zeros
    fits("zeros", zeros, (channels,), dtype=a_dtype)
    native, kept = _rescale(rescale, channels, a_dtype, out.dtype)
    sizes = (height, width, *where, packed.ctypes.data, zeros.ctypes.data, native)
    job, empty = _Depthwise(channels, in_width, out_width, *sizes), _Depthwise(channels, in_width, 0, *sizes)
    return prepare_lines(kernel, job, empty, windows, outs, out, (packed, zeros, kept))


def quantize(kernel: Kernel, grid: Grid, x: Any, out: Any = None) -> Any:
    """``clamp(round(x / scale) + zero)`` to what the grid holds; NaN gives its least value.

    Args:
        kernel: A row of op quantize.
        grid: What the bytes mean.
        x: float32, any shape.
        out: Of the shape of ``x`` and the grid's dtype, where to; None: a new array.

    Returns:
        The grid's dtype, the shape of ``x``
    """
    return _map(kernel, "quantize", grid, _dense(x), np.dtype(grid.dtype), out)


def dequantize(kernel: Kernel, grid: Grid, x: Any, out: Any = None) -> Any:
    """``(x - zero) * scale``

    Args:
        kernel: A row of op dequantize.
        grid: What the bytes mean.
        x: The grid's dtype, any shape.
        out: Of the shape of ``x``, float32, where to; None: a new array.

    Returns:
        float32, the shape of ``x``
    """
    return _map(kernel, "dequantize", grid, np.asarray(x, grid.dtype, order="C"), np.dtype(np.float32), out)


def _map(kernel: Kernel, op: str, grid: Grid, x: Any, dtype: Any, out: Any) -> Any:
    expect(kernel, (op,), "s8")
    out = np.empty(x.shape, dtype) if out is None else out
    fits("out", out, x.shape, dtype=dtype)
    native = _grid(grid)
    function(kernel, _MAP)(ctypes.addressof(native), x.ctypes.data, out.ctypes.data, x.size)
    return out


def add(
    kernel: Kernel,
    a: Any,
    b: Any,
    grids: Tuple[Grid, Grid, Grid],
    *,
    low: Optional[int] = None,
    high: Optional[int] = None,
    out: Any = None,
) -> Any:
    """The sum of two tensors, each on its own grid.

    Args:
        kernel: A row of op add.
        a: The dtype of the first grid, any shape.
        b: The dtype of the second grid, the shape of ``a``.
        grids: Those of ``a``, of ``b`` and of the result.
        low: Clamped to at least this; None: the least that the dtype of the result has.
        high: Clamped to at most this; None: the most.
        out: Of the shape of ``a`` and the third grid's dtype, where to; it may be ``a`` or ``b``.  None: a new array.

    Returns:
        The dtype of the third grid, the shape of ``a``
    """
    expect(kernel, ("add",), "s8")
    a, b = np.asarray(a, grids[0].dtype, order="C"), np.asarray(b, grids[1].dtype, order="C")
    out = np.empty(a.shape, grids[2].dtype) if out is None else out
    fits("b", b, a.shape, dtype=b.dtype)
    fits("out", out, a.shape, dtype=grids[2].dtype)
    limits = np.iinfo(grids[2].dtype)
    ends = (limits.min if low is None else low, limits.max if high is None else high)
    job = _Add(*[_grid(grid) for grid in grids], *ends)
    function(kernel, _ADD)(ctypes.addressof(job), a.ctypes.data, b.ctypes.data, out.ctypes.data, a.size)
    return out


def _grid(grid: Grid) -> _Grid:
    return _Grid(grid.scale, grid.zero, np.dtype(grid.dtype) == np.int8)


def _rescale(given: Rescale, n: int, a_dtype: Any, dtype: Any) -> Tuple[_Rescale, Any]:
    """With what must stay in memory."""
    if a_dtype not in (np.int8, np.uint8):
        raise ValueError("the left side must be int8 or uint8, given is {}".format(a_dtype))
    scale, bias = _dense(given.scale), None if given.bias is None else np.asarray(given.bias, np.int32, order="C")
    fits("scale", scale, (n,))
    if bias is not None:
        fits("bias", bias, (n,), dtype=np.int32)
    least, most = _limits(dtype)
    low, high = least if given.low is None else given.low, most if given.high is None else given.high
    where = (scale.ctypes.data, None if bias is None else bias.ctypes.data)
    return _Rescale(*where, given.a_zero, a_dtype == np.int8, given.zero, low, high), (scale, bias)


def _limits(dtype: Any) -> Tuple[float, float]:
    if np.dtype(dtype) == np.float32:
        return -float("inf"), float("inf")
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _dense(array: Any) -> Any:
    return np.asarray(array, np.float32, order="C")
