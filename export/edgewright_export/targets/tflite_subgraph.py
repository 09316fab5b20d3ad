"""A TFLite graph whose one operator is the custom operator ``edgewright.Subgraph``.

Version 1: the first input is a constant of uint8, the ONNX file of the part; the others and the outputs are the file's, in
its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgewright_runtime.bundle import TensorSpec

from . import subgraph
from .tflite_file import TFLite

_OPERATOR = f"{subgraph.DOMAIN}.{subgraph.NAME}"
_SIGNATURE = "serving_default"
_SCHEMA = 3


def around(model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> TFLite:
    """The graph around a file.

    Args:
        model: The ONNX file.
        inputs: Bound to its inputs, in its order; the signature's names are theirs.
        outputs: Likewise.
    """
    kind = schema.BuiltinOperator.CUSTOM
    written = TFLite(
        schema.ModelT(
            version=_SCHEMA,
            operatorCodes=[schema.OperatorCodeT(kind, _OPERATOR, subgraph.VERSION, kind)],
            subgraphs=[schema.SubGraphT(tensors=[], operators=[], name="main")],
            buffers=[schema.BufferT()],
        )
    )
    content = np.fromfile(model, np.uint8)
    results = list({spec.binding: spec for spec in outputs}.values())
    constant = written.add_tensor("edgewright_subgraph", schema.TensorType.UINT8, content.shape, content)
    ins, outs = ([_add(written, spec) for spec in specs] for specs in (inputs, results))
    graph = written.graph
    graph.inputs, graph.outputs = np.array(ins, np.int32), np.array(outs, np.int32)
    written.add_operator(0, kind, subgraph.VERSION, [constant, *ins], outs)
    maps = (list(map(_named, specs, indices)) for specs, indices in ((inputs, ins), (results, outs)))
    written.model.signatureDefs = [schema.SignatureDefT(*maps, _SIGNATURE)]
    return written


def _add(written: TFLite, spec: TensorSpec) -> int:
    dtype = getattr(schema.TensorType, spec.dtype.upper())
    index = written.add_tensor(spec.binding, dtype, [_least(spec, size) for size in spec.shape])
    if any(isinstance(size, str) for size in spec.shape):
        sizes = [-1 if isinstance(size, str) else size for size in spec.shape]
        written.graph.tensors[index].shapeSignature = np.array(sizes, np.int32)
    return index


def _least(spec: TensorSpec, size: int | str) -> int:
    """The size with which the file is opened."""
    if isinstance(size, int):
        return size
    bounds = spec.bounds.get(size)
    return bounds.min if bounds else 1


def _named(spec: TensorSpec, index: int) -> Any:
    return schema.TensorMapT(spec.binding, index)
