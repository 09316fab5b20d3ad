"""From the user's model to a captured state: example inputs, a first run, methods, capture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from device_profiles import Finding
from device_profiles.errors import CaptureError, MethodError, OptionError
from edgewright_runtime.quiet import quiet

from . import calibration, place
from . import example as examples
from .capture import capture
from .flat import flatten
from .methods import Method
from .state import Context, Example, State

progress = logging.getLogger("edgewright.progress")


def first_state(model: Any, example_inputs: Any, dynamic_shapes: Any) -> State:
    """The state before any method; the model has run once on its example inputs.

    Args:
        model: What ``model.resolve`` returned, but for an ONNX path.
        example_inputs: As the user gave them.
        dynamic_shapes: As the user gave them.

    Raises:
        CaptureError: No example inputs, or the model fails on them.
        OptionError: The example inputs are nothing a forward could take.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return _from_program(model, example_inputs, dynamic_shapes)
    if example_inputs is None:
        example = examples.inferred(model, dynamic_shapes)
    else:
        example = examples.given(example_inputs, dynamic_shapes)
    _refuse_complex(example)
    _run_once(model, example)
    return State(model, example, model)


def captured(state: State, methods: Sequence[Method], ctx: Context) -> State:
    """Applies the methods, then captures.

    Raises:
        MethodError: A method does not fit, or lacks what it needs.
        OptionError: What was passed as ``calibration=`` cannot be used.
        CaptureError: The module cannot be captured.
    """
    ctx = replace(ctx, calibration=calibration.read(ctx.calibration))
    for method in methods:
        progress.info("applying %s", method.name)
        missing = [need for need in sorted(method.needs) if getattr(ctx, need) is None]
        if missing:
            raise MethodError(f"{method.name} needs {', '.join(f'{need}=' for need in missing)}")
        problems = method.check(state, ctx)
        if problems:
            raise MethodError(f"{method.name} cannot be applied", problems)
        state = method.apply(state, ctx)
    if state.captured is not None:
        return state
    progress.info("capturing the graph")
    return replace(state, captured=capture(state.module, state.example))


def _from_program(program: torch.export.ExportedProgram, example_inputs: Any, dynamic_shapes: Any) -> State:
    if dynamic_shapes is not None:
        raise OptionError("dynamic_shapes are fixed in an exported program; give them to torch.export.export")
    if example_inputs is not None:
        example = examples.given(example_inputs, None)
    elif program.example_inputs is not None:
        args, kwargs = program.example_inputs
        example = Example(args, kwargs, "the program's own example inputs")
    else:
        raise CaptureError("the program holds no example inputs; pass example_inputs=")
    with quiet():
        module = program.module(check_guards=False)
    return State(module, example, module, captured=flatten(program, None))


def _refuse_complex(example: Example) -> None:
    leaves = torch.utils._pytree.tree_leaves((example.args, example.kwargs))
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and leaf.is_complex():
            raise OptionError(
                f"an example input is {leaf.dtype}; no edge format has complex tensors, pass real and imaginary parts"
            )
        if isinstance(leaf, torch.Tensor) and leaf.device.type != "cpu":
            raise OptionError(f"an example input is on {leaf.device}; pass it with .cpu()")


def _run_once(model: torch.nn.Module, example: Example) -> None:
    failure: Exception | None = None
    try:
        with torch.no_grad(), quiet():
            args, kwargs = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, (example.args, example.kwargs))
            model(*args, **kwargs)
    except Exception as error:
        failure = error
    if failure is not None:
        path, line = place.raised_at(failure, model)
        first = str(failure).strip().partition("\n")[0][:120]
        fix = "pass example_inputs= that the model accepts"
        found = Finding(path, "", line, f"{type(failure).__name__}: {first}", fix)
        raise CaptureError(
            f"{type(model).__name__} does not run on the inputs from {example.source}", [found]
        ) from failure
