"""ExecuTorch programs with the XNNPACK delegate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from device_profiles import Finding
from device_profiles.errors import LoweringError
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import installed

from .. import place
from ..annotations import Annotations
from ..quantized_program import Product, aten, unfit
from . import Target, executorch_subgraph, subgraph
from .executorch_views import as_views

FILE = "model.pte"
_GROUP = 32
"""Weights of one scale, of which XNNPACK takes multiples."""
_RECURRENT = "ExecuTorch has no kernel that makes integer weights of recurrent layers float", "keep it in float32"


class ExecuTorchTarget(Target):
    """``to_edge_transform_and_lower`` with the XNNPACK partitioner."""

    preload = (
        "torch",
        "torch.ao.quantization.fx._decomposed",
        "executorch.exir",
        "executorch.backends.xnnpack.partition.xnnpack_partitioner",
        "edgewright_export.warm:program",
        "edgewright_export.warm:executorch",
    )
    passes = ("explicit_attention", "named_constants", "xnnpack_grids")
    bits: ClassVar = {"dynamic": (4,)}
    stored = frozenset({"embedding"})
    grids_of_rows = True
    subgraphs_from = "1.4"

    def check(self, program: torch.export.ExportedProgram, annotations: Annotations) -> list[Finding]:
        """See :class:`edgewright_export.targets.Target`."""
        return super().check(program, annotations) + unfit_quantization(program)

    def convert(
        self,
        program: torch.export.ExportedProgram,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        limits: dict[str, Any],
        folder: Path,
    ) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(
            program,
            transform_passes=[as_views],
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        nodes = _by_kernel(edge.exported_program())
        written = edge.to_executorch()
        with open(folder / FILE, "wb") as file:
            written.write_to_file(file)
        _require_kernels(written, nodes)
        return self._lowered(folder, inputs, outputs)

    def embed(self, model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], folder: Path) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        names = executorch_subgraph.write(model, inputs, folder / FILE)
        given = [replace(spec, binding=str(position)) for position, spec in enumerate(inputs)]
        results = [replace(spec, binding=str(names.index(spec.binding))) for spec in outputs]
        return replace(self._lowered(folder, given, results), requires=subgraph.REQUIRES)

    def _lowered(self, folder: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Lowered:
        return Lowered(
            folder=folder,
            format=self.format,
            engine=self.engine,
            files=(FILE,),
            entries={"main": Entry(FILE, tuple(inputs), tuple(outputs))},
            versions={"torch": torch.__version__, "executorch": installed("executorch") or ""},
            requires={},
        )

    def unknown(self, error: dict[str, Any]) -> list[str]:
        """See :class:`edgewright_export.targets.Target`."""
        names = [finding["op"] for finding in error.get("findings", ())]
        return [name.partition(".")[0].replace("::", ".") for name in names]


def unfit_quantization(program: torch.export.ExportedProgram) -> list[Finding]:
    """What of a quantized program XNNPACK's kernels in ExecuTorch 1.4.1 do not do; empty for any other program."""
    return unfit(program.graph, _refused, recurrent=_RECURRENT)


def _refused(product: Product) -> tuple[str, str] | None:
    if product.activations == "float":
        reason = "XNNPACK in ExecuTorch has integer weights only where the activations are quantized as well"
        return reason, "dynamic activations for this layer, or another target, which stores integer weights"
    if product.activations == "dynamic" and not product.is_linear:
        return "XNNPACK quantizes activations in each run for linear layers", "static activations for convolutions"
    if product.group and (product.activations == "static" or product.bits != 4 or product.group % _GROUP):
        reason = f"XNNPACK has scales for groups of weights with 4 bits, dynamic activations and groups of {_GROUP} n"
        return reason, "one scale for each channel, or such groups"
    if _is_grouped_transposed(product.node):
        return "XNNPACK has no transposed convolution in groups with a scale for each channel", "keep it in float32"
    return None


def _is_grouped_transposed(node: torch.fx.Node) -> bool:
    kinds = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
    return node.target in kinds and node.args[6:7] not in ((), (1,))


def _by_kernel(program: torch.export.ExportedProgram) -> dict[str, torch.fx.Node]:
    """The first node of each operation by its name without overload."""
    found: dict[str, torch.fx.Node] = {}
    for node in program.graph.nodes:
        operation = getattr(node.target, "_op", node.target)
        schema = getattr(operation, "_schema", None)
        if node.op == "call_function" and schema is not None:
            found.setdefault(schema.name, node)
    return found


def _require_kernels(written: Any, nodes: dict[str, torch.fx.Node]) -> None:
    """Every operation that was not delegated needs a kernel in the runtime."""
    from executorch.extension.pybindings.portable_lib import _get_operator_names

    offered = set(_get_operator_names())
    plans = written.executorch_program.execution_plan
    used = {f"{op.name}.{op.overload}" if op.overload else op.name: op.name for plan in plans for op in plan.operators}
    missing = [_missing(full, nodes.get(name)) for full, name in used.items() if full not in offered]
    if missing:
        raise LoweringError("the model needs kernels that ExecuTorch does not have", missing)


def _missing(kernel: str, node: torch.fx.Node | None) -> Finding:
    path, line = (place.module_path(node), place.source_line(node)) if node is not None else ("", "")
    return Finding(
        path, kernel, line, "ExecuTorch has no kernel for it", "replace this operation or choose another target"
    )
