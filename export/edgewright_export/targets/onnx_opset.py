"""Rewrites an ONNX model to an older opset and IR version.

Boards whose last runtime is old read old files only; the exporter writes opset 18 or newer.  Every
operator goes back version by version through :data:`onnx_rewrites.REWRITES`, then each node is
compared with the schema of the asked opset.  Large weights are copied once and take no part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, inliner

from device_profiles.errors import OptionError
from device_profiles.finding import Finding

from .onnx_rewrites import FIXES, KEPT, PORTABLE, REWRITES, WIDENED
from .onnx_scope import Names, Refused, Scope, Site, finding_at, subgraphs

TARGETS = range(13, 19)
SOURCES = range(7, 24)
IR_VERSIONS = range(4, onnx.IR_VERSION + 1)

_ONNX = ("", "ai.onnx")
_SMALL_ELEMENTS = 1024
# Fields of the file format by the IR version that brought them; older readers do not know them.
_FIELDS = {10: ("metadata_props", "overload"), 11: ("device_configurations", "configuration")}


def lower_opset(model: ModelProto, opset: int, ir_version: int) -> tuple[ModelProto, list[Finding]]:
    """The same computation in an older opset and IR version.

    Args:
        model: Opset 7 to 23 of the default domain; it is left as it is.  A model that is already
            at or below ``opset`` keeps its opset.
        opset: 13 to 18.
        ir_version: Version of the file format, 4 or newer.

    Returns:
        The rewritten model, checked with shape inference, and what could not be rewritten.  With
        findings the model is incomplete and only good for looking at.

    Raises:
        OptionError: ``opset``, ``ir_version`` or the opset of the model is out of range.

    Example:
        >>> lowered, findings = lower_opset(onnx.load("model.onnx"), 15, 8)  # doctest: +SKIP
    """
    source = _source_opset(model)
    _check_arguments(source, opset, ir_version)
    bare, weights = _without_weights(model)
    bare = _inlined(bare)
    findings = [_not_inlined(function.name) for function in bare.functions]
    if source > opset:
        lowering = _Lowering(bare, source, opset)
        findings += lowering.findings
        _set_opset(bare, opset)
    bare.ir_version = ir_version
    _prune(bare)
    _strip(bare, ir_version)
    if not findings:
        findings += _checked(bare)
    _restore(bare, weights, len(model.graph.input), ir_version)
    return bare, findings


class _Lowering:
    """One walk over the graphs of a model; ``findings`` is what it could not rewrite."""

    def __init__(self, model: ModelProto, source: int, opset: int) -> None:
        self.source = source
        self.opset = opset
        self.names = Names(model)
        self.findings: list[Finding] = []
        self._graph(model.graph, _typed(model).graph, None)

    def _graph(self, graph: GraphProto, typed: GraphProto, parent: Scope | None) -> None:
        scope = Scope(graph, typed, parent)
        nodes: list[NodeProto] = []
        for node, twin in zip(list(graph.node), list(typed.node), strict=True):
            for body, typed_body in zip(subgraphs(node), subgraphs(twin), strict=True):
                self._graph(body, typed_body, scope)
            nodes += self._node(node, scope)
        del graph.node[:]
        graph.node.extend(nodes)

    def _node(self, node: NodeProto, scope: Scope) -> list[NodeProto]:
        if node.domain not in _ONNX:
            return [node]
        try:
            nodes = self._rewritten(Site(node, scope, self.names, self.opset))
            for result in nodes:
                _conform(result, scope, self.source, self.opset)
        except Refused as refusal:
            reason = f"{refusal.reason} (ONNX opset {self.opset})" if "opset" not in refusal.reason else refusal.reason
            self.findings.append(finding_at(node, reason, refusal.fix))
            return [node]
        return nodes

    def _rewritten(self, site: Site) -> list[NodeProto]:
        op = site.node.op_type
        for version in _steps(op, self.source, self.opset):
            rewrite = REWRITES.get((op, version))
            if rewrite is None and op not in WIDENED.get(version, "").split():
                raise _missing(op, self.opset)
            if rewrite is not None and rewrite(site) is not KEPT:
                return [*site.before, *site.after]
        portable = PORTABLE.get(op)
        if portable is not None and portable(site) is not KEPT:
            return [*site.before, *site.after]
        return [*site.before, site.node, *site.after]


@cache
def _versions() -> dict[str, tuple[int, ...]]:
    versions: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, set()).add(schema.since_version)
    return {op: tuple(sorted(found)) for op, found in versions.items()}


def _steps(op: str, source: int, opset: int) -> list[int]:
    """The versions of an operator to undo, newest first.

    Raises:
        Refused: The operator came after ``opset`` and has no rewrite.
    """
    versions = _versions().get(op, ())
    if not versions or (versions[0] > opset and (op, versions[0]) not in REWRITES):
        raise _missing(op, opset)
    return [version for version in reversed(versions) if opset < version <= source]


def _missing(op: str, opset: int) -> Refused:
    first = _versions().get(op, (0,))[0]
    fix = FIXES.get(op, f"replace it in the model, or choose an engine that reads opset {first}")
    return Refused(f"ONNX opset {opset} has no {op}", fix if first else "use operators of the ONNX standard")


def _conform(node: NodeProto, scope: Scope, source: int, opset: int) -> None:
    """Compares a rewritten node with the schema of the asked opset.

    Raises:
        Refused: An attribute, an input or a type is too new.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        raise _missing(node.op_type, opset) from None
    _drop_defaults(node, schema, source)
    for attribute in node.attribute:
        if attribute.name not in schema.attributes:
            raise Refused(
                f"{node.op_type} of ONNX opset {opset} has no {attribute.name}",
                f"leave {attribute.name} at its default, or choose an engine that reads a newer opset",
            )
    bound: dict[str, str] = {}
    for kind, names, parameters, most in (
        ("inputs", node.input, schema.inputs, schema.max_input),
        ("outputs", node.output, schema.outputs, schema.max_output),
    ):
        if len(names) > most:
            raise Refused(f"{node.op_type} of ONNX opset {opset} has {most} {kind}", f"use {most} {kind} only")
        _check_types(node, list(names), list(parameters), scope, bound, opset)


