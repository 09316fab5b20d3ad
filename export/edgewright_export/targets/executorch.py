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

from . import Target

FILE = "model.pte"


class ExecuTorchTarget(Target):
    """``to_edge_transform_and_lower`` with the XNNPACK partitioner."""

    name = "executorch"
    format = "executorch"
    engine = "executorch"
    extra = "executorch"
    packages = ("executorch",)
    preload = ("torch", "executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
    passes = ("explicit_attention",)

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
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        written = edge.to_executorch()
        with open(folder / FILE, "wb") as file:
            written.write_to_file(file)
        _require_kernels(written)
        return Lowered(
            folder=folder,
            format=self.format,
            engine=self.engine,
            files=(FILE,),
            entries={"main": Entry(FILE, tuple(inputs), tuple(outputs))},
            versions={"torch": torch.__version__, "executorch": installed("executorch") or ""},
            requires={},
        )


def _require_kernels(written: Any) -> None:
    """Every operation that was not delegated needs a kernel in the runtime."""
    from executorch.extension.pybindings.portable_lib import _get_operator_names

    offered = set(_get_operator_names())
    missing = []
    for plan in written.executorch_program.execution_plan:
        for op in plan.operators:
            name = f"{op.name}.{op.overload}" if op.overload else op.name
            if name not in offered:
                missing.append(Finding("", name, "", "ExecuTorch has no kernel for it", "replace this operation"))
    if missing:
        raise LoweringError("the model needs kernels that ExecuTorch does not have", missing)
