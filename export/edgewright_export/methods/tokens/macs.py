"""What token dropping saves: counted in captured graphs, and foretold from a workload."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from edgewright_runtime.bundle import Op, Workload
from edgewright_runtime.bundle.manifest import Layer

from ...workload import macs_of


def layers(
    paths: Sequence[str], tokens: int, after: Sequence[int], before_ops: Workload, after_ops: Workload
) -> tuple[Layer, ...]:
    """The blocks before and after, then the rest of the model, which selection belongs to.

    Args:
        paths: Path of each block; of one that is called several times the last call counts.
        tokens: Before the first block.
        after: Tokens behind each block.
        before_ops, after_ops: What the module computes without and with dropping.
    """
    given = dict(zip(paths, (tokens, *after), strict=False))
    rows = [Layer(path, tokens, left, _macs(before_ops, path), _macs(after_ops, path)) for path, left in given.items()]
    rest = [ops.macs - sum(_macs(ops, path) for path in given) for ops in (before_ops, after_ops)]
    return (*rows, Layer("", None, None, *rest))


def _macs(workload: Workload, path: str) -> int:
    return sum(op.macs for op in workload.ops if _is_in(op, path))


def _is_in(op: Op, path: str) -> bool:
    return op.module_path == path or op.module_path.startswith(f"{path}.")


def blocks_of(workload: Workload) -> tuple[tuple[str, ...], int]:
    """Paths of blocks with one self-attention each, and their tokens; ((), 0) if paths do not tell.

    Paths of a stack differ in one number: ``encoder.layer.0.attention`` and ``encoder.layer.1.attention``.
    """
    stacks: dict[tuple[str, int], list[str]] = {}
    for op in workload.ops:
        if op.kind == "sdpa" and op.shapes[0][-2] == op.shapes[1][-2]:
            name = re.sub(r"\.\d+(?=\.|$)", ".#", f".{op.module_path}", count=1)
            block = re.match(r"(?:.*?\.)??\d+(?=\.|$)", op.module_path)
            stacks.setdefault((name, op.shapes[0][-2]), []).append(block[0] if block else "")
    for (_, tokens), paths in sorted(stacks.items(), key=lambda item: -len(item[1]) * item[0][1]):
        if len(paths) > 1 and len(set(paths)) == len(paths) and all(paths):
            return tuple(paths), tokens
    return (), 0


def foretold(workload: Workload, paths: Sequence[str], tokens: int, after: Sequence[int]) -> Workload:
    """The workload with fewer tokens in its blocks; selection itself is left out."""
    given = dict(zip(paths, (tokens, *after), strict=False))
    ops = tuple(
        _scaled(op, tokens, next((n for p, n in given.items() if _is_in(op, p)), tokens)) for op in workload.ops
    )
    return replace(workload, ops=ops)


def _scaled(op: Op, tokens: int, left: int) -> Op:
    if left == tokens:
        return op
    shapes = tuple(tuple(left if size == tokens else size for size in shape) for shape in op.shapes)
    share = _bytes(op, shapes) / max(1, _bytes(op, op.shapes))
    return replace(op, shapes=shapes, macs=macs_of(op.kind, shapes), bytes=round(op.bytes * share))


def _bytes(op: Op, shapes: Sequence[tuple[int, ...]]) -> int:
    sizes = (getattr(torch, dtype).itemsize for dtype in op.dtypes)
    return sum(math.prod(shape) * size for shape, size in zip(shapes, sizes, strict=True))
