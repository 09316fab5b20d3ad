"""What a user may pass as a model, and whether it is fit for export."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from device_profiles import Finding
from device_profiles.errors import CaptureError, OptionError
from edgewright_runtime.quiet import quiet

_KINDS = "a torch.nn.Module, a torch.export.ExportedProgram, or a path to a .pt2 or .onnx file"


def resolve(model: Any) -> torch.nn.Module | torch.export.ExportedProgram | Path:
    """Loads a ``.pt2`` path; passes the rest through once it is known to be a model.

    Returns:
        A module fit for export, an exported program, or the path of an ``.onnx`` file.

    Raises:
        OptionError: Not a model, or no such file.
        CaptureError: The module is not fit for export; all reasons at once.
    """
    if isinstance(model, (str, Path)):
        return _file(Path(model))
    if isinstance(model, torch.export.ExportedProgram):
        return model
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise CaptureError(
            "the model is a TorchScript module, which torch.export cannot read; pass the Python module it was made from"
        )
    if not isinstance(model, torch.nn.Module):
        hint = "; pass an instance, not the class" if isinstance(model, type) else ""
        raise OptionError(f"model is a {type(model).__name__}; expected {_KINDS}{hint}")
    problems = list(_unfit(model))
    if problems:
        raise CaptureError(f"{type(model).__name__} is not fit for export", problems)
    return model


def name_of(model: Any) -> str:
    """Kebab-case name: the file's stem or the class name."""
    if isinstance(model, (str, Path)):
        return Path(model).stem
    if isinstance(model, torch.export.ExportedProgram):
        return "program"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", type(model).__name__)
    return re.sub(r"-+", "-", words).strip("-").lower() or "model"


def _file(path: Path) -> torch.export.ExportedProgram | Path:
    if not path.is_file():
        raise OptionError(f"no model file at {path}")
    if path.suffix == ".onnx":
        return path
    if path.suffix != ".pt2":
        raise OptionError(f"{path.name} is neither .pt2 (torch.export.save) nor .onnx; expected {_KINDS}")
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise CaptureError(f"{path} is not a program that torch {torch.__version__} can load: {first}") from error


def _unfit(model: torch.nn.Module) -> Iterator[Finding]:
    if model.training:
        yield Finding("", "", "", "the model is in training mode", "call model.eval() first")
    else:
        for name, module in model.named_modules():
            if module.training and (next(module.children(), None) is None):
                yield Finding(name, "", "", f"this {type(module).__name__} is in training mode", "call model.eval()")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        reason, fix = _unfit_tensor(tensor)
        if reason:
            yield Finding(name, "", "", reason, fix)


def _unfit_tensor(tensor: torch.Tensor) -> tuple[str, str]:
    if tensor.device.type == "meta":
        return "the tensor is on the meta device: it has no values", "load the weights first"
    if tensor.device.type != "cpu":
        return f"the tensor is on {tensor.device}", "call model.cpu() first"
    if tensor.is_complex():
        return f"the dtype {tensor.dtype} is complex; no edge format has complex tensors", "split it into two real ones"
    if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
        count = int(torch.isnan(tensor).sum())
        return f"{count} of {tensor.numel()} values are NaN", "load a checkpoint whose training did not diverge"
    return "", ""
