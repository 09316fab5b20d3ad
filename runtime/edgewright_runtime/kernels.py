"""The ctypes binding of ``kernels_arm/include/edge_kernels.h``: for tests and benchmarks of single kernels.

One function an op runs a row of the table on numpy arrays; ``prepare_*`` make calls that are repeated for timing.
Here are the table and the kernels of float32; those of 8 bits are in ``kernels_s8``.
Needs what ``native_library`` needs.
"""

import ctypes
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import native_library

#: Names in the order of ``edge_kernel_op``, ``edge_kernel_dtype`` and ``edge_kernel_format``.
OPS = (
    "gemm",
    "depthwise",
    "softmax",
    "layer_norm",
    "exp",
    "erf",
    "gelu",
    "tanh",
    "sigmoid",
    "silu",
    "max",
    "add",
    "range",
    "dots",
    "mix",
    "quantize",
    "dequantize",
    "gemm_grouped",
    "spmm",
    "spmv",
    "depthwise_plane",
)
DTYPES = ("f32", "s8")
FORMATS = ("dense", "blocks_1x1", "blocks_4x1", "blocks_4x4")
MAPS = ("exp", "erf", "gelu", "tanh", "sigmoid", "silu")
COMBINES = ("max", "add")

INFINITY = float("inf")
_MOST_ISAS = 64
_FLOAT_BYTES = 4


class Kernel(NamedTuple):
    """A row of the table.

    ``mr`` and ``nr`` are the rows and columns of a tile (0 where there are none), ``usable`` says whether this machine
    has the instruction set, ``row`` is the place in the table.
    """

    op: str
    dtype: str
    format: str
    isa: str
    mr: int
    nr: int
    name: str
    usable: bool
    row: int