def _drop_defaults(node: NodeProto, schema: onnx.defs.OpSchema, source: int) -> None:
    newer = onnx.defs.get_schema(node.op_type, source, "").attributes
    kept = [
        attribute
        for attribute in node.attribute
        if attribute.name in schema.attributes
        or attribute.name not in newer
        or not newer[attribute.name].default_value.name
        or helper.get_attribute_value(attribute) != helper.get_attribute_value(newer[attribute.name].default_value)
    ]
    del node.attribute[:]
    node.attribute.extend(kept)


def _check_types(
    node: NodeProto,
    names: list[str],
    parameters: list[onnx.defs.OpSchema.FormalParameter],
    scope: Scope,
    bound: dict[str, str],
    opset: int,
) -> None:
    for position, name in enumerate(names):
        parameter = parameters[min(position, len(parameters) - 1)]
        found = _type_text(scope.type_of(name)) if name else ""
        if not found:
            continue
        fix = f"cast before it to {_nearest(parameter.types)}"
        if found not in parameter.types:
            raise Refused(f"{node.op_type} of ONNX opset {opset} does not take {found}", fix)
        if parameter.is_homogeneous and bound.setdefault(parameter.type_str, found) != found:
            other = bound[parameter.type_str]
            raise Refused(f"{node.op_type} of ONNX opset {opset} does not mix {other} and {found}", fix)


def _type_text(kind: TypeProto | None) -> str:
    """A type as schemas spell it, ``""`` where it is not known."""
    if kind is None:
        return ""
    if kind.HasField("tensor_type"):
        element = kind.tensor_type.elem_type
        return f"tensor({TensorProto.DataType.Name(element).lower()})" if element else ""
    for field, word in (("sequence_type", "seq"), ("optional_type", "optional")):
        if kind.HasField(field):
            inner = _type_text(getattr(kind, field).elem_type)
            return f"{word}({inner})" if inner else ""
    return ""


