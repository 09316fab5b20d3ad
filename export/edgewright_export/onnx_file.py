"""An ``.onnx`` file as the model: no torch graph, so it is checked against itself, unoptimised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from device_profiles.errors import CaptureError, LoweringError, OptionError, ParityError
from edgewright_runtime.bundle import Bounds, Entry, Lowered, Op, TensorSpec, Workload
from edgewright_runtime.bundle.manifest import Manifest, Model, Parity
from edgewright_runtime.bundle.paths import partial_folder

from . import parity
from .build import Job, manifest_of, seal_job, with_names
from .targets import limits_of
from .targets.onnxruntime import write
from .verify import run_files

_UNBOUNDED = Bounds(1, 2**31 - 1)


def build_onnx(job: Job, path: Path, example_inputs: Any, finish: Any = None) -> Manifest:
    """Brings an ONNX file into the form that the board's runtime reads, verifies and seals it.

    Args:
        job: What was decided; its target is the ONNX one.
        path: The file.
        example_inputs: Arrays by position or name, or None: random ones of the declared shapes.
        finish: As for :func:`edgewright_export.build.build`.

    Raises:
        CaptureError: Not a valid ONNX file.
        LoweringError: It needs a newer opset than the board's runtime has.
        ParityError: The rewritten file computes something else.
    """
    import onnx

    model = _read(path)
    initial = {t.name for t in model.graph.initializer}
    inputs = tuple(_spec(v) for v in model.graph.input if v.name not in initial)
    outputs = tuple(_spec(v) for v in model.graph.output)
    job = with_names(job, inputs, outputs)
    arrays = _arrays(example_inputs, inputs)
    workload = _workload(model, inputs, outputs)
    with partial_folder(job.output) as folder:
        reference = _reference(job, path, inputs, outputs, arrays)
        versions = {"onnx": onnx.__version__}
        written = write(model, job.target.engine, inputs, outputs, limits_of(job.row), folder, versions)
        lowered = job.target.gather(written)
        result = _compare(job, lowered, arrays, reference)
        source = "example_inputs=" if example_inputs is not None else "random values of the file's declared shapes"
        described = Model(job.name, _parameters(model), workload.macs, "float32", source)
        manifest = manifest_of(job, described, lowered, result, workload, ("read from an ONNX file",))
        return seal_job(job, folder, lowered, finish(lowered, manifest) if finish else manifest)


def _read(path: Path) -> Any:
    import onnx

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise CaptureError(f"{path} is not a valid ONNX file: {first}") from error
    return model


def _spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise LoweringError(f"{value.name} is not a tensor; only tensors can be inputs and outputs")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        named = dim.dim_param or f"{value.name}_{axis}"
        shape.append(int(dim.dim_value) if dim.HasField("dim_value") else named)
    bounds = {size: _UNBOUNDED for size in shape if isinstance(size, str)}
    return TensorSpec(value.name, dtype, tuple(shape), bounds, value.name)


def _arrays(example_inputs: Any, specs: tuple[TensorSpec, ...]) -> list[np.ndarray]:
    if example_inputs is None:
        draw = np.random.default_rng(0)
        return [_random(draw, spec) for spec in specs]
    given = example_inputs
    if isinstance(given, dict):
        missing = [spec.name for spec in specs if spec.name not in given]
        if missing or len(given) != len(specs):
            raise OptionError(f"example_inputs has {', '.join(given)}; the file takes {', '.join(map(str, specs))}")
        given = [given[spec.name] for spec in specs]
    given = given if isinstance(given, (tuple, list)) else (given,)
    arrays = [np.ascontiguousarray(np.asarray(value)) for value in given]
    wrong = [str(s) for s, a in zip(specs, arrays, strict=False) if a.dtype != s.numpy_dtype or not s.admits(a.shape)]
    if wrong or len(arrays) != len(specs):
        raise OptionError(f"example_inputs do not fit the file; it takes {', '.join(map(str, specs))}")
    return arrays


def _random(draw: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    if spec.numpy_dtype.kind == "f":
        return draw.standard_normal(shape).astype(spec.numpy_dtype)
    return np.ones(shape, spec.numpy_dtype)


def _reference(job: Job, path: Path, inputs: Any, outputs: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The given file in ONNX Runtime with all optimisations off."""
    entry = {"main": Entry(path.name, inputs, outputs)}
    as_given = Lowered(path.parent, "onnx", "onnxruntime", (path.name,), entry, {}, {"optimise": 0})
    try:
        results, _ = run_files(job.target, as_given, [arrays], job.recipe.threads)
    except LoweringError as error:
        raise CaptureError(f"{path.name} does not run as it is: {error}") from error
    return results[0]


def _compare(job: Job, lowered: Lowered, arrays: list[np.ndarray], reference: list[np.ndarray]) -> Parity:
    results, version = run_files(job.target, lowered, [arrays], job.recipe.threads)
    rows = tuple(
        parity.compare(spec.name, want, got)
        for spec, want, got in zip(lowered.outputs, reference, results[0], strict=True)
    )
    limit = parity.threshold_db({spec.dtype for spec in lowered.outputs})
    failed = [row for row in rows if row.snr_db is not None and row.snr_db < limit]
    if failed:
        raise ParityError(f"the rewritten file differs: {failed[0].name} has SNR {failed[0].snr_db:.1f} dB")
    return Parity("measured", limit, lowered.engine, version, "the given file, optimisations off", ("example",), rows)


def _parameters(model: Any) -> int:
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type in (1, 10, 11, 16))


def _workload(model: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Workload:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    sizes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        shape = tuple(int(d.dim_value) if d.HasField("dim_value") else 1 for d in tensor.shape.dim)
        sizes[value.name] = (shape, tensor.elem_type)
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    ops = tuple(_op(node, sizes, weights) for node in model.graph.node)
    largest = max((op.bytes for op in ops), default=0)
    return Workload(
        ops,
        tuple(sizes[s.name][0] for s in inputs),
        tuple(sizes[s.name][0] for s in outputs),
        sum(len(t.raw_data) or 4 * int(np.prod(t.dims)) for t in model.graph.initializer),
        largest,
    )


def _op(node: Any, sizes: dict[str, Any], weights: dict[str, tuple[int, ...]]) -> Op:
    shapes = [sizes[n][0] if n in sizes else weights.get(n, ()) for n in (*node.input, node.output[0])]
    macs = 0
    if node.op_type == "Conv" and len(shapes) > 2:
        macs = int(np.prod(shapes[-1]) * np.prod(shapes[1][1:]))
    elif node.op_type in ("MatMul", "Gemm") and shapes[0]:
        macs = int(np.prod(shapes[-1]) * shapes[0][-1])
    results = int(sum(np.prod(shape) * 4 for shape in shapes if shape))
    dtypes = tuple("float32" for _ in shapes)
    return Op(node.op_type.lower(), tuple(shapes), dtypes, macs, results, 0.0, node.name)
