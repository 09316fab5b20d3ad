"""Products with weights of 4 or 8 bits on numpy arrays, as ``edgewright_runtime.kernels`` has those of float32."""

from __future__ import annotations

import ctypes

import numpy as np

from edgewright_runtime import kernels
from edgewright_runtime.kernels import INFINITY, Gemm, Kernel, Prepared


class _Job(ctypes.Structure):
    """``edge_gemm_grouped``"""

    _fields_ = [
        ("product", Gemm),
        *((name, ctypes.c_void_p) for name in ("words", "scale")),
        ("group", ctypes.c_int64),
        ("bits", ctypes.c_int32),
    ]


def f32_kernel(kernel: Kernel) -> Kernel:
    """The product of float32 of the same instruction set, which packs the scales and has the same columns."""
    found = kernels.find("gemm", kernel.isa)
    assert found and found.nr == kernel.nr and found.mr == kernel.mr
    return found


def packed_size(kernel: Kernel, n: int, k: int, bits: int) -> int:
    """Words of the packed form of a [k, n] matrix."""
    return kernels.packed_size(f32_kernel(kernel), n, -(-k * bits // 32))


def pack(kernel: Kernel, b: np.ndarray, bits: int, out: np.ndarray | None = None) -> np.ndarray:
    """Words of a [k, n] matrix of int8, of any strides."""
    k, n = b.shape
    out = np.empty(packed_size(kernel, n, k, bits), np.int32) if out is None else out
    entry = kernels.entries().edge_gemm_pack_grouped
    entry.restype, entry.argtypes = None, [
        ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    entry(kernels.row_pointer(kernel), n, k, bits, b.ctypes.data, *b.strides, out.ctypes.data)
    return out


def prepare_gemm(
    kernel: Kernel,
    a: np.ndarray,
    words: np.ndarray,
    scale: np.ndarray,
    n: int,
    group: int,
    bits: int,
    *,
    bias: np.ndarray | None = None,
    add: np.ndarray | None = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: np.ndarray | None = None,
    block: int = 0,
) -> Prepared:
    """A product that can be repeated; ``words`` and ``scale`` are packed, the latter as float32 [depth / group, n]."""
    kernels.expect(kernel, ("gemm_grouped",), "f32")
    rows, depth = a.shape
    out = np.empty((rows, n), np.float32) if out is None else out
    kernels.fits("words", words, (packed_size(kernel, n, depth, bits),), dtype=np.int32)
    kernels.fits("scale", scale, (kernels.packed_size(f32_kernel(kernel), n, depth // group),))
    add_row = 0 if add is None else add.strides[0] // 4
    product = Gemm(n, depth, 1, None, None if bias is None else bias.ctypes.data, out.strides[0] // 4, add_row, low, high)
    job = _Job(product, words.ctypes.data, scale.ctypes.data, group, bits)
    return kernels.prepare_rows(kernel, job, a, np.arange(rows)[:, None], add, out, block, (words, scale, bias))
