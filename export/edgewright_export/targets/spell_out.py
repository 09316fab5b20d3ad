"""Writes operations that a converter does not know with operations that it may know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch._decomp import decomposition_table

from device_profiles import Finding
from edgewright_runtime.quiet import quiet

aten = torch.ops.aten
log = logging.getLogger("edgewright")
_KEPT = (aten.scaled_dot_product_attention.default,)
"""Composite operations that the targets fuse or spell out themselves."""


def spell_out(program: torch.export.ExportedProgram, names: Iterable[str]) -> torch.export.ExportedProgram | None:
    """Decomposes operations by our own table, then by torch's.

    Args:
        program: Flat inputs and outputs.
        names: Namespace and operation, for example ``aten.fmax``.

    Returns:
        The program without them, None if one of them cannot be spelled out.
    """
    wanted = sorted(set(names))
    tables = [_table(name) for name in wanted]
    if not tables or not all(tables):
        return None
    table = _PRIMITIVE | {overload: call for each in tables for overload, call in each.items()}
    if not any(node.target in table for node in program.graph.nodes):
        table = {**_usual(), **table}
    try:
        with quiet(), torch.no_grad():
            spelled: torch.export.ExportedProgram = program.run_decompositions(table)
    except Exception as error:
        log.debug("%s cannot be spelled out: %s", ", ".join(wanted), error)
        return None
    if [node.target for node in spelled.graph.nodes] == [node.target for node in program.graph.nodes]:
        return None
    log.info("spelled out for the converter, which does not know it: %s", ", ".join(wanted))
    return spelled


def replaceable(findings: Iterable[Finding]) -> list[str]:
    """Operations of findings that our own table spells out, for example ``aten.floor_divide``."""
    own = {operation(overload) for overload in _OWN}
    return sorted(own & {".".join(finding.op.replace("::", ".").split(".")[:2]) for finding in findings})


def operation(target: Any) -> str:
    """Namespace and operation of a graph target, ``""`` if it is none of torch's operators."""
    schema = getattr(target, "_schema", None)
    return "" if schema is None else schema.name.replace("::", ".")


def _table(name: str) -> dict[Any, Callable[..., Any]]:
    namespace, _, short = name.partition(".")
    packet = getattr(getattr(torch.ops, namespace), short, None)
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []
    own = {overload: _OWN[overload] for overload in overloads if overload in _OWN}
    usable = (overload for overload in overloads if overload in decomposition_table and not _writes(overload))
    return own or {overload: decomposition_table[overload] for overload in usable}


def _usual() -> dict[Any, Callable[..., Any]]:
    """Torch's table of core operators, for what only appears inside a composite operation."""
    usual = dict(torch.export.default_decompositions().materialize())
    return {overload: call for overload, call in usual.items() if overload not in _KEPT}


def _writes(overload: Any) -> bool:
    return bool(overload._schema.is_mutable)


def _fmax(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(a), b, torch.where(torch.isnan(b), a, torch.maximum(a, b)))


def _fmin(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(a), b, torch.where(torch.isnan(b), a, torch.minimum(a, b)))


def _signbit(x: torch.Tensor) -> torch.Tensor:
    """The reciprocal tells a negative zero."""
    return (x < 0) | (torch.reciprocal(x) < 0) if x.is_floating_point() else x < 0


def _copysign(x: torch.Tensor, sign: Any) -> torch.Tensor:
    if not isinstance(sign, torch.Tensor):
        sign = torch.full((), float(sign))
    size = torch.abs(x if x.is_floating_point() else x.to(torch.get_default_dtype()))
    return torch.where(_signbit(sign), -size, size)


def _exp2(x: torch.Tensor) -> torch.Tensor:
    return torch.pow(2.0, x)


def _addbmm(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1) -> torch.Tensor:
    product = torch.bmm(a, b).sum(0)
    return (x if beta == 1 else x * beta) + (product if alpha == 1 else product * alpha)


def _divide(a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    if not (isinstance(a, torch.Tensor) and a.is_floating_point()):
        return NotImplemented
    if rounding_mode is None:
        return a / b
    if rounding_mode == "trunc":
        quotient = a / b
        return torch.where(quotient < 0, torch.ceil(quotient), torch.floor(quotient))
    return _floor_divide(a, b)


def _floor_divide(a: Any, b: Any) -> Any:
    """As torch does it: the rest is taken off first, so that 1.0 // 0.1 is 9."""
    if not (isinstance(a, torch.Tensor) and a.is_floating_point()):
        return NotImplemented
    rest = torch.remainder(a, b)
    quotient = (a - rest) / b
    below = torch.floor(quotient)
    exact = torch.where(quotient - below > 0.5, below + 1, below)
    return torch.where(torch.eq(torch.zeros_like(a) + b, 0), a / b, exact)


def _logical_xor(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.ne((a != 0).to(torch.int32), (b != 0).to(torch.int32))


def _ordered(x: torch.Tensor, k: int, dim: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """LiteRT has topk along the last dimension only."""
    if dim in (-1, x.dim() - 1):
        return torch.topk(x, k, -1, largest=largest, sorted=True)
    values, indices = torch.topk(x.transpose(dim, -1), k, -1, largest=largest, sorted=True)
    return values.transpose(dim, -1), indices.transpose(dim, -1)


def _kthvalue(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    values, indices = _ordered(x, k, dim, False)
    values, indices = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


_PRIMITIVE: dict[Any, Callable[..., Any]] = {
    aten.copysign.Scalar: _copysign,
    aten.copysign.Tensor: _copysign,
    aten.fmax.default: _fmax,
    aten.fmin.default: _fmin,
    aten.signbit.default: _signbit,
    torch.ops.prims.fmax.default: _fmax,
    torch.ops.prims.fmin.default: _fmin,
    torch.ops.prims.signbit.default: _signbit,
}
"""What torch's own table turns into primitives that no converter knows."""
_OWN: dict[Any, Callable[..., Any]] = {
    **_PRIMITIVE,
    aten.addbmm.default: _addbmm,
    aten.div.Scalar_mode: _divide,
    aten.div.Tensor_mode: _divide,
    aten.exp2.default: _exp2,
    aten.floor_divide.Scalar: _floor_divide,
    aten.floor_divide.default: _floor_divide,
    aten.kthvalue.default: _kthvalue,
    aten.logical_xor.default: _logical_xor,
}
