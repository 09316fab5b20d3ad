"""An ONNX graph whose one node is ``edgewright::Subgraph``.

Version 1: the first input is a constant of uint8, the ONNX file of the part; the others and the outputs are the file's, in
its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright_runtime.bundle import TensorSpec

from . import subgraph

_CONSTANT = "edgewright_subgraph"
_OPSET, _IR_VERSION = 18, 9
"""What ONNX Runtime 1.17 reads, the first with what the operator needs."""


def around(model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
    """The graph around a file.

    Args:
        model: The ONNX file.
        inputs: Bound to its inputs, in its order.
        outputs: Likewise.
    """
    from onnx import helper, numpy_helper

    content = numpy_helper.from_array(np.fromfile(model, np.uint8), _CONSTANT)
    names = [_CONSTANT, *(spec.binding for spec in inputs)]
    results = {spec.binding: spec for spec in outputs}
    node = helper.make_node(subgraph.NAME, names, list(results), subgraph.NAME, domain=subgraph.DOMAIN)
    graph = helper.make_graph([node], "main", list(map(_value, inputs)), list(map(_value, results.values())), [content])
    imports = [helper.make_opsetid("", _OPSET), helper.make_opsetid(subgraph.DOMAIN, subgraph.VERSION)]
    return helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)


def _value(spec: TensorSpec) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(spec.binding, helper.np_dtype_to_tensor_dtype(spec.numpy_dtype), spec.shape)
