"""Gives a captured graph flat, named, typed inputs and outputs."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import InputKind, OutputKind, OutputSpec, TensorArgument
from torch.utils import _pytree as pytree

from device_profiles import Finding
from device_profiles.errors import CaptureError
from edgewright_runtime.bundle import Bounds, TensorSpec
from edgewright_runtime.quiet import quiet

log = logging.getLogger("edgewright")


@dataclass(frozen=True)
class Captured:
    """A graph with flat inputs and outputs.

    Args:
        program: Takes and returns tuples of tensors; nothing in it is mutated.
        inputs: Names, dtypes and shapes in the program's order.
        outputs: Likewise; ``binding`` is the position in the program's tuple of results.
        restore: Turns the list of result tensors into what the module returns.
        select: Turns (args, kwargs) of the module into the list of input tensors.
        place: Puts a list of input tensors into (args, kwargs) of the module.
        collect: Turns what the module returns into the list of result tensors.
        dropped: Results that are plain Python values, one line each.
    """

    program: torch.export.ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    restore: Callable[[list[Any]], Any]
    select: Callable[[tuple[Any, ...], dict[str, Any]], list[torch.Tensor]]
    place: Callable[[list[torch.Tensor], tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    collect: Callable[[Any], list[torch.Tensor]]
    dropped: tuple[str, ...] = ()


def flatten(program: torch.export.ExportedProgram, dynamic_shapes: Any) -> Captured:
    """Gives a program flat tensor inputs and outputs.

    Raises:
        CaptureError: It mutates its inputs or buffers, or has no tensor result.
    """
    problems = _stateful(program)
    if problems:
        raise CaptureError("the model changes what it should only read", problems)
    in_spec, out_spec = program.call_spec.in_spec, program.call_spec.out_spec
    kept_in = [i for i, s in enumerate(_user_inputs(program)) if isinstance(s.arg, TensorArgument)]
    outs = [s.arg for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    names = output_names(out_spec, len(outs))
    kept_out = [i for i, arg in enumerate(outs) if isinstance(arg, TensorArgument)]
    if not kept_out:
        raise CaptureError("the model returns no tensor; return at least one from forward")
    unique = list(dict.fromkeys(outs[i].name for i in kept_out))
    position = {name: i for i, name in enumerate(unique)}
    flat = with_outputs(program, kept_in, unique)
    symbols = _symbol_names(flat, dynamic_shapes)
    inputs = tuple(_input_specs(flat, symbols))
    outputs = tuple(
        tensor_spec(names[i], _value(flat, outs[i].name), symbols, str(position[outs[i].name])) for i in kept_out
    )
    constants = {i: getattr(arg, "value", None) for i, arg in enumerate(outs) if i not in kept_out}
    return Captured(
        flat,
        inputs,
        outputs,
        _restorer(out_spec, len(outs), kept_out, constants),
        _selector(in_spec, kept_in),
        _placer(in_spec, kept_in),
        lambda result: [pytree.tree_leaves(result, is_leaf=lambda x: x is None)[i] for i in kept_out],
        tuple(
            f"output {names[i]} is the Python value {v!r}, not a tensor: left out"
            for i, v in constants.items()
            if v is not None
        ),
    )


def _stateful(program: torch.export.ExportedProgram) -> list[Finding]:
    signature = program.graph_signature
    found = [
        Finding(
            buffer.rpartition(".")[0], "", "", f"forward changes the buffer {buffer}", "return the new value instead"
        )
        for buffer in signature.buffers_to_mutate.values()
    ]
    return found + [
        Finding("", "", "", f"forward changes its input {name}", f"work on {name}.clone()")
        for name in signature.user_inputs_to_mutate.values()
    ]


def _user_inputs(program: torch.export.ExportedProgram) -> list[Any]:
    return [s for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]


def _value(program: torch.export.ExportedProgram, name: str) -> torch.Tensor:
    value: torch.Tensor = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    return value


def with_outputs(
    program: torch.export.ExportedProgram, kept_in: list[int], results: list[str]
) -> torch.export.ExportedProgram:
    """The same graph with flat inputs and results.

    Args:
        program: Any program.
        kept_in: Positions of the user inputs that stay.
        results: Names of the nodes that it returns.
    """
    with quiet():
        graph_module = copy.deepcopy(program.graph_module)
    for made, original in zip(graph_module.graph.nodes, program.graph.nodes, strict=True):
        made.name = original.name
    by_name = {node.name: node for node in graph_module.graph.nodes}
    signature = copy.deepcopy(program.graph_signature)
    users = [s for s in signature.input_specs if s.kind == InputKind.USER_INPUT]
    dropped = {users[i].arg.name for i in range(len(users)) if i not in kept_in}
    signature.input_specs = [s for s in signature.input_specs if s.arg.name not in dropped]
    signature.output_specs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name), None) for name in results]
    output = graph_module.graph.output_node()
    output.args = (tuple(by_name[name] for name in results),)
    output.meta["val"] = tuple(by_name[name].meta["val"] for name in results)
    for name in dropped:
        if not by_name[name].users:
            graph_module.graph.erase_node(by_name[name])
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    names = [s.arg.name for s in signature.input_specs if s.kind == InputKind.USER_INPUT]
    call = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_flatten((tuple(range(len(kept_in))), {}))[1],
        out_spec=pytree.tree_flatten(tuple(range(len(results))))[1],
        forward_arg_names=names,
    )
    example = (
        pytree.tree_leaves(program.example_inputs, is_leaf=lambda x: x is None) if program.example_inputs else None
    )
    flat = torch.export.ExportedProgram(
        root=graph_module,
        graph=graph_module.graph,
        graph_signature=signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=[ModuleCallEntry("", call)],
        example_inputs=None if example is None else (tuple(example[i] for i in kept_in), {}),
        constants=program.constants,
        verifiers=program.verifiers,
    )
    flat._guards_code = []  # they name inputs by their places in the old arguments
    return flat


def _restorer(out_spec: Any, count: int, kept: list[int], constants: dict[int, Any]) -> Callable[[list[Any]], Any]:
    def restore(tensors: list[Any]) -> Any:
        leaves = [constants.get(i) for i in range(count)]
        for i, tensor in zip(kept, tensors, strict=True):
            leaves[i] = tensor
        return pytree.tree_unflatten(leaves, out_spec)

    return restore


def _in_order(in_spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    named = in_spec.child(1)
    order = named.context if named.num_children else []
    return pytree.tree_flatten((args, {name: kwargs[name] for name in order}), is_leaf=lambda x: x is None)


def _selector(in_spec: Any, kept: list[int]) -> Callable[[tuple[Any, ...], dict[str, Any]], list[torch.Tensor]]:
    def select(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        leaves, _ = _in_order(in_spec, args, kwargs)
        return [leaves[i] for i in kept]

    return select


def _placer(in_spec: Any, kept: list[int]) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def put(tensors: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, spec = _in_order(in_spec, args, kwargs)
        for i, tensor in zip(kept, tensors, strict=True):
            leaves[i] = tensor
        return pytree.tree_unflatten(leaves, spec)

    return put


def output_names(out_spec: Any, count: int) -> list[str]:
    """Readable unique names of the flattened results: dict keys, else ``output`` or ``output_<i>``."""
    try:
        tree = pytree.tree_unflatten(list(range(count)), out_spec)
        paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
        names = [_path_name(path, count) for path in paths]
    except Exception as error:
        log.debug("results without key paths: %s", error)
        names = [f"output_{i}" for i in range(count)]
    return _unique(names)


def _path_name(path: tuple[Any, ...], count: int) -> str:
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    if not parts:
        return "output"
    if parts[0].isdigit():
        parts = ["output", *parts]
    return re.sub(r"\W+", "_", "_".join(parts)).strip("_") or "output"


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        result.append(name if not seen[name] else f"{name}_{seen[name]}")
    return result


def _input_specs(program: torch.export.ExportedProgram, symbols: dict[str, str]) -> Iterable[TensorSpec]:
    for position, spec in enumerate(_user_inputs(program)):
        name = spec.arg.name
        yield tensor_spec(name, _value(program, name), symbols, str(position), program.range_constraints)


def tensor_spec(
    name: str, value: torch.Tensor, symbols: dict[str, str], binding: str, ranges: Any = None
) -> TensorSpec:
    """The spec of a graph value; ``symbols`` renames torch's symbols, ``ranges`` bounds them."""
    shape: list[int | str] = []
    bounds: dict[str, Bounds] = {}
    for size in value.shape:
        if isinstance(size, int):
            shape.append(size)
            continue
        text = _renamed(str(size), symbols)
        shape.append(text)
        found = (ranges or {}).get(size.node.expr)
        if found is not None:
            bounds[text] = Bounds(_finite(found.lower, 0), _finite(found.upper, 2**31 - 1))
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(shape), bounds, binding)


