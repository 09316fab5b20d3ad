"""Module to graph: ``torch.export``, and every place where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch

from device_profiles import Finding
from device_profiles.errors import CaptureError
from edgewright_runtime.quiet import quiet

from . import place
from .flat import Captured, flatten
from .reasons import explain
from .state import Example

log = logging.getLogger("edgewright")


def capture(module: torch.nn.Module, example: Example) -> Captured:
    """Captures a module.

    Args:
        module: In evaluation mode, on the CPU.
        example: Inputs that it accepts.

    Raises:
        CaptureError: All places that cannot be captured, each with module path and source line.
    """
    program = exported(module, example)
    _drop_detach(program)
    if any(_mutates(node) for node in program.graph.nodes):
        with quiet():
            program = program.run_decompositions({})
    return flatten(program, example.dynamic_shapes)


def _drop_detach(program: torch.export.ExportedProgram) -> None:
    """Takes out the ``detach_`` behind each constant that ``forward`` makes.

    It alone would send the graph through decompositions, which spell out views for the memory layout of one
    attention kernel and fail with any other.
    """
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.detach_.default):
        if all(user.op != "output" for user in node.users):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()


def exported(module: torch.nn.Module, example: Example) -> torch.export.ExportedProgram:
    """``torch.export.export`` whose failure is a CaptureError with every failing place."""
    program, error = attempt(module, example.args, example.kwargs, example.dynamic_shapes)
    if error is None:
        assert program is not None
        return program
    if example.dynamic_shapes is not None and _is_about_shapes(error):
        raise CaptureError(f"dynamic_shapes do not fit the model: {_constraint(error)}") from error
    places = _failing_places(module, example, error)
    raise CaptureError(f"{type(module).__name__} cannot be captured", places) from error


def attempt(
    module: torch.nn.Module, args: Any, kwargs: Any, dynamic_shapes: Any
) -> tuple[torch.export.ExportedProgram | None, Exception | None]:
    """``torch.export.export``: (program, None) or (None, error); the error is returned so that a later one has no context."""
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False), None
    except Exception as error:
        return None, error


def _is_about_shapes(error: Exception) -> bool:
    text = str(error)
    return "Constraints violated" in text or "dynamic_shapes" in text or "dynamic dim" in text.lower()


def _constraint(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("For more", "The error above"))]
    return "\n  ".join(line.split("For more information")[0].strip() for line in kept[:6])


def _failing_places(module: torch.nn.Module, example: Example, error: Exception) -> list[Finding]:
    """The place of the first failure, then those of the modules that fail on their own."""
    first = _place(module, error)
    found = {(first.module_path, first.source_line): first}
    for path, child, (args, kwargs) in _children_with_inputs(module, example):
        _, inner = attempt(child, args, kwargs, None)
        for item in _inner_places(path, child, args, kwargs, inner) if inner else ():
            found.setdefault((item.module_path, item.source_line), item)
    return list(found.values())


def _inner_places(path: str, child: torch.nn.Module, args: Any, kwargs: Any, error: Exception) -> Iterable[Finding]:
    for item in _failing_places(child, Example(args, kwargs, ""), error):
        inside = ".".join(part for part in (path, item.module_path) if part)
        yield Finding(inside, item.op, item.source_line, item.reason, item.fix)


def _place(module: torch.nn.Module, error: Exception) -> Finding:
    path, line = place.raised_at(error, module)
    reason, fix, op = explain(error)
    return Finding(path, op, line, reason, fix)


def _children_with_inputs(module: torch.nn.Module, example: Example) -> list[tuple[str, torch.nn.Module, Any]]:
    """The nearest modules below that have code of their own, with the inputs of their first call."""
    calls: dict[str, Any] = {}
    handles = [
        child.register_forward_pre_hook(_recorder(calls, path, child), with_kwargs=True)
        for path, child in _nearest(module)
        if not _is_stock_leaf(child)
    ]
    try:
        with quiet(), torch.no_grad():
            module(*example.args, **example.kwargs)
    except Exception as error:
        log.debug("the model does not run eagerly either: %s", error)
    finally:
        for handle in handles:
            handle.remove()
    return [(path, child, inputs) for path, (child, inputs) in calls.items()]


def _nearest(module: torch.nn.Module, prefix: str = "") -> Iterable[tuple[str, torch.nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield from _nearest(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _is_stock_leaf(module: torch.nn.Module) -> bool:
    return not list(module.children()) and type(module).__module__.startswith("torch.nn")


def _recorder(calls: dict[str, Any], path: str, module: torch.nn.Module) -> Callable[..., None]:
    def hook(_: torch.nn.Module, args: Any, kwargs: Any) -> None:
        calls.setdefault(path, (module, (args, kwargs)))

    return hook


def _mutates(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable
