"""Makes the batch of a TFLite file dynamic.

litert-torch writes most operations with fixed sizes only, while the runtime itself can resize.
So the model is converted at a batch that cannot be mistaken for another size (a prime that
divides no size of the graph), and every size that the prime divides is then opened in place:
declared shapes become those of batch 1, targets of RESHAPE and sizes of SLICE become -1.
Verification at the minimum, middle and maximum is what proves the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from device_profiles import Finding
from device_profiles.errors import LoweringError
from edgewright_runtime.bundle import TensorSpec

_PRIMES = (29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113)


def is_batch(inputs: Sequence[TensorSpec]) -> bool:
    """Whether the only dynamic size is the first dimension of inputs."""
    names = {size for spec in inputs for size in spec.shape if isinstance(size, str)}
    return len(names) == 1 and not any(isinstance(size, str) for spec in inputs for size in spec.shape[1:])


def marker(program: torch.export.ExportedProgram) -> int:
    """A prime that divides no fixed size or constant of the graph."""
    fixed = set(_numbers(program))
    for prime in _PRIMES:
        if all(number % prime or not number for number in fixed):
            return prime
    raise LoweringError("no batch size can mark the batch dimension; export a fixed size for TFLite")


def marked(
    program: torch.export.ExportedProgram, inputs: Sequence[TensorSpec], batch: int
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The module without its range checks, and example inputs of that batch."""
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()
    assert program.example_inputs is not None
    tensors = []
    for tensor, spec in zip(program.example_inputs[0], inputs, strict=True):
        index = torch.arange(batch) % tensor.shape[0] if spec.shape and isinstance(spec.shape[0], str) else None
        tensors.append(tensor if index is None else tensor.index_select(0, index))
    return module, tuple(tensors)


def open_batch(path: Path, batch: int) -> None:
    """Opens the marked batch of a file in place.

    Raises:
        LoweringError: The batch is baked into a constant or an operation that cannot be resized.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(data, 0)
    problems: list[str] = []
    for i in range(model.SubgraphsLength()):
        _open_graph(model, model.Subgraphs(i), batch, problems)
    if problems:
        fix = "export a fixed size for TFLite"
        found = [Finding("", "", "", reason, fix) for reason in dict.fromkeys(problems)]
        raise LoweringError("litert-torch cannot write this model with a dynamic dimension", found)
    path.write_bytes(data)


def _numbers(program: torch.export.ExportedProgram) -> Iterable[int]:
    for node in program.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(value, torch.Tensor):
                yield from (size for size in value.shape if isinstance(size, int))
        for leaf in pytree.tree_leaves((node.args, node.kwargs)):
            if type(leaf) is int and leaf < 1 << 31:
                yield leaf


def _open_graph(model: Any, graph: Any, batch: int, problems: list[str]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "?")
        _open_operator(model, graph, operator, kind, batch, problems)
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        sizes = tensor.ShapeAsNumpy()
        if not isinstance(sizes, np.ndarray) or not _has(sizes, batch):
            continue
        if _constant(model, tensor) is not None:
            problems.append(f"the batch is part of a constant of shape {[int(size) for size in sizes]}")
            continue
        _close(sizes, batch, lambda size: size // batch)


def _open_operator(model: Any, graph: Any, operator: Any, kind: str, batch: int, problems: list[str]) -> None:
    for position in range(operator.InputsLength()):
        index = operator.Inputs(position)
        values = _constant(model, graph.Tensors(index)) if index >= 0 else None
        if values is None or not _has(values, batch):
            continue
        if (kind, position) in (("RESHAPE", 1), ("SLICE", 2)) and (kind == "SLICE" or _count(values, batch) == 1):
            _close(values, batch, lambda size: -1)
        else:
            problems.append(f"{kind} takes the batch as a constant")
    if kind == "RESHAPE":
        _open_reshape_options(operator, batch)


def _open_reshape_options(operator: Any, batch: int) -> None:
    from ai_edge_litert import schema_py_generated as schema

    table = operator.BuiltinOptions()
    if table is None:
        return
    options = schema.ReshapeOptions()
    options.Init(table.Bytes, table.Pos)
    sizes = options.NewShapeAsNumpy()
    if isinstance(sizes, np.ndarray):
        _close(sizes, batch, lambda size: -1)


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The values of an integer constant of at most one dimension, a marker for others, None if not constant."""
    buffer = model.Buffers(tensor.Buffer())
    data = buffer.DataAsNumpy() if buffer is not None and buffer.DataLength() else None
    if not isinstance(data, np.ndarray):
        return None
    kinds = {2: np.int32, 4: np.int64}
    if tensor.Type() not in kinds or tensor.ShapeLength() > 1:
        return np.empty(0, np.int32)
    return data.view(kinds[tensor.Type()])


def _has(values: np.ndarray, batch: int) -> bool:
    return _count(values, batch) > 0


def _count(values: np.ndarray, batch: int) -> int:
    return int(np.count_nonzero((values > 0) & (values % batch == 0)))


def _close(values: np.ndarray, batch: int, new: Any) -> None:
    for i, size in enumerate(values):
        if size > 0 and size % batch == 0:
            values[i] = new(int(size))
