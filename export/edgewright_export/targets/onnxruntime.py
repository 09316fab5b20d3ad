"""ONNX files for ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from device_profiles import Finding
from device_profiles.errors import LoweringError
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import installed

from . import Target, integer_ops, onnx_quantized, onnx_small, onnx_subgraph, subgraph
from .onnx_modules import modules

OPSET = 18
"""What the exporter writes natively; lower opsets are made from it."""
FILE = "model.onnx"
_PROTOBUF_BYTES = 1 << 30
_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)', overload='([^']+)'\)>")
_CAUSE = re.compile(r"## Exception summary\s+<class '(?:[^']*\.)?(\w+)'>: ([^\n]+)")
"""The innermost exception in the exporter's own summary."""


class OnnxRuntimeTarget(Target):
    """``torch.onnx`` (dynamo), then down to the opset that the board's runtime reads."""

    preload = (
        "torch",
        "torch.ao.quantization.fx._decomposed",
        "onnx",
        "edgewright_export.warm:program",
        "edgewright_export.warm:onnx",
    )
    subgraphs_from = "1.17"

    def convert(
        self,
        program: torch.export.ExportedProgram,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        limits: dict[str, Any],
        folder: Path,
    ) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        import onnx

        small = bool(self.bits)
        opset = onnx_quantized.opset_of(program, OPSET, small=small)
        written = torch.onnx.export(
            integer_ops.run(program),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
            optimize=True,
            custom_translation_table=onnx_quantized.translations(),
        )
        assert written is not None
        model = written.model_proto
        onnx_quantized.tidy(model)
        if small and opset == onnx_quantized.OPSET:
            onnx_small.shrink(model)
        specs = _rename(model, inputs, outputs)
        versions = {"torch": torch.__version__, "onnx": onnx.__version__}
        return write(model, self.engine, *specs, limits, folder, versions)

    def embed(self, model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], folder: Path) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        import onnx

        versions = {"torch": torch.__version__, "onnx": onnx.__version__}
        written = write(onnx_subgraph.around(model, inputs, outputs), self.engine, inputs, outputs, {}, folder, versions)
        return replace(written, requires={**written.requires, **subgraph.REQUIRES})

    def unknown(self, error: dict[str, Any]) -> list[str]:
        """See :class:`edgewright_export.targets.Target`."""
        return [match[1] for match in _MISSING.finditer(str(error))]

    def explain(self, error: dict[str, Any]) -> str:
        """See :class:`edgewright_export.targets.Target`."""
        missing = _MISSING.search(str(error))
        if missing:
            return f"ONNX has no operator for {missing[1]}.{missing[2]}"
        cause = _CAUSE.search(error["message"])
        return super().explain({**error, "type": cause[1], "message": cause[2]} if cause else error)


def write(
    model: Any,
    engine: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    limits: dict[str, Any],
    folder: Path,
    versions: dict[str, str],
) -> Lowered:
    """Lowers a model's opset to the limits and writes it.

    Raises:
        LoweringError: An operator does not exist at that opset.
    """
    import onnx

    from .onnx_opset import lower_opset

    own = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OPSET)
    opset = min(own, limits.get("opset", own))
    ir_version = min(model.ir_version, limits.get("ir_version", model.ir_version))
    problems: list[Finding] = []
    if opset <= OPSET:
        model, problems = lower_opset(model, opset, ir_version)
    if problems:
        raise LoweringError(f"the model cannot be written in ONNX opset {opset}", problems)
    products = modules(model.graph)
    _forget_sources(model.graph)
    large = model.ByteSize() > _PROTOBUF_BYTES
    onnx.save_model(model, str(folder / FILE), save_as_external_data=large, location=f"{FILE}.data" if large else None)
    return Lowered(
        folder=folder,
        format="onnx",
        engine=engine,
        files=(FILE, f"{FILE}.data") if large else (FILE,),
        entries={"main": Entry(FILE, tuple(inputs), tuple(outputs))},
        versions={**versions, "onnxscript": installed("onnxscript") or ""},
        requires={"opset": opset, "ir_version": ir_version, **onnx_quantized.largest_weight(model)},
        modules=products,
    )


def _forget_sources(graph: Any) -> None:
    """Leaves out what the exporter notes of each node: lines and paths of the user's sources, which are nobody's
    business on a board and can be larger than the graph."""
    for node in graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _forget_sources(inner)


def _rename(
    model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Gives graph inputs and outputs the names that users see, and binds the specs to them."""
    graph = model.graph
    names = {value.name: spec.name for value, spec in zip(graph.input, inputs, strict=True)}
    bound_outputs, given = [], set(names.values())
    for spec in outputs:
        current = graph.output[int(spec.binding)].name
        names.setdefault(current, f"{spec.name}__result" if spec.name in given else spec.name)
        bound_outputs.append(replace(spec, binding=names[current]))
    taken = {n for node in graph.node for n in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    for old in sorted((set(names.values()) & taken) - set(names)):
        names[old] = f"{old}__inner"
    _apply_names(graph, names)
    return [replace(spec, binding=spec.name) for spec in inputs], bound_outputs


def _apply_names(graph: Any, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _apply_names(inner, names)