def _finite(value: Any, otherwise: int) -> int:
    try:
        return min(int(value), 2**31 - 1)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return otherwise


def _renamed(text: str, symbols: dict[str, str]) -> str:
    return re.sub(r"\bs\d+\b", lambda m: symbols.get(m[0], m[0]), text)


def _symbol_names(program: torch.export.ExportedProgram, dynamic_shapes: Any) -> dict[str, str]:
    """The user's names of dynamic dimensions by torch's symbols."""
    if not isinstance(dynamic_shapes, (dict, tuple, list)):
        return {}
    inputs = [_value(program, s.arg.name) for s in _user_inputs(program)]
    by_name = {s.arg.name: v for s, v in zip(_user_inputs(program), inputs, strict=True)}
    pairs = (
        [(by_name.get(k), v) for k, v in dynamic_shapes.items()]
        if isinstance(dynamic_shapes, dict)
        else list(zip(inputs, dynamic_shapes, strict=False))
    )
    names = {}
    for value, dims in pairs:
        entries = dims.items() if isinstance(dims, dict) else enumerate(dims) if isinstance(dims, (tuple, list)) else ()
        for axis, dim in entries:
            if value is not None and hasattr(dim, "__name__") and isinstance(axis, int):
                names[str(value.shape[axis])] = dim.__name__
    return names
