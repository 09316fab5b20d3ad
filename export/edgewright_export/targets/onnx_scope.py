"""What a rewrite of one ONNX node may look up, and how it writes the nodes that take its place."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from device_profiles.finding import Finding

SCOPES = "pkg.torch.onnx.name_scopes"
CLASSES = "pkg.torch.onnx.class_hierarchy"
STACK = "pkg.torch.onnx.stack_trace"
REDUCE_AXES_INPUT = 18


class Refused(Exception):
    """A rewrite cannot keep the meaning of this node.

    Args:
        reason: Why not.
        fix: What to change in the user's model.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Scope:
    """One graph or subgraph: the types and the constants that its nodes see.

    Args:
        graph: The graph that is rewritten in place.
        typed: The same graph after shape inference.
        parent: The graph around a subgraph, None for the model's own.
    """

    def __init__(self, graph: GraphProto, typed: GraphProto, parent: Scope | None = None) -> None:
        self.graph = graph
        self.parent = parent
        self._types: dict[str, TypeProto] = {v.name: v.type for v in (*typed.input, *typed.value_info, *typed.output)}
        self._constants = dict(_constants(graph))

    def type_of(self, name: str) -> TypeProto | None:
        """The inferred type of a value, None where inference gave none."""
        if name in self._types:
            return self._types[name]
        if name in self._constants:
            tensor = self._constants[name]
            return helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        return self.parent.type_of(name) if self.parent else None

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a small constant, None where it is computed or large."""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        return self.parent.constant(name) if self.parent and name not in self._types else None

    def add_constant(self, tensor: TensorProto) -> None:
        """Adds an initializer."""
        self.graph.initializer.append(tensor)
        self._constants[tensor.name] = tensor


class Names:
    """Hands out value names that the model does not use yet."""

    def __init__(self, model: ModelProto) -> None:
        self._used = set(_names(model.graph))

    def new(self, hint: str) -> str:
        """``hint``, numbered where it is taken."""
        name, count = hint, 1
        while name in self._used:
            name, count = f"{hint}_{count}", count + 1
        self._used.add(name)
        return name


class Site:
    """One node under rewrite.

    Args:
        node: The node, which a rewrite may edit.
        scope: The graph it lives in.
        names: The model's names.
        opset: The opset that is asked for.
    """

    def __init__(self, node: NodeProto, scope: Scope, names: Names, opset: int) -> None:
        self.node = node
        self.scope = scope
        self.names = names
        self.opset = opset
        self.before: list[NodeProto] = []
        self.after: list[NodeProto] = []

    def input(self, index: int) -> str:
        """Name of an input, ``""`` where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def output(self, index: int = 0) -> str:
        """Name of an output, ``""`` where it is left out."""
        return self.node.output[index] if index < len(self.node.output) else ""

    def set_input(self, index: int, name: str) -> None:
        """Replaces an input, after filling the ones before it with ``""``."""
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.node.input[index] = name

    def trim_inputs(self, count: int) -> None:
        """Keeps the first ``count`` inputs at most, without trailing empty names."""
        del self.node.input[count:]
        while self.node.input and not self.node.input[-1]:
            del self.node.input[-1]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, text decoded."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def drop(self, *names: str) -> None:
        """Removes attributes."""
        kept = [a for a in self.node.attribute if a.name not in names]
        del self.node.attribute[:]
        self.node.attribute.extend(kept)

    def set_attribute(self, name: str, value: Any) -> None:
        """Adds or replaces an attribute."""
        self.drop(name)
        self.node.attribute.append(helper.make_attribute(name, value))

    def dtype(self, name: str) -> int:
        """Element type of a tensor, as in ``TensorProto.DataType``.

        Raises:
            Refused: It is not known.
        """
        dtype = self.dtype_if_known(name)
        if not dtype:
            raise Refused(
                f"the element type of {name!r} is not known", "export again with torch.onnx's dynamo exporter"
            )
        return dtype

    def dtype_if_known(self, name: str) -> int:
        """As :meth:`dtype`, ``TensorProto.UNDEFINED`` where it is not known."""
        kind = self.scope.type_of(name) if name else None
        return kind.tensor_type.elem_type if kind is not None else TensorProto.UNDEFINED

    def shape(self, name: str) -> list[int | None]:
        """Dimensions of a tensor, None for those that are open.

        Raises:
            Refused: Not even their number is known.
        """
        kind = self.scope.type_of(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            raise Refused(f"the number of dimensions of {name!r} is not known", "export with an example of fixed rank")
        return [d.dim_value if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim]

    def integers(self, name: str) -> list[int] | None:
        """Value of a constant integer tensor, None where it is computed."""
        value = self.scope.constant(name)
        return None if value is None else [int(v) for v in value.reshape(-1)]

    def constant(self, value: Any, dtype: int = TensorProto.INT64) -> str:
        """Adds an initializer to the graph of the node and gives its name."""
        name = self.names.new(f"{self.output()}_constant")
        array = np.asarray(value, dtype=helper.tensor_dtype_to_np_dtype(dtype))
        self.scope.add_constant(numpy_helper.from_array(array, name))
        return name

    def emit(self, op: str, *inputs: str, into: str = "", after: bool = False, **attributes: Any) -> str:
        """Adds a node in front of (or after) the rewritten one and gives the name of its output."""
        output = into or self.names.new(f"{self.output()}_{op}")
        node = helper.make_node(op, list(inputs), [output], name=self.names.new(f"{self.node.name}_{op}"), **attributes)
        node.metadata_props.extend(self.node.metadata_props)
        (self.after if after else self.before).append(node)
        return output

    def reduce_mean(self, name: str, axes: Sequence[int]) -> str:
        """ReduceMean with kept dimensions, in the form of the asked opset."""
        if self.opset < REDUCE_AXES_INPUT:
            return self.emit("ReduceMean", name, axes=list(axes), keepdims=1)
        return self.emit("ReduceMean", name, self.constant(list(axes)), keepdims=1)

    def shaped(self, name: str, full: Sequence[int] | None, start: str, index: Sequence[int]) -> str:
        """``full`` as a constant, or ``start`` with ``name`` written at ``index`` where it is None."""
        if full is not None:
            return self.constant(full)
        return self.emit("ScatterElements", start, self.constant(list(index)), name)


def finding_at(node: NodeProto, reason: str, fix: str) -> Finding:
    """A finding that names the module, the operation and the source line of a node."""
    scopes = listed(node, SCOPES)
    operation = (listed(node, CLASSES) or [""])[-1]
    return Finding(
        module_path=scopes[-2] if len(scopes) > 1 else "",
        op=operation if operation.startswith("aten.") else node.op_type,
        source_line=_source_line(_metadata(node, STACK)),
        reason=reason,
        fix=fix,
    )


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of If, Loop, Scan and their like, in the order of the attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _metadata(node: NodeProto, key: str) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == key), "")


