"""Finds which operations a converter cannot take, by giving it one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from device_profiles import Finding
from edgewright_runtime.quiet import quiet

from . import place
from .flat import flatten

_SECONDS = 60.0
"""How long the search may take; what is found until then is reported."""
Fails = Callable[[torch.export.ExportedProgram, Any, Any], str | None]


def blame(program: torch.export.ExportedProgram, fails: Fails) -> list[Finding]:
    """All places whose operation fails on its own.

    Args:
        program: The graph that failed as a whole.
        fails: Converts a one-operation program with its input and output specs; returns the
            reason if that fails, else None.

    Returns:
        One finding a place; empty if every operation passes on its own.
    """
    deadline = time.monotonic() + _SECONDS
    reasons: dict[str, str | None] = {}
    found: dict[tuple[str, str, str], Finding] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        key = _signature(node)
        if key not in reasons:
            if time.monotonic() > deadline:
                break
            reasons[key] = _reason(node, fails)
        reason = reasons[key]
        if reason is not None:
            item = place.finding(node, reason, "replace this operation or choose another target (edgewright check)")
            found.setdefault((item.module_path, item.op, item.source_line), item)
    return list(found.values())


def _signature(node: torch.fx.Node) -> str:
    """What decides whether a converter takes an operation: its options, dtypes and ranks, not its sizes."""
    leaves = pytree.tree_leaves((node.args, node.kwargs))
    shown = [_shown(leaf.meta.get("val")) if isinstance(leaf, torch.fx.Node) else repr(leaf) for leaf in leaves]
    return f"{node.target}({', '.join(shown)})"


def _shown(value: Any) -> str:
    return f"{value.dtype}[{value.dim()}]" if isinstance(value, torch.Tensor) else str(type(value))


def _reason(node: torch.fx.Node, fails: Fails) -> str | None:
    try:
        module, tensors = _alone(node)
        with quiet(), torch.no_grad():
            program = torch.export.export(module, tensors, strict=False)
        captured = flatten(program, None)
    except Exception:
        return None
    return fails(captured.program, captured.inputs, captured.outputs)


class _One(torch.nn.Module):
    def __init__(self, target: Any, leaves: list[Any], spec: Any, slots: list[int]) -> None:
        super().__init__()
        self.target, self.leaves, self.spec, self.slots = target, leaves, spec, slots

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.leaves)
        for slot, tensor in zip(self.slots, tensors, strict=True):
            leaves[slot] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result = self.target(*args, **kwargs)
        return tuple(r for r in pytree.tree_leaves(result) if isinstance(r, torch.Tensor))


def _alone(node: torch.fx.Node) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
    slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.fx.Node) and _is_tensor(leaf)]
    tensors = tuple(_sample(leaves[i].meta["val"]) for i in slots)
    fixed = [_number(leaf) for leaf in leaves]
    return _One(node.target, fixed, spec, slots), tensors


def _is_tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _number(leaf: Any) -> Any:
    if not isinstance(leaf, torch.fx.Node):
        return leaf
    value = leaf.meta.get("val")
    return int(value) if isinstance(value, torch.SymInt) else None


def _sample(value: torch.Tensor) -> torch.Tensor:
    sizes = [int(size) if isinstance(size, int) else int(size.node.hint or 2) for size in value.shape]
    if value.dtype.is_floating_point:
        return torch.rand(sizes, generator=torch.Generator().manual_seed(0)).to(value.dtype)
    return torch.zeros(sizes, dtype=value.dtype)
