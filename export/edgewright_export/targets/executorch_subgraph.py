"""An ExecuTorch program whose one instruction calls the delegate ``EdgewrightBackend``.

Version 1: the processed bytes are the ONNX file of the part; arguments are its inputs and outputs, in its order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright_runtime import native_library
from edgewright_runtime.bundle import TensorSpec

BACKEND = "EdgewrightBackend"
_ALIGNMENT = 64
_SCALARS = {
    "bool": "BOOL",
    "float16": "HALF",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "int8": "CHAR",
    "int16": "SHORT",
    "int32": "INT",
    "int64": "LONG",
    "uint8": "BYTE",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
}
"""ExecuTorch's names of dtypes."""
Sizes = tuple[tuple[int, int], ...]
"""The least and the largest size of each dimension."""
Typed = tuple[np.dtype[Any], Sizes]


def write(model: Path, inputs: Sequence[TensorSpec], file: Path) -> list[str]:
    """Writes the program around an ONNX file.  The names of its results.

    Args:
        model: The ONNX file.
        inputs: Bound to its inputs, in its order.
        file: The program's.

    Raises:
        NativeError: The engine cannot have the model.
    """
    sizes = [_sizes(spec) for spec in inputs]
    bounds = {f"{spec.binding}:{axis}": of[axis] for spec, of in zip(inputs, sizes, strict=True) for axis in _open(spec)}
    outputs = native_library.Model(str(model)).session(bounds=bounds).outputs
    given = [(spec.numpy_dtype, of) for spec, of in zip(inputs, sizes, strict=True)]
    write_call(model.read_bytes(), given, [(dtype, of) for _, dtype, of in outputs], file)
    return [name for name, _, _ in outputs]


def write_call(processed: bytes, inputs: list[Typed], outputs: list[Typed], file: Path) -> None:
    """Writes a program that calls the delegate once."""
    from executorch.exir._serialize import _PTEFile, _serialize_pte_binary

    program = _PTEFile(_program(processed, inputs, outputs))
    with open(file, "wb") as opened:
        _serialize_pte_binary(program, extract_delegate_segments=True).write_to_file(opened)


def _sizes(spec: TensorSpec) -> Sizes:
    limits = {name: (of.min, of.max) for name, of in spec.bounds.items()}
    return tuple((size, size) if isinstance(size, int) else limits[size] for size in spec.shape)


def _open(spec: TensorSpec) -> list[int]:
    return [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]


def _program(processed: bytes, inputs: list[Typed], outputs: list[Typed]) -> Any:
    """Inputs and outputs lie side by side in the program's memory, into which the runtime copies inputs."""
    from executorch.exir import schema

    values, end = [], 0
    for of in (*inputs, *outputs):
        values.append(_value(of, end))
        end += -(-_bytes(of) // _ALIGNMENT) * _ALIGNMENT
    arguments = list(range(len(values)))
    place = schema.BackendDelegateDataReference(schema.DataLocation.INLINE, 0)
    plan = schema.ExecutionPlan(
        name="forward",
        container_meta_type=schema.ContainerMetadata("", ""),
        values=values,
        inputs=arguments[: len(inputs)],
        outputs=arguments[len(inputs) :],
        chains=[schema.Chain([], [], [schema.Instruction(schema.DelegateCall(0, arguments))], None)],
        operators=[],
        delegates=[schema.BackendDelegate(BACKEND, place, [])],
        non_const_buffer_sizes=[0, end],
    )
    return schema.Program(
        version=0,
        execution_plan=[plan],
        constant_buffer=[schema.Buffer(b"")],
        backend_delegate_data=[schema.BackendDelegateInlineData(processed)],
        segments=[],
        constant_segment=schema.SubsegmentOffsets(0, []),
    )


def _value(of: Typed, offset: int) -> Any:
    from executorch.exir import schema
    from executorch.exir.scalar_type import ScalarType

    dtype, sizes = of
    is_dynamic = any(least != most for least, most in sizes)
    tensor = schema.Tensor(
        scalar_type=ScalarType[_SCALARS[dtype.name]],
        storage_offset=0,
        sizes=[most for _, most in sizes],
        dim_order=list(range(len(sizes))),
        requires_grad=False,
        layout=0,
        data_buffer_idx=0,
        allocation_info=schema.AllocationDetails(1, offset & 0xFFFFFFFF, offset >> 32),
        shape_dynamism=schema.TensorShapeDynamism.DYNAMIC_BOUND if is_dynamic else schema.TensorShapeDynamism.STATIC,
    )
    return schema.EValue(tensor)


def _bytes(of: Typed) -> int:
    dtype, sizes = of
    return int(dtype.itemsize) * math.prod(most for _, most in sizes)
