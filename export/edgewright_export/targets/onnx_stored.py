"""Constants that an ONNX file for the native engine has in another form, behind a node that says what it stands for
(``runtime/BUNDLE.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_DOMAIN = "edgewright"


def store(model: Any, tensor: Any, kind: str, parts: Mapping[str, np.ndarray], version: int = 1, **attributes: Any) -> None:
    """Replaces an initializer.

    Args:
        model: Changed in place.
        tensor: One of its initializers.
        kind: The operator that stands for it; its output has the name and the shape of the initializer.
        parts: What the file has, by what is appended to the name.
        version: Of the operators' domain that this one needs.
        attributes: Of the operator, beside the shape.
    """
    from onnx import helper, numpy_helper

    name, shape = tensor.name, list(tensor.dims)
    stored = {f"{name}__{part}": array for part, array in parts.items()}
    model.graph.initializer.remove(tensor)
    model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in stored.items())
    model.graph.node.insert(0, helper.make_node(kind, list(stored), [name], domain=_DOMAIN, shape=shape, **attributes))
    opset = next((opset for opset in model.opset_import if opset.domain == _DOMAIN), None)
    if opset is None:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, version))
    else:
        opset.version = max(opset.version, version)
