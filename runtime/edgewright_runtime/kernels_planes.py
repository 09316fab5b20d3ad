"""Kernels of values with channels first on numpy arrays, sparse products and what stands between: for tests and benchmarks."""

import ctypes
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from . import kernels
from .kernels import INFINITY, Kernel, Prepared

_SIDE = 4
"""Rows of a result come in so many."""
_FLOATS = 16384
"""That a product works in, or depth times mr where that is less."""
_SPMM = [ctypes.c_void_p, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 4]
_SPMV = [ctypes.c_void_p, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 3]
_TURN = [ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p, ctypes.c_int64] * 2]
_PLANE = [
    ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64,
    ctypes.c_void_p,
]  # fmt: skip


class Packed(NamedTuple):
    """The blocks of a [n, k] matrix that hold anything but zeros.

    Args:
        start: [groups of rows + 1], int32, the place of the first block of each group, then that behind the last one.
        index: [blocks], uint16, which column of the matrix.
        value: [blocks, rows of a block], float32.
    """

    start: Any
    index: Any
    value: Any


class _Product(ctypes.Structure):
    """``edge_spmm_f32``"""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("depth", "x_row", "c_row", "add_row")),
        ("bias", ctypes.c_void_p),
        *((name, ctypes.c_float) for name in ("low", "high")),
        *((name, ctypes.c_void_p) for name in ("start", "index", "value")),
    ]


class _Plane(ctypes.Structure):
    """``edge_depthwise_plane_f32``"""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("in_height", "in_width", "out_height", "out_width")),
        *((name, ctypes.c_int64) for name in ("kernel_height", "kernel_width", "stride_y", "stride_x")),
        *((name, ctypes.c_int64) for name in ("dilation_y", "dilation_x", "pad_top", "pad_left")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    ]


