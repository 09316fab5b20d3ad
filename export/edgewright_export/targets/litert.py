"""TFLite files for LiteRT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from device_profiles import Finding
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import installed

from ..annotations import Annotations
from ..quantized_program import Product, is_quantized, unfit
from . import Target, subgraph
from .tflite_batch import is_batch, marked, marker, open_batch

FILE = "model.tflite"
_DYNAMIC = str(-(2**63))
"""How the converter prints a dynamic size."""
_LOCATION = re.compile(r"(?:[^\s:]+:\d+:\d+|loc\([^)]*\)): ")
"""How it prints the source line, which the finding has anyway."""


class LiteRTTarget(Target):
    """``litert_torch.convert``; dtypes of inputs and outputs stay as the module has them."""

    preload = (
        "torch",
        "torch.ao.quantization.fx._decomposed",
        "litert_torch",
        "scipy.cluster",
        "scipy.sparse.csgraph",
        "edgewright_export.warm:program",
    )
    passes = ("topk_values",)
    runs_on_own_grids = False
    bits: ClassVar = {"dynamic": (4,), "float": (4,)}
    grids_of_rows = True
    subgraphs_from = "2.3"
    zeros_from = "2.3"

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
        from . import tflite_sparse

        batch = marker(program) if is_batch(inputs) else None
        if batch is not None:
            module, args = marked(program, inputs, batch)
            _write(module, args, None, inputs, outputs, folder / FILE)
            open_batch(folder / FILE, batch)
        else:
            module, args = program.module(check_guards=False), program.example_inputs[0]
            _write(module, args, dynamic_shapes(inputs), inputs, outputs, folder / FILE)
        left_out = _is_sparse(program) and tflite_sparse.leave_out(folder / FILE)
        lowered = self._lowered(folder, *_bound(folder / FILE, inputs, outputs), {})
        return replace(lowered, leaves_out_zeros=left_out)

    def embed(self, model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], folder: Path) -> Lowered:
        """See :class:`edgewright_export.targets.Target`."""
        from . import tflite_subgraph

        tflite_subgraph.around(model, inputs, outputs).write(folder / FILE)
        return self._lowered(folder, inputs, outputs, subgraph.REQUIRES)

    def _lowered(
        self, folder: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], requires: dict[str, int]
    ) -> Lowered:
        return Lowered(
            folder=folder,
            format=self.format,
            engine=self.engine,
            files=(FILE,),
            entries={"main": Entry(FILE, tuple(inputs), tuple(outputs))},
            versions={"torch": torch.__version__, "litert-torch": installed("litert-torch") or ""},
            requires=requires,
        )

    def unknown(self, error: dict[str, Any]) -> list[str]:
        """See :class:`edgewright_export.targets.Target`."""
        return re.findall(r"Lowering not found: (\w+\.\w+)", error["message"])

    def explain(self, error: dict[str, Any]) -> str:
        """See :class:`edgewright_export.targets.Target`."""
        if _DYNAMIC in error["message"] or "JitTracer" in error["message"]:
            return "litert-torch cannot write this operation with a dynamic dimension; export a fixed size for TFLite"
        return super().explain({**error, "message": _LOCATION.sub("", error["message"])})


def unfit_quantization(program: torch.export.ExportedProgram) -> list[Finding]:
    """What of a quantized program LiteRT 2.3.0's kernels do not do; empty for any other program."""
    return unfit(program.graph, _refused)


def _refused(product: Product) -> tuple[str, str] | None:
    if product.activations != "static" and not product.is_linear:
        reason = f"LiteRT has no convolution of integer weights and {product.activations} activations in this form"
        return reason, "static activations for convolutions"
    if product.activations != "float" and product.group:
        reason = f"LiteRT has no kernel for groups of weights with a scale each and {product.activations} activations"
        return reason, "one scale for each channel, or integer weights alone with float32 activations"
    return None


def _write(
    module: Any, args: Any, dynamic: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], path: Path
) -> None:
    import litert_torch

    if not is_quantized(module.graph):
        litert_torch.convert(module, args, dynamic_shapes=dynamic, enable_x64=True).export(str(path))
        return
    from . import tflite_quantized

    weights = tflite_quantized.unfold(module)
    config = tflite_quantized.config(module)
    litert_torch.convert(module, args, dynamic_shapes=dynamic, enable_x64=True, quant_config=config).export(str(path))
    tflite_quantized.finish(path, weights, inputs, outputs)


def _is_sparse(program: torch.export.ExportedProgram) -> bool:
    """Whether most weights of any convolution of 1 x 1 are zero."""
    weights = (tensor for tensor in program.state_dict.values() if tensor.dim() == 4 and tensor.shape[2:] == (1, 1))
    return any(bool((tensor == 0).float().mean() > 0.5) for tensor in weights)


def _bound(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Binds specs to the names in the file's signature: ``args_0`` and ``output_0`` by position."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), experimental_preserve_all_tensors=False)
    signature = next(iter(interpreter.get_signature_list().values()))
    ins, outs = _by_number(signature["inputs"]), _by_number(signature["outputs"])
    return (
        tuple(replace(spec, binding=name) for spec, name in zip(inputs, ins, strict=True)),
        tuple(replace(spec, binding=outs[int(spec.binding)]) for spec in outputs),
    )


def _by_number(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: int(name.rpartition("_")[2]))


def dynamic_shapes(inputs: Sequence[TensorSpec]) -> Any:
    """Dynamic dimensions as ``torch.export.export`` takes them, one entry an input; None if all are fixed."""
    if not any(spec.bounds for spec in inputs):
        return None
    dims: dict[str, Any] = {}
    shapes = []
    for spec in inputs:
        axes = {}
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                bounds = spec.bounds[size]
                axes[axis] = (
                    dims.setdefault(
                        size, torch.export.Dim(size, min=bounds.min, max=bounds.max) if size.isidentifier() else None
                    )
                    or torch.export.Dim.AUTO
                )
        shapes.append(axes or None)
    return tuple(shapes)
