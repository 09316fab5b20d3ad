"""Counts what a captured graph computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgewright_runtime.bundle import Op, Workload

from . import place

aten = torch.ops.aten


def workload_of(program: torch.export.ExportedProgram) -> Workload:
    """The workload of a program with flat inputs, at its largest shapes."""
    sizes = _Sizes(program)
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    zeros = _zeros(program)
    ops = tuple(op for op in (_op(node, sizes, zeros) for node in nodes) if op is not None)
    users = {s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"}
    inputs = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in users]
    results = [n for n in pytree.tree_leaves(program.graph.output_node().args) if isinstance(n, torch.fx.Node)]
    tensors = [*program.state_dict.values(), *program.constants.values()]
    weights = {t.untyped_storage().data_ptr(): t.nbytes for t in tensors if isinstance(t, torch.Tensor)}
    return Workload(
        ops,
        tuple(sizes.shape(n.meta["val"]) for n in inputs),
        tuple(sizes.shape(n.meta["val"]) for n in results),
        sum(weights.values()),
        _peak(nodes, inputs, results, sizes),
    )


class _Sizes:
    """Turns symbolic sizes into their upper bounds."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._upper = {s: r.upper for s, r in program.range_constraints.items()}

    def number(self, size: int | torch.SymInt) -> int:
        if isinstance(size, int):
            return size
        try:
            return int(size.node.expr.xreplace(self._upper))
        except (TypeError, ValueError, OverflowError, AttributeError):
            return int(size.node.hint or 1)

    def shape(self, value: torch.Tensor) -> tuple[int, ...]:
        return tuple(self.number(size) for size in value.shape)

    def bytes(self, value: Any) -> int:
        tensors = [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]
        return sum(math.prod(self.shape(t)) * t.element_size() for t in tensors)


_KINDS = {
    "convolution": "conv",
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "addmm": "linear",
    "linear": "linear",
    "mm": "matmul",
    "bmm": "matmul",
    "matmul": "matmul",
    "scaled_dot_product_attention": "sdpa",
}


def _zeros(program: torch.export.ExportedProgram) -> dict[str, float]:
    """Shares of zeros of the parameters, by the names of their placeholders."""
    names = program.graph_signature.inputs_to_parameters
    shares = {path: float((program.state_dict[path] == 0).float().mean()) for path in set(names.values())}
    return {name: shares[path] for name, path in names.items()}


def _op(node: torch.fx.Node, sizes: _Sizes, zeros: Mapping[str, float]) -> Op | None:
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    operands = [n.meta["val"] for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    results = [t for t in pytree.tree_leaves(node.meta.get("val")) if isinstance(t, torch.Tensor)]
    if not results:
        return None
    name = node.target._schema.name.removeprefix("aten::")
    shapes = tuple(sizes.shape(t) for t in (*operands, results[0]))
    return Op(
        _KINDS.get(name, name),
        shapes,
        tuple(str(t.dtype).removeprefix("torch.") for t in (*operands, results[0])),
        macs_of(_KINDS.get(name, name), shapes),
        sizes.bytes([*operands, *results]),
        max((zeros.get(n.name, 0.0) for n in node.all_input_nodes[1:2]), default=0.0),
        place.module_path(node),
    )


def macs_of(kind: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Multiply-accumulates of an operation; ``kind`` and ``shapes`` as in ``Op``."""
    result = shapes[-1]
    if kind == "conv" and len(shapes) >= 3:
        return math.prod(result) * math.prod(shapes[1][1:])
    if kind in ("linear", "matmul") and len(shapes) >= 3:
        return math.prod(result) * shapes[0][-1]
    if kind == "sdpa" and len(shapes) >= 4:
        query, key = shapes[0], shapes[1]
        return 2 * math.prod(query) * key[-2]
    return 0


def _peak(nodes: list[Any], inputs: list[Any], results: list[Any], sizes: _Sizes) -> int:
    last = {n: i for i, node in enumerate(nodes) for n in node.all_input_nodes}
    last.update({node: len(nodes) for node in results})
    alive = sum(sizes.bytes(n.meta["val"]) for n in inputs)
    peak = alive
    ending: dict[int, list[Any]] = {}
    for node, index in last.items():
        ending.setdefault(index, []).append(node)
    counted = set(inputs)
    for index, node in enumerate(nodes):
        if not _is_view(node):
            alive += sizes.bytes(node.meta.get("val"))
            counted.add(node)
        peak = max(peak, alive)
        for done in ending.get(index, ()):
            if done in counted:
                alive -= sizes.bytes(done.meta.get("val"))
    return peak


def _is_view(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return True
    return any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