def _nearest(types: Collection[str]) -> str:
    known = ("tensor(float)", "tensor(int64)", "tensor(int32)", "tensor(bool)")
    return next((kind for kind in known if kind in types), "one of " + ", ".join(sorted(types)))


def _source_opset(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in _ONNX), 0)


def _set_opset(model: ModelProto, opset: int) -> None:
    for entry in model.opset_import:
        if entry.domain in _ONNX:
            entry.version = opset


def _check_arguments(source: int, opset: int, ir_version: int) -> None:
    for name, value, allowed in (
        ("opset", opset, TARGETS),
        ("ir_version", ir_version, IR_VERSIONS),
        ("opset of the model", source, SOURCES),
    ):
        if value not in allowed:
            raise OptionError(f"{name} must be {allowed[0]} to {allowed[-1]}, got {value!r}")


def _without_weights(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """A copy whose large initializers are inputs instead, and those initializers."""
    bare = ModelProto()
    _copy(model, bare, "graph")
    _copy(model.graph, bare.graph, "initializer")
    inputs = {value.name for value in model.graph.input}
    weights = []
    for tensor in model.graph.initializer:
        if _elements(tensor) <= _SMALL_ELEMENTS:
            bare.graph.initializer.append(tensor)
            continue
        weights.append(tensor)
        if tensor.name not in inputs:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare, weights


def _copy(source: Any, result: Any, skipped: str) -> None:
    for field, value in source.ListFields():
        if field.name == skipped:
            continue
        if hasattr(value, "MergeFrom"):
            getattr(result, field.name).MergeFrom(value)
        else:
            setattr(result, field.name, value)


def _elements(tensor: TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _inlined(model: ModelProto) -> ModelProto:
    """The model with its functions written out, and without their domains."""
    if not model.functions:
        return model
    domains = {function.domain for function in model.functions}
    flat = inliner.inline_local_functions(model)
    used = {node.domain for node in _nodes(flat.graph)}
    kept = [entry for entry in flat.opset_import if entry.domain in used or entry.domain not in domains - set(_ONNX)]
    del flat.opset_import[:]
    flat.opset_import.extend(kept)
    return flat


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from _nodes(body)


def _not_inlined(function: str) -> Finding:
    return Finding("", function, "", "this function uses another opset than the model", "export it at the same opset")


def _typed(model: ModelProto) -> ModelProto:
    """The model with inferred types; those of the exporter alone where inference fails."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return model


def _prune(model: ModelProto) -> None:
    """Removes initializers that a rewrite left without a reader."""
    used = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in _nodes(model.graph):
        used.update(node.input)
        for body in subgraphs(node):
            used.update(value.name for value in body.output)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _strip(message: Any, ir_version: int) -> None:
    """Clears the fields that came after ``ir_version``; the model's own metadata is older."""
    newer = {name for since, names in _FIELDS.items() if ir_version < since for name in names}
    for field, value in list(message.ListFields()):
        if field.name in newer and not (field.name == "metadata_props" and isinstance(message, ModelProto)):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in _parts(value):
                _strip(part, ir_version)


def _parts(value: Any) -> Iterable[Any]:
    return value if hasattr(value, "extend") else (value,)


def _checked(model: ModelProto) -> list[Finding]:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = f"the rewritten model is not valid ONNX: {str(error).splitlines()[0]}"
        return [Finding("", "", "", reason, "choose a target with a newer opset and report this model")]
    return []


def _restore(model: ModelProto, weights: list[TensorProto], own_inputs: int, ir_version: int) -> None:
    """Puts the large initializers back in place of the inputs that stood for them."""
    for position in reversed(range(own_inputs, len(model.graph.input))):
        del model.graph.input[position]
    for tensor in weights:
        model.graph.initializer.append(tensor)
        _strip(model.graph.initializer[-1], ir_version)
