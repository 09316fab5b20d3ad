"""The ctypes binding of the sparse products of ``kernels_arm/include/edge_kernels.h``: for tests and benchmarks."""

import ctypes
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from . import kernels
from .kernels import INFINITY, Gemm, Kernel, Prepared

_SIDE = 4
"""Columns come in so many."""


class Packed(NamedTuple):
    """The blocks of a [k, n] matrix that hold anything but zeros.

    Args:
        start: [groups of columns + 1], int32, the place of the first block of each group, then that behind the last one.
        index: [blocks], uint16, which row of the matrix.
        value: [blocks, columns of a block], float32.
    """

    start: Any
    index: Any
    value: Any


class _Job(ctypes.Structure):
    """``edge_spmm_f32``"""

    _fields_ = [
        ("product", Gemm),
        *((name, ctypes.c_void_p) for name in ("start", "index", "value")),
        *((name, ctypes.c_int64) for name in ("first", "last")),
    ]


def pack(kernel: Kernel, b: Any) -> Packed:
    """The right side of a product as a kernel reads it.

    Args:
        kernel: A row of op spmm.
        b: [k, n], float32, of any strides; zeros are left out where a whole block is zero.
    """
    kernels.expect(kernel, ("spmm",), "f32")
    b = np.asarray(b, np.float32)
    (depth, n), library = b.shape, kernels.entries()
    given = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.edge_spmm_blocks.restype, library.edge_spmm_blocks.argtypes = ctypes.c_int64, given
    library.edge_spmm_pack_f32.restype, library.edge_spmm_pack_f32.argtypes = None, given + [ctypes.c_void_p] * 3
    places = (kernels.row_pointer(kernel), n, depth, b.ctypes.data, b.strides[0] // 4, b.strides[1] // 4)
    blocks = library.edge_spmm_blocks(*places)
    found = Packed(
        np.empty(-(-n // kernel.nr) + 1, np.int32), np.empty(blocks, np.uint16), np.empty((blocks, kernel.nr), np.float32)
    )
    library.edge_spmm_pack_f32(*places, *(array.ctypes.data for array in found))
    return found


def prepare_spmm(
    kernel: Kernel,
    a: Any,
    packed: Packed,
    n: int,
    *,
    index: Any = None,
    bias: Any = None,
    add: Any = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
    block: int = 0,
    columns: Optional[Tuple[int, int]] = None,
) -> Prepared:
    """A product that can be repeated, with a right side that is packed already.

    Args:
        kernel: A row of op spmm.
        a: [lines, depth], float32; lines may be apart.
        packed: What :func:`pack` made of the [taps * depth, n] matrix.
        n: Columns of the product.
        index: [m, taps], integers: which lines of ``a`` make a row, one after the other.  None: row i is line i.
        bias: [n], float32, or None.
        add: [m, n], float32, or None.
        low: Clamped to at least this.
        high: Clamped to at most this.
        out: [m, n], float32, where to; rows may be apart.  None: a new array.
        block: Rows of one call; 0: all in one.
        columns: The first, a multiple of 4, and the end of those that are made, that too or n; None: all.
    """
    kernels.expect(kernel, ("spmm",), "f32")
    index = np.arange(len(a))[:, None] if index is None else np.asarray(index)
    (rows, taps), depth = index.shape, a.shape[1]
    first, last = columns or (0, n)
    if first % _SIDE or not 0 <= first <= last <= n or (last % _SIDE and last != n):
        raise ValueError("columns {} to {}: expected multiples of {} within {}".format(first, last, _SIDE, n))
    out = np.empty((rows, n), np.float32) if out is None else out
    work = np.empty(kernel.mr * taps * depth, np.float32)
    add_row = 0 if add is None else add.strides[0] // 4
    product = Gemm(n, depth, taps, None, None if bias is None else bias.ctypes.data, out.strides[0] // 4, add_row, low, high)
    job = _Job(product, *(array.ctypes.data for array in packed), first, last)
    return kernels.prepare_rows(kernel, job, a, index, add, out, block, (packed, bias), work)