def listed(node: NodeProto, key: str) -> list[str]:
    """The words of a list that the exporter notes of a node; [] where there is none."""
    try:
        value = ast.literal_eval(_metadata(node, key) or "[]")
    except (SyntaxError, ValueError):
        return []
    return [str(item) for item in value] if isinstance(value, list) else []


def _source_line(trace: str) -> str:
    """The innermost frame outside installed packages, else the innermost one."""
    frames: list[tuple[str, str]] = []
    for line in trace.splitlines():
        text = line.strip()
        if text.startswith('File "'):
            file, _, rest = text[len('File "') :].partition('", line ')
            frames.append((f"{file}:{rest.split(',')[0]}", ""))
        elif frames and text:
            frames[-1] = (frames[-1][0], frames[-1][1] or text)
    if not frames:
        return ""
    own = [frame for frame in frames if "-packages/" not in frame[0].replace("\\", "/")]
    place, source = (own or frames)[-1]
    return f"{place} {source}".rstrip()


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    open_inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in open_inputs and tensor.data_location != TensorProto.EXTERNAL:
            yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            tensor = _constant_value(node)
            if tensor is not None:
                yield node.output[0], tensor


def _constant_value(node: NodeProto) -> TensorProto | None:
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            tensor: TensorProto = attribute.t
            return tensor
        if attribute.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.asarray(value, dtype=np.int64))
        if attribute.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.asarray(value, dtype=np.float32))
    return None


def _names(graph: GraphProto) -> Iterator[str]:
    groups: Iterable[Any] = (graph.input, graph.output, graph.value_info, graph.initializer)
    for group in groups:
        yield from (value.name for value in group)
    for node in graph.node:
        yield node.name
        yield from node.input
        yield from node.output
        for body in subgraphs(node):
            yield from _names(body)