class _Row(ctypes.Structure):
    """``edge_kernel``"""

    _fields_ = [
        ("op", ctypes.c_int),
        ("dtype", ctypes.c_int),
        ("format", ctypes.c_int),
        ("isa", ctypes.c_int),
        ("mr", ctypes.c_int),
        ("nr", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
    ]


class Gemm(ctypes.Structure):
    """``edge_gemm_f32``"""

    _fields_ = [
        ("n", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("taps", ctypes.c_int64),
        ("b", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("c_row", ctypes.c_int64),
        ("add_row", ctypes.c_int64),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    ]


class _Depthwise(ctypes.Structure):
    """``edge_depthwise_f32``"""

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
        ("bias", ctypes.c_void_p),
        ("zeros", ctypes.c_void_p),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    ]


_SIGNATURES = {
    "edge_kernel_row": (ctypes.POINTER(_Row), [ctypes.c_size_t]),
    "edge_kernel_find": (ctypes.POINTER(_Row), [ctypes.c_int] * 4),
    "edge_isa_chosen": (ctypes.c_int, []),
    "edge_isa_usable": (ctypes.c_int, [ctypes.c_int]),
    "edge_isa_name": (ctypes.c_char_p, [ctypes.c_int]),
    "edge_gemm_packed_f32": (ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]),
    "edge_gemm_pack_f32": (
        None,
        [ctypes.c_void_p] + [ctypes.c_int64] * 2 + [ctypes.c_void_p] + [ctypes.c_int64] * 2 + [ctypes.c_void_p],
    ),
    "edge_gemm_packed_s8": (ctypes.c_size_t, [ctypes.c_void_p] + [ctypes.c_int64] * 3),
    "edge_gemm_pack_s8": (
        None,
        [ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p] + [ctypes.c_int64] * 2 + [ctypes.c_void_p],
    ),
    "edge_gemm_blocks_s8": (ctypes.c_int64, [ctypes.c_int64] * 3 + [ctypes.c_void_p] + [ctypes.c_int64] * 3),
    "edge_gemm_blocks_bytes_s8": (ctypes.c_size_t, [ctypes.c_int64] * 2),
    "edge_gemm_pack_blocks_s8": (
        None,
        [ctypes.c_int64] * 3 + [ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p],
    ),
    "edge_depthwise_packed_s8": (ctypes.c_size_t, [ctypes.c_void_p] + [ctypes.c_int64] * 3),
    "edge_depthwise_pack_s8": (None, [ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2),
}
_PRODUCT = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_VALUES = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
_PAIRS = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
_LINE = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_RANGE = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
_ROWS = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
_NORM = [ctypes.c_void_p] * 3 + [ctypes.c_float, ctypes.c_void_p, ctypes.c_int64]


def entries() -> Any:
    """The native library, the functions of ``edge_kernels.h`` with their types."""
    found = native_library.library()
    for name, (result, arguments) in _SIGNATURES.items():
        typed = getattr(found, name)
        typed.restype, typed.argtypes = result, arguments
    return found


def isas() -> List[str]:
    """Names of the instruction sets that this machine and this build have, the best last."""
    library = entries()
    return [library.edge_isa_name(isa).decode() for isa in range(_MOST_ISAS) if library.edge_isa_usable(isa)]


def chosen() -> str:
    """Name of the instruction set that sessions use.

    Raises:
        ValueError: ``EDGEWRIGHT_FORCE_ISA`` names one that this machine or this build does not have.
    """
    isa = entries().edge_isa_chosen()
    if isa < 0:
        raise ValueError("EDGEWRIGHT_FORCE_ISA names no usable instruction set; there are {}".format(", ".join(isas())))
    return str(entries().edge_isa_name(isa).decode())


def rows() -> List[Kernel]:
    """The table of kernels, those included that this machine cannot run."""
    library, found = entries(), []  # type: Any, List[Kernel]
    while True:
        pointer = library.edge_kernel_row(len(found))
        if not pointer:
            return found
        row = pointer.contents
        names = (_name(OPS, row.op, "op"), _name(DTYPES, row.dtype, "dtype"), _name(FORMATS, row.format, "format"))
        isa, usable = library.edge_isa_name(row.isa).decode(), bool(library.edge_isa_usable(row.isa))
        found.append(Kernel(*names, isa, row.mr, row.nr, row.name.decode(), usable, len(found)))


def find(op: str, isa: str, dtype: str = "f32", format: str = "dense") -> Optional[Kernel]:
    """What ``edge_kernel_find`` gives: the row of an instruction set, or of the best usable one below it.

    Args:
        op: One of :data:`OPS`.
        isa: One of :func:`isas`.
        dtype: One of :data:`DTYPES`.
        format: One of :data:`FORMATS`.
    """
    library = entries()
    numbers = {library.edge_isa_name(number): number for number in range(_MOST_ISAS) if library.edge_isa_usable(number)}
    if isa.encode() not in numbers:
        raise ValueError("no usable instruction set {!r}; there are {}".format(isa, ", ".join(isas())))
    wanted = (OPS.index(op), DTYPES.index(dtype), FORMATS.index(format), numbers[isa.encode()])
    pointer = library.edge_kernel_find(*wanted)
    return next(row for row in rows() if row.name == pointer.contents.name.decode()) if pointer else None


class Prepared:
    """Calls of a kernel with the memory that they use, ready to be repeated.

    Calling it fills ``out``; ``calls`` is how many calls of the kernel that takes.
    """

    def __init__(self, run: Any, calls: List[Any], idle: List[Any], out: Any, kept: Any) -> None:
        self._run, self._calls, self._idle, self._kept = run, calls, idle, kept
        self.out = out

    @property
    def calls(self) -> int:
        """Calls of the kernel."""
        return len(self._calls)

    def __call__(self) -> None:
        run = self._run
        for arguments in self._calls:
            run(*arguments)

    def idle(self) -> None:
        """As many calls with nothing to do: what calling from Python costs."""
        run = self._run
        for arguments in self._idle:
            run(*arguments)


def pack(kernel: Kernel, b: Any, out: Any = None) -> Any:
    """The right side of a product in the order in which a kernel reads it.

    Args:
        kernel: A row of op gemm.
        b: [k, n], float32, of any strides.
        out: Where to, :func:`packed_size` float32 values; None: a new array.

    Returns:
        [packed_size], float32
    """
    b = np.asarray(b, np.float32)
    depth, n = b.shape
    size = packed_size(kernel, n, depth)
    out = np.empty(size, np.float32) if out is None else out
    fits("out", out, (size,))
    strides = (b.strides[0] // _FLOAT_BYTES, b.strides[1] // _FLOAT_BYTES)
    entries().edge_gemm_pack_f32(row_pointer(kernel), n, depth, b.ctypes.data, strides[0], strides[1], out.ctypes.data)
    return out


def packed_size(kernel: Kernel, n: int, k: int) -> int:
    """Values of the packed form of a [k, n] matrix."""
    _expect(kernel, ("gemm",))
    return int(entries().edge_gemm_packed_f32(row_pointer(kernel), n, k))


def prepare_gemm(
    kernel: Kernel,
    a: Any,
    packed: Any,
    n: int,
    *,
    index: Any = None,
    bias: Any = None,
    add: Any = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
    block: int = 0,
) -> Prepared:
    """A product that can be repeated, with a right side that is packed already.

    Args:
        kernel: A row of op gemm.
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
    """
    _expect(kernel, ("gemm",))
    a, index = _lines(a), np.arange(len(a))[:, None] if index is None else np.asarray(index)
    rows, taps = index.shape
    fits("packed", packed, (packed_size(kernel, n, taps * a.shape[1]),))
    out = np.empty((rows, n), np.float32) if out is None else out
    fits("out", out, (rows, n), apart=True)
    bias, add = None if bias is None else _floats(bias), None if add is None else _lines(add)
    if bias is not None:
        fits("bias", bias, (n,))
    if add is not None:
        fits("add", add, (rows, n), apart=True)
    add_row = 0 if add is None else add.strides[0] // _FLOAT_BYTES
    sizes = (n, a.shape[1], taps, packed.ctypes.data, None if bias is None else bias.ctypes.data)
    job = Gemm(*sizes, out.strides[0] // _FLOAT_BYTES, add_row, low, high)
    return prepare_rows(kernel, job, a, index, add, out, block, (packed, bias))


def prepare_rows(
    kernel: Kernel, job: Any, a: Any, index: Any, add: Any, out: Any, block: int, kept: Any
) -> Prepared:
    """The calls of a product, of any dtype.

    Args:
        kernel: A row of a product.
        job: What the kernel takes first.
        a: [lines, depth]
        index: [m, taps], integers: which lines of ``a`` make a row.
        add: [m, n], float32, or None.
        out: [m, n]
        block: Rows of one call; 0: all in one.
        kept: Whatever else must stay in memory.
    """
    rows, taps = index.shape
    pointers = np.ascontiguousarray(a.ctypes.data + index.astype(np.intp) * a.strides[0])
    calls, idle = [], []  # type: List[Any], List[Any]
    for begin in range(0, rows, block or max(rows, 1)):
        count = min(block or rows, rows - begin)
        places = (
            pointers.ctypes.data + begin * taps * pointers.itemsize,
            out.ctypes.data + begin * out.strides[0],
            None if add is None else add.ctypes.data + begin * add.strides[0],
        )
        calls.append(ready(_PRODUCT, ctypes.addressof(job), count, *places))
        idle.append(ready(_PRODUCT, ctypes.addressof(job), 0, *places))
    return Prepared(function(kernel, _PRODUCT), calls, idle, out, (job, a, add, pointers, kept))


def gemm(
    kernel: Kernel,
    a: Any,
    b: Any,
    *,
    index: Any = None,
    bias: Any = None,
    add: Any = None,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
) -> Any:
    """``clamp(a @ b + bias + add)``.

    Args:
        kernel: A row of op gemm.
        a: [m, k], float32; with ``index``: [lines, depth].
        b: [k, n], float32; with ``index``: [taps * depth, n].
        index: [m, taps], integers: which lines of ``a`` make a row, one after the other.
        bias: [n], float32, or None.
        add: [m, n], float32, or None.
        low: Clamped to at least this.
        high: Clamped to at most this.
        out: [m, n], float32, where to; None: a new array.

    Returns:
        [m, n], float32
    """
    packed, n = pack(kernel, b), np.shape(b)[1]
    prepared = prepare_gemm(kernel, a, packed, n, index=index, bias=bias, add=add, low=low, high=high, out=out)
    prepared()
    return prepared.out


def prepare_depthwise(
    kernel: Kernel,
    image: Any,
    weights: Any,
    bias: Any,
    out: Any,
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: int = 0,
    low: float = -INFINITY,
    high: float = INFINITY,
) -> Prepared:
    """A depthwise convolution of an image that can be repeated, one call for each line of the result.

    Args:
        kernel: A row of op depthwise.
        image: [height, width, channels], float32.
        weights: [kernel_height, kernel_width, channels], float32.
        bias: [channels], float32.
        out: [out_height, out_width, channels], float32, where to.
        stride: Pixels from one window to the next, both ways.
        dilation: Pixels from one tap to the next, both ways.
        pad: Lines of zeros above, and pixels of zeros before each line.  What a window sees behind is zeros as well.
        low: Clamped to at least this.
        high: Clamped to at most this.
    """
    _expect(kernel, ("depthwise",))
    windows = windows_of(_floats(image), len(weights), len(out), stride, dilation, pad)
    return _prepare_depthwise(kernel, windows, weights, bias, stride, dilation, pad, list(out), low, high, out)


def depthwise_row(
    kernel: Kernel,
    lines: Sequence[Any],
    weights: Any,
    bias: Any,
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: int = 0,
    out_width: int = 1,
    low: float = -INFINITY,
    high: float = INFINITY,
    out: Any = None,
) -> Any:
    """One line of a depthwise convolution.

    Args:
        kernel: A row of op depthwise.
        lines: For each row of the kernel the line of the image under it, [in_width, channels], float32, or None outside.
        weights: [kernel_height, kernel_width, channels], float32.
        bias: [channels], float32.
        stride: Pixels from one window to the next.
        dilation: Pixels from one tap to the next.
        pad: Pixels of zeros before each line; what a window sees behind a line is zeros as well.
        out_width: Pixels of the result.
        low: Clamped to at least this.
        high: Clamped to at most this.
        out: [out_width, channels], float32, where to; None: a new array.

    Returns:
        [out_width, channels], float32
    """
    _expect(kernel, ("depthwise",))
    out = np.empty((out_width, np.shape(weights)[2]), np.float32) if out is None else out
    _prepare_depthwise(kernel, [list(lines)], weights, bias, stride, dilation, pad, [out], low, high, out)()
    return out


def windows_of(image: Any, height: int, out_height: int, stride: int, dilation: int, pad: int) -> List[List[Any]]:
    """For each line of the result the lines under the rows of the kernel, None outside of the image."""
    tops = [i * stride - pad for i in range(out_height)]
    return [
        [image[top + i * dilation] if 0 <= top + i * dilation < len(image) else None for i in range(height)]
        for top in tops
    ]


def width_of(windows: List[List[Any]], height: int, channels: int, dtype: Any) -> int:
    """Pixels of a line; refuses windows of another height, and lines of another shape or dtype."""
    width = max([len(line) for lines in windows for line in lines if line is not None] or [1])
    for lines in windows:
        if len(lines) != height:
            raise ValueError("weights have {} rows, given are {} lines".format(height, len(lines)))
        for line in lines:
            if line is not None:
                fits("lines", line, (width, channels), dtype=dtype)
    return width


def _prepare_depthwise(
    kernel: Kernel,
    windows: List[List[Any]],
    weights: Any,
    bias: Any,
    stride: int,
    dilation: int,
    pad: int,
    outs: List[Any],
    low: float,
    high: float,
    out: Any,
) -> Prepared:
    weights, bias = _floats(weights), _floats(bias)
    height, width, channels = weights.shape
    windows = [[None if line is None else _floats(line) for line in lines] for lines in windows]
    in_width = width_of(windows, height, channels, np.float32)
    fits("bias", bias, (channels,))
    out_width = len(outs[0]) if outs else 0
    for one in outs:
        fits("out", one, (out_width, channels))
    zeros = np.full(channels + 1, np.nan, np.float32)
    zeros[:channels] = 0
    sizes = (height, width, stride, dilation, pad, weights.ctypes.data, bias.ctypes.data, zeros.ctypes.data, low, high)
    job, empty = _Depthwise(channels, in_width, out_width, *sizes), _Depthwise(channels, in_width, 0, *sizes)
    return prepare_lines(kernel, job, empty, windows, outs, out, (weights, bias, zeros))


def prepare_lines(
    kernel: Kernel, job: Any, empty: Any, windows: List[List[Any]], outs: List[Any], out: Any, kept: Any
) -> Prepared:
    """The calls of a depthwise convolution, for either dtype.

    Args:
        kernel: A row of op depthwise.
        job: What the kernel takes first.
        empty: The same without pixels.
        windows: For each line of the result the lines under the rows of the kernel, or None.
        outs: The lines of the result.
        out: All of them.
        kept: Whatever else must stay in memory.
    """
    tables = [
        (ctypes.c_void_p * len(lines))(*[None if line is None else line.ctypes.data for line in lines])
        for lines in windows
    ]
    calls, idle = [], []  # type: List[Any], List[Any]
    for table, one in zip(tables, outs):
        calls.append(ready(_LINE, ctypes.addressof(job), ctypes.addressof(table), one.ctypes.data))
        idle.append(ready(_LINE, ctypes.addressof(empty), ctypes.addressof(table), one.ctypes.data))
    return Prepared(function(kernel, _LINE), calls, idle, out, (job, empty, tables, windows, kept))


def map_rows(kernel: Kernel, x: Any, out: Any = None) -> Any:
    """A function of each value.

    Args:
        kernel: A row whose op is one of :data:`MAPS`.
        x: float32, any shape.
        out: Of the shape of ``x``, float32, where to; None: a new array.

    Returns:
        float32, the shape of ``x``
    """
    _expect(kernel, MAPS)
    x = _floats(x)
    out = np.empty(x.shape, np.float32) if out is None else out
    fits("out", out, x.shape)
    function(kernel, _VALUES)(x.ctypes.data, out.ctypes.data, x.size)
    return out


def combine(kernel: Kernel, a: Any, b: Any, out: Any = None) -> Any:
    """A function of two values at a time.

    Args:
        kernel: A row whose op is one of :data:`COMBINES`.
        a: float32, any shape.
        b: float32, the shape of ``a``.
        out: Of the shape of ``a``, float32, where to; it may be ``a`` or ``b``.  None: a new array.

    Returns:
        float32, the shape of ``a``
    """
    _expect(kernel, COMBINES)
    a, b = _floats(a), _floats(b)
    out = np.empty(a.shape, np.float32) if out is None else out
    fits("b", b, a.shape)
    fits("out", out, a.shape)
    function(kernel, _PAIRS)(a.ctypes.data, b.ctypes.data, out.ctypes.data, a.size)
    return out


def value_range(kernel: Kernel, x: Any) -> Tuple[float, float]:
    """The least range that holds every value and 0; NaN are passed over.

    Args:
        kernel: A row of op range.
        x: float32, any shape.

    Returns:
        (low, high)
    """
    _expect(kernel, ("range",))
    x, found = _floats(x), np.empty(2, np.float32)
    function(kernel, _RANGE)(x.ctypes.data, x.size, found.ctypes.data, found.ctypes.data + _FLOAT_BYTES)
    return float(found[0]), float(found[1])


def dots(kernel: Kernel, x: Any, rows: Any, out: Any = None) -> Any:
    """The product of one row with each of many.

    Args:
        kernel: A row of op dots.
        x: [depth], float32.
        rows: [count, depth], float32; a row may be any distance from the next.
        out: [count], float32, where to; None: a new array.

    Returns:
        [count], float32
    """
    _expect(kernel, ("dots",))
    out = np.empty(len(rows), np.float32) if out is None else out
    fits("out", out, rows.shape[:1])
    return _few_by_many(kernel, _floats(x), rows, out)


def mix(kernel: Kernel, weights: Any, rows: Any, out: Any = None) -> Any:
    """The weighted sum of rows.

    Args:
        kernel: A row of op mix.
        weights: [count], float32.
        rows: [count, depth], float32; a row may be any distance from the next.
        out: [depth], float32, where to; None: a new array.

    Returns:
        [depth], float32
    """
    _expect(kernel, ("mix",))
    out = np.empty(rows.shape[1], np.float32) if out is None else out
    fits("out", out, rows.shape[1:])
    return _few_by_many(kernel, _floats(weights), rows, out)


def _few_by_many(kernel: Kernel, x: Any, rows: Any, out: Any) -> Any:
    sizes = (rows.strides[0] // _FLOAT_BYTES, *rows.shape)
    function(kernel, _ROWS)(x.ctypes.data, rows.ctypes.data, *sizes, out.ctypes.data)
    return out


def softmax(kernel: Kernel, x: Any, out: Any = None) -> Any:
    """Softmax of one row.

    Args:
        kernel: A row of op softmax.
        x: [count], float32.
        out: [count], float32, where to; None: a new array.

    Returns:
        [count], float32
    """
    _expect(kernel, ("softmax",))
    x = _floats(x)
    out = np.empty(x.shape, np.float32) if out is None else out
    fits("out", out, x.shape)
    function(kernel, _VALUES)(x.ctypes.data, out.ctypes.data, x.size)
    return out


def layer_norm(kernel: Kernel, x: Any, scale: Any, bias: Any = None, epsilon: float = 1e-5, out: Any = None) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` of one row.

    Args:
        kernel: A row of op layer_norm.
        x: [count], float32.
        scale: [count], float32.
        bias: [count], float32, or None.
        epsilon: Added to the variance.
        out: [count], float32, where to; None: a new array.

    Returns:
        [count], float32
    """
    _expect(kernel, ("layer_norm",))
    x, scale, bias = _floats(x), _floats(scale), None if bias is None else _floats(bias)
    out = np.empty(x.shape, np.float32) if out is None else out
    for name, array in (("scale", scale), ("bias", scale if bias is None else bias), ("out", out)):
        fits(name, array, x.shape)
    more = None if bias is None else bias.ctypes.data
    function(kernel, _NORM)(x.ctypes.data, scale.ctypes.data, more, epsilon, out.ctypes.data, x.size)
    return out


def _name(names: Tuple[str, ...], number: int, kind: str) -> str:
    return names[number] if 0 <= number < len(names) else "{}{}".format(kind, number)


def expect(kernel: Kernel, ops: Tuple[str, ...], dtype: str) -> None:
    """Refuses a row of another op or dtype, and one that this machine cannot run."""
    if kernel.op not in ops or kernel.dtype != dtype:
        raise ValueError(
            "expected a {} kernel of op {}, given is {}".format(dtype, " or ".join(ops), kernel.name)
        )
    if not kernel.usable:
        raise ValueError("{} needs {}; this machine has {}".format(kernel.name, kernel.isa, ", ".join(isas())))


def row_pointer(kernel: Kernel) -> Any:
    """The row as ``const edge_kernel *``."""
    return ctypes.cast(entries().edge_kernel_row(kernel.row), ctypes.c_void_p)


def function(kernel: Kernel, arguments: Any) -> Any:
    """The kernel as a function of C values of these types."""
    return ctypes.CFUNCTYPE(None, *arguments)(entries().edge_kernel_row(kernel.row).contents.run)


def lines_of(array: Any, dtype: Any) -> Any:
    """The array in a dtype, its last axis without gaps."""
    array = np.asarray(array, dtype)
    return array if array.shape[-1] < 2 or array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def fits(name: str, array: Any, shape: Tuple[int, ...], apart: bool = False, dtype: Any = np.float32) -> None:
    """Refuses memory of another shape or dtype; ``apart`` allows gaps between rows."""
    dense = array.flags.c_contiguous or (apart and (array.shape[-1] < 2 or array.strides[-1] == array.itemsize))
    if array.shape != shape or array.dtype != dtype or not dense:
        given = "{} of shape {}{}".format(array.dtype, array.shape, "" if dense else " with gaps")
        raise ValueError("{} must be {} of shape {}, given is {}".format(name, np.dtype(dtype), shape, given))


def _expect(kernel: Kernel, ops: Tuple[str, ...]) -> None:
    expect(kernel, ops, "f32")


def ready(types: Any, *values: Any) -> Tuple[Any, ...]:
    """Arguments as C values: a call converts nothing."""
    return tuple(types[place](value) for place, value in enumerate(values))


def _floats(array: Any) -> Any:
    return np.asarray(array, np.float32, order="C")


def _lines(array: Any) -> Any:
    return lines_of(array, np.float32)
