"""Times single kernels of the native engine against each other on the shapes of real networks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_profiles.errors import OptionError
from device_profiles.record import structure, unstructure
from edgewright_runtime import kernels, kernels_planes, kernels_s8
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import engine_named, installed
from edgewright_runtime.kernels import Kernel, Prepared
from edgewright_runtime.kernels_s8 import Rescale
from edgewright_runtime.measure import Timing, machine, measure, now, ratio

from .benchmark import PACKAGES, current_commit

OURS = Path(__file__).parent / "shapes"
DEFAULT = "mobilenet_v1"
SCALAR = "scalar"
_S8 = "s8"
_SIDE = 4
"""Of a block of bytes."""
_SAMPLES = 10
_BLOCK_TILES = 8
_BLOCK_VALUES = 16384
"""Rows of a product come in blocks of so many values, that stay in a cache, and of so many tiles at least."""


@dataclass(frozen=True)
class GemmShape:
    """``[m, k] x [k, n]``"""

    name: str
    op: str
    m: int
    n: int
    k: int

    @property
    def operations(self) -> int:
        """A multiplication and an addition for each product."""
        return 2 * self.m * self.n * self.k

    def prepare(self, kernel: Kernel) -> Prepared:
        """The calls for the whole product."""
        draw = np.random.default_rng(0)
        block = max(_BLOCK_TILES, _BLOCK_VALUES // (self.k * kernel.mr)) * kernel.mr
        if kernel.dtype == _S8:
            a, packed = _bytes(draw, self.m, self.k), kernels_s8.pack(kernel, _bytes(draw, self.k, self.n))
            return kernels_s8.prepare_gemm(kernel, a, packed, self.n, _rescale(draw, self.n, self.k), block=block)
        a, b = _normal(draw, self.m, self.k), _normal(draw, self.k, self.n)
        packed, bias = kernels.pack(kernel, b), _normal(draw, self.n)
        return kernels.prepare_gemm(kernel, a, packed, self.n, bias=bias, block=block)

    def prepare_sparse(self, kernel: Kernel, sparsity: float) -> Prepared:
        """The same with so large a share of blocks of weights that are zero; of float32 with channels first."""
        draw = np.random.default_rng(0)
        if kernel.dtype == _S8:
            b, held = _bytes(draw, self.k, self.n), draw.random((-(-self.k // _SIDE), -(-self.n // _SIDE))) >= sparsity
            b *= held.repeat(_SIDE, 0).repeat(_SIDE, 1)[: self.k, : self.n]
            a, packed = _bytes(draw, self.m, self.k), kernels_s8.pack(kernel, b)
            return kernels_s8.prepare_gemm(kernel, a, packed, self.n, _rescale(draw, self.n, self.k))
        x, w = _normal(draw, self.k, self.m), _normal(draw, self.n, self.k)
        held = draw.random((-(-self.n // kernel.nr), self.k)) >= sparsity
        w *= np.repeat(held, kernel.nr, axis=0)[: self.n]
        return kernels_planes.prepare_spmm(kernel, x, kernels_planes.pack(kernel, w), self.n, bias=_normal(draw, self.n))

    def fits(self, kernel: Kernel) -> bool:
        """Whether the kernel can do it with dense weights."""
        return kernel.op == self.op and kernel.format == "dense"

    def fits_sparse(self, kernel: Kernel) -> bool:
        """Whether the kernel can do it with blocks of weights."""
        if kernel.dtype == _S8:
            return kernel.op == self.op and kernel.format != "dense" and self.k <= kernels_s8.BLOCKS_MOST_DEPTH
        return kernel.op == "spmm"


@dataclass(frozen=True)
class DepthwiseShape:
    """An image with zeros around it; ``width`` and ``height`` are those of the input, the output's are over stride."""

    name: str
    op: str
    channels: int
    width: int
    height: int
    kernel: int
    stride: int

    @property
    def operations(self) -> int:
        """A multiplication and an addition for each tap of each output pixel, those on zeros included."""
        height, width = self._out()
        return 2 * height * width * self.channels * self.kernel**2

    def prepare(self, kernel: Kernel) -> Prepared:
        """The calls for the whole image."""
        draw, image, out = np.random.default_rng(0), (self.height, self.width, self.channels), self._out()
        side, where = self.kernel, {"stride": self.stride, "pad": self.kernel // 2}
        if kernel.dtype == _S8:
            packed = kernels_s8.pack_depthwise(kernel, _bytes(draw, self.channels, side, side))
            rescale, bytes_out = _rescale(draw, self.channels, side**2), np.zeros((*out, self.channels), np.int8)
            return kernels_s8.prepare_depthwise(kernel, _bytes(draw, *image), packed, rescale, bytes_out, **where)
        weights, bias = _normal(draw, side, side, self.channels), _normal(draw, self.channels)
        floats_out = np.zeros((*out, self.channels), np.float32)
        return kernels.prepare_depthwise(kernel, _normal(draw, *image), weights, bias, floats_out, **where)

    def fits(self, kernel: Kernel) -> bool:
        """Whether the kernel can do it: those of 8 bits have no room for larger windows."""
        most = min(kernels_s8.DEPTHWISE_MOST_HEIGHT, kernels_s8.DEPTHWISE_MOST_SPAN)
        return kernel.op == self.op and (kernel.dtype != _S8 or self.kernel <= most)

    def _out(self) -> tuple[int, int]:
        return -(-self.height // self.stride), -(-self.width // self.stride)


Shape = GemmShape | DepthwiseShape
SHAPES: dict[str, type[GemmShape] | type[DepthwiseShape]] = {"gemm": GemmShape, "depthwise": DepthwiseShape}


@dataclass(frozen=True)
class ShapeFile:
    """The shapes of one network; ``source`` says where they are from."""

    name: str
    network: str
    source: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class KernelTiming:
    """One kernel on one shape; ``format`` is that of its weights.

    ``calls`` is how many calls of the kernel a sample takes, ``calling_s`` what so many calls take that have nothing to
    do; the samples include it.  ``ratio`` is the median over that of the scalar kernel of the same dtype (None: not
    timed), with its interval.  ``sparsity`` is the share of blocks that are zero (None: dense weights), ``over_dense`` the
    median over that of the dense kernel of the same instruction set and dtype (None: this is dense), with its interval;
    operations are those of the dense product.
    """

    network: str
    shape: Shape
    kernel: str
    isa: str
    dtype: str
    format: str
    operations: int
    samples: int
    min_s: float
    p10_s: float
    median_s: float
    p90_s: float
    operations_per_s: float
    calls: int
    calling_s: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    sparsity: float | None
    over_dense: float | None
    over_dense_low: float | None
    over_dense_high: float | None


@dataclass(frozen=True)
class KernelBenchResult:
    """One run of the benchmark."""

    rows: tuple[KernelTiming, ...]
    files: tuple[ShapeFile, ...]
    kind: str
    threads: int
    seconds: float
    machine: dict[str, str]
    versions: dict[str, str]
    commit: str
    date: str


def bench_kernels(
    shapes: Sequence[str],
    isas: Sequence[str],
    seconds: float,
    dtypes: Sequence[str] = (),
    sparsities: Sequence[float] = (),
) -> KernelBenchResult:
    """Times every kernel that has a shape file's op, all kernels of a shape interleaved, on one thread.

    Args:
        shapes: Names of our shape files or paths of others, each once; empty: ``DEFAULT``.
        isas: Instruction sets; empty: every usable one but scalar code.
        seconds: At least so long for each kernel and shape.
        dtypes: f32, s8; empty: all.
        sparsities: Shares of zeros, each once, with which sparse kernels are timed beside the dense ones.

    Raises:
        OptionError: No such shape file, instruction set or dtype, a sparsity outside of 0 to 1, or a file with mistakes.
        DependencyError: The native engine was not built.
    """
    engine_named("native")
    files = tuple(read_shapes(name) for name in dict.fromkeys(shapes) or (DEFAULT,))
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"more than one shape file is named {', '.join(map(repr, twice))}; rename one of them")
    chosen, found = _isas(isas), machine()
    unknown = sorted(set(dtypes) - set(kernels.DTYPES))
    if unknown:
        raise OptionError(f"no dtype {', '.join(map(repr, unknown))}; there are {', '.join(kernels.DTYPES)}")
    outside = [sparsity for sparsity in sparsities if not 0 <= sparsity <= 1]
    if outside:
        raise OptionError(f"sparsity {outside[0]!r} is no share from 0 to 1")
    of, shares = dtypes or kernels.DTYPES, sorted(set(sparsities))
    table = [row for row in kernels.rows() if row.isa in chosen and row.dtype in of]
    rows = [
        row for file in files for shape in file.shapes for row in _time_shape(file.name, shape, table, seconds, shares)
    ]
    versions = {name: installed(name) or "" for name in PACKAGES}
    return KernelBenchResult(tuple(rows), files, "measured", 1, seconds, found, versions, current_commit(), now())


def write_result(result: KernelBenchResult, path: Path) -> None:
    """Writes a result file."""
    write_file(path, json.dumps(unstructure(result), indent=1, sort_keys=True).encode() + b"\n")


def shape_names() -> list[str]:
    """Names of our shape files."""
    return sorted(path.stem for path in OURS.glob("*.toml"))


def read_shapes(name: str) -> ShapeFile:
    """Reads a shape file.

    Args:
        name: One of :func:`shape_names`, or a path that ends in ``.toml``.

    Raises:
        OptionError: There is no such file, or it has mistakes: all of them are told.
    """
    path = Path(name) if name.endswith(".toml") else OURS / f"{name}.toml"
    if not path.is_file():
        raise OptionError(f"no shapes {name!r}; there are {', '.join(shape_names())}, or give the path of a .toml file")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: not a TOML file: {error}") from error
    problems: list[str] = []
    if not isinstance(data.get("network"), str) or not isinstance(data.get("source"), str):
        problems.append("network and source must be texts")
    unknown = sorted(set(data) - {"network", "source", "shapes"})
    problems += [f"unknown key {key!r}; there are network, source and shapes" for key in unknown]
    entries = data.get("shapes")
    if not isinstance(entries, list) or not entries:
        problems.append("expected one [[shapes]] or more")
        entries = []
    shapes = [_read_shape(place, entry, problems) for place, entry in enumerate(entries)]
    names = [shape.name for shape in shapes if shape]
    problems += [f"the name {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise OptionError(f"{path}: not a valid shape file:\n" + "\n".join(problems))
    return ShapeFile(path.stem, data["network"], data["source"], tuple(shape for shape in shapes if shape))


def _read_shape(place: int, entry: Any, problems: list[str]) -> Shape | None:
    where = f"shapes[{place}]"
    op = entry.get("op") if isinstance(entry, dict) else None
    if not isinstance(op, str) or op not in SHAPES:
        problems.append(f"{where}: op must be one of {', '.join(SHAPES)}, given is {op!r}")
        return None
    try:
        shape = structure(SHAPES[op], entry)
    except ValueError as error:
        problems.extend(f"{where}: {line}" for line in str(error).splitlines())
        return None
    small = [key for key, value in asdict(shape).items() if isinstance(value, int) and value < 1]
    problems.extend(f"{where}: {key} must be positive" for key in small)
    return shape


def _isas(wanted: Sequence[str]) -> list[str]:
    usable = kernels.isas()
    unknown = sorted(set(wanted) - set(usable))
    if unknown:
        raise OptionError(f"no instruction set {', '.join(map(repr, unknown))} here; there are {', '.join(usable)}")
    return [isa for isa in usable if isa in wanted] or [isa for isa in usable if isa != SCALAR] or usable


@dataclass(frozen=True)
class _Contender:
    """A kernel on a shape; ``sparsity`` None: with dense weights."""

    kernel: Kernel
    sparsity: float | None
    prepared: Prepared


def _time_shape(
    network: str, shape: Shape, table: Sequence[Kernel], seconds: float, sparsities: Sequence[float]
) -> list[KernelTiming]:
    dense = [_Contender(row, None, shape.prepare(row)) for row in table if shape.fits(row)]
    sparse = [
        _Contender(row, sparsity, shape.prepare_sparse(row, sparsity))
        for row in table
        for sparsity in sparsities
        if isinstance(shape, GemmShape) and shape.fits_sparse(row)
    ]
    found = [*dense, *sparse]
    timings = measure({str(i): one.prepared for i, one in enumerate(found)}, min_samples=_SAMPLES, min_seconds=seconds)
    timed = [(one, timings[str(i)]) for i, one in enumerate(found)]
    beside = {(one.kernel.isa, one.kernel.dtype): timing for one, timing in timed if one.sparsity is None}
    return [_row(network, shape, one, timing, beside) for one, timing in timed]


def _row(
    network: str, shape: Shape, one: _Contender, timing: Timing, dense: Mapping[tuple[str, str], Timing]
) -> KernelTiming:
    calling = measure({"": one.prepared.idle}, min_samples=_SAMPLES, min_seconds=0)[""]
    kernel = one.kernel
    own = None if one.sparsity is None else dense.get((kernel.isa, kernel.dtype))
    return KernelTiming(
        network, shape, kernel.name, kernel.isa, kernel.dtype, kernel.format, shape.operations, len(timing.samples_s),
        timing.min_s, timing.quantile_s(0.1), timing.median_s, timing.quantile_s(0.9),
        shape.operations / timing.median_s, one.prepared.calls, calling.median_s,
        *_ratio(timing, dense.get((SCALAR, kernel.dtype))), one.sparsity, *_ratio(timing, own),
    )  # fmt: skip


def _ratio(timing: Timing, base: Timing | None) -> tuple[float | None, float | None, float | None]:
    return ratio(timing, base) if base else (None, None, None)


def _normal(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.standard_normal(shape, np.float32)


def _bytes(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.integers(-128, 128, shape, np.int8)


def _rescale(draw: np.random.Generator, n: int, products: int) -> Rescale:
    """Of sums of so many products of any bytes to bytes that use their range."""
    return Rescale(np.full(n, 50 / (74**2 * products**0.5), np.float32), draw.integers(-999, 999, n, np.int32), 3, -3)
