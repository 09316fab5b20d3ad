"""Which modules of the user's model the products of an ONNX file are of."""

from __future__ import annotations

import re
from typing import Any

from .onnx_scope import SCOPES, listed

_PRODUCTS = ("Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger")
_FORMS = ("Cast", "DequantizeLinear", "Reshape", "Transpose", "UnpackInt3")
"""Operators that give weights another form."""


def modules(graph: Any) -> dict[str, tuple[str, ...]]:
    """Paths of modules by the names of products with constant weights, in the order of the file.

    Each has that of which the exporter noted the node, then that of which the weights are named: the node of a batch norm
    that was folded takes over the note, and weights that were given another form may have any name.

    Args:
        graph: With what the exporter notes of nodes.
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        weights = _weights(node.input[1], makers) if node.op_type in _PRODUCTS and len(node.input) > 1 else ""
        if weights in constants:
            scopes = listed(node, SCOPES)
            noted = [re.sub(r"@\d+$", "", scopes[-2])] if len(scopes) > 1 else []
            found[node.name] = (*noted, weights.rpartition(".")[0])
    return found


def _weights(name: str, makers: dict[str, Any]) -> str:
    while name in makers and makers[name].op_type in _FORMS:
        name = makers[name].input[0]
    return name