def pack(kernel: Kernel, w: Any) -> Packed:
    """The weights of a product as a kernel reads them.

    Args:
        kernel: A row of op spmm or spmv, which read the same.
        w: [n, k], float32, of any strides; a block is left out where all of it is zero.
    """
    kernels.expect(kernel, ("spmm", "spmv"), "f32")
    w = np.asarray(w, np.float32)
    (n, depth), library = w.shape, kernels.entries()
    given = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.edge_spmm_blocks.restype, library.edge_spmm_blocks.argtypes = ctypes.c_int64, given
    library.edge_spmm_pack_f32.restype, library.edge_spmm_pack_f32.argtypes = None, given + [ctypes.c_void_p] * 3
    places = (kernels.row_pointer(kernel), n, depth, w.ctypes.data, w.strides[0] // 4, w.strides[1] // 4)
    blocks = library.edge_spmm_blocks(*places)
    found = Packed(
        np.empty(-(-n // kernel.nr) + 1, np.int32), np.empty(blocks, np.uint16), np.empty((blocks, kernel.nr), np.float32)
    )
    library.edge_spmm_pack_f32(*places, *(array.ctypes.data for array in found))
    return found


def prepare_spmm(
    kernel: Kernel,
    x: Any,
    packed: Packed,
    n: int,
    *,
    bias: Any = None,
    add: Any = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
    rows: Optional[Tuple[int, int]] = None,
    in_place: bool = False,
) -> Prepared:
    """``clamp(w @ x + bias + add)`` that can be repeated, with weights that are packed already.

    Args:
        kernel: A row of op spmm.
        x: [k, count], float32; rows may be apart.
        packed: What :func:`pack` made of the [n, k] weights.
        n: Rows of the result.
        bias: [n], float32, or None.
        add: [n, count], float32, or None; rows may be apart.
        low: Clamped to at least this.
        high: Clamped to at most this.
        out: [n, count], float32, where to; rows may be apart.  None: a new array.
        rows: The first, a multiple of 4, and the end of those that are made, that too or n; None: all.
        in_place: Columns of ``x`` are one :func:`tile`, whose rows lie one behind the other: it is read where it is.
    """
    kernels.expect(kernel, ("spmm",), "f32")
    count, (begin, end) = x.shape[1], _some(rows, n)
    out = np.empty((n, count), np.float32) if out is None else out
    job = _job(len(x), x, packed, bias, add, low, high, out)
    work = np.empty(0, np.float32) if in_place else np.full(min(_FLOATS, len(x) * kernel.mr), np.nan, np.float32)
    places = (x.ctypes.data, out.ctypes.data, None if add is None else add.ctypes.data, None if in_place else work.ctypes.data)
    call, idle = (
        kernels.ready(_SPMM, ctypes.addressof(job), begin, to, count, *places) for to in (end, begin)
    )
    return Prepared(kernels.function(kernel, _SPMM), [call], [idle], out, (job, x, add, packed, bias, work))


def _some(some: Optional[Tuple[int, int]], n: int) -> Tuple[int, int]:
    begin, end = some or (0, n)
    if begin % _SIDE or not 0 <= begin <= end <= n or (end % _SIDE and end != n):
        raise ValueError(f"{begin} to {end}: expected multiples of {_SIDE} within {n}")
    return begin, end


def _job(depth: int, x: Any, packed: Packed, bias: Any, add: Any, low: float, high: float, out: Any) -> _Product:
    return _Product(
        depth, x.strides[0] // 4, out.strides[0] // 4, 0 if add is None else add.strides[0] // 4,
        None if bias is None else bias.ctypes.data, low, high, *(array.ctypes.data for array in packed),
    )  # fmt: skip


def prepare_spmv(
    kernel: Kernel,
    x: Any,
    packed: Packed,
    n: int,
    *,
    bias: Any = None,
    add: Any = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
    columns: Optional[Tuple[int, int]] = None,
) -> Prepared:
    """``clamp(x @ w.T + bias + add)`` that can be repeated, with weights that are packed already.

    Args:
        kernel: A row of op spmv.
        x: [rows, k], float32; rows may be apart.
        packed: What :func:`pack` made of the [n, k] weights.
        n: Columns of the result.
        bias: [n], float32, or None.
        add: [rows, n], float32, or None; rows may be apart.
        low: Clamped to at least this.
        high: Clamped to at most this.
        out: [rows, n], float32, where to; rows may be apart.  None: a new array.
        columns: The first, a multiple of 4, and the end of those that are made, that too or n; None: all.
    """
    kernels.expect(kernel, ("spmv",), "f32")
    begin, end = _some(columns, n)
    out = np.empty((len(x), n), np.float32) if out is None else out
    job = _job(x.shape[1], x, packed, bias, add, low, high, out)
    places = (x.ctypes.data, out.ctypes.data, None if add is None else add.ctypes.data)
    call, idle = (kernels.ready(_SPMV, ctypes.addressof(job), begin, to, len(x), *places) for to in (end, begin))
    return Prepared(kernels.function(kernel, _SPMV), [call], [idle], out, (job, x, add, packed, bias))


def tile(kernel: Kernel, rows: int) -> int:
    """How many rows are turned to be one tile of a kernel of op spmm, when there are so many."""
    library = kernels.entries()
    library.edge_spmm_tile.restype, library.edge_spmm_tile.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_int64]
    return int(library.edge_spmm_tile(kernels.row_pointer(kernel), rows))


def turn(x: Any, out: Any) -> None:
    """Writes the transpose of a matrix of float32; rows of both may be apart."""
    library = kernels.entries()
    library.edge_turn_f32.restype, library.edge_turn_f32.argtypes = None, _TURN
    library.edge_turn_f32(*x.shape, x.ctypes.data, x.strides[0] // 4, out.ctypes.data, out.strides[0] // 4)


def prepare_planes(
    kernel: Kernel,
    images: Any,
    weights: Any,
    bias: Any,
    out: Any,
    *,
    stride: Tuple[int, int] = (1, 1),
    dilation: Tuple[int, int] = (1, 1),
    pad: Tuple[int, int] = (0, 0),
    low: float = -INFINITY,
    high: float = INFINITY,
) -> Prepared:
    """A depthwise convolution that can be repeated.

    Args:
        kernel: A row of op depthwise_plane.
        images: [channels, height, width], float32; images may be apart.
        weights: [channels, kernel_height, kernel_width], float32, without gaps.
        bias: [channels], float32.
        out: [channels, out_height, out_width], float32, where to; images may be apart.
        stride: Pixels from one window to the next, down and to the right.
        dilation: Pixels from one tap to the next.
        pad: Lines of zeros above and before the image.  What a window sees behind is zeros as well.
        low: Clamped to at least this.
        high: Clamped to at most this.
    """
    kernels.expect(kernel, ("depthwise_plane",), "f32")
    job = _Plane(*images.shape[1:], *out.shape[1:], *weights.shape[1:], *stride, *dilation, *pad, low, high)
    library = kernels.entries()
    library.edge_plane_floats.restype, library.edge_plane_floats.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    work = np.full(library.edge_plane_floats(ctypes.addressof(job)), np.nan, np.float32)
    steps = images.strides[0] // 4, out.strides[0] // 4
    places = (weights.ctypes.data, bias.ctypes.data, images.ctypes.data, steps[0], out.ctypes.data, steps[1], work.ctypes.data)
    call, idle = (kernels.ready(_PLANE, ctypes.addressof(job), count, *places) for count in (len(images), 0))
    return Prepared(kernels.function(kernel, _PLANE), [call], [idle], out, (job, images, weights, bias, work))
