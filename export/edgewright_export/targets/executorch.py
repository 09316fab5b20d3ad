"""ExecuTorch programs with the XNNPACK delegate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from device_profiles import Finding
from device_profiles.errors import LoweringError
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import installed

from .. import place
from . import Target
from .executorch_views import as_views

FILE = "model.pte"


class ExecuTorchTarget(Target):
    """``to_edge_transform_and_lower`` with the XNNPACK partitioner."""

    preload = ("torch", "executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
    passes = ("explicit_attention", "named_constants")

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
