"""Writes scaled dot-product attention as matmul, softmax, matmul.

ExecuTorch's XNNPACK partitioner leaves the fused operation to a portable kernel; the explicit
form is delegated.
"""

from __future__ import annotations

import torch

_SDPA = torch.ops.aten.scaled_dot_product_attention.default


def run(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Decomposes every attention without dropout."""
    if not any(node.target is _SDPA for node in program.graph.nodes):
        return program
    written: torch.export.ExportedProgram = program.run_decompositions({_SDPA: _explicit})
    return written


def _explicit(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = _product(query * factor, key.transpose(-2, -1))
    if is_causal:
        allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scores = torch.where(allowed, scores, float("-inf"))
    if attn_mask is not None:
        masked = torch.where(attn_mask, scores, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
        scores = masked
    weights = torch.softmax(scores, dim=-1)
    if dropout_p:
        weights = torch.dropout(weights, dropout_p, True)
    return _product(weights, value)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """As one batch; torch would first copy both to their common shape, which the partitioner does not take over."""
    if a.dim() < 3 or a.shape[:-2] != b.shape[:-2]:
        return torch.matmul(a, b)
    product = torch.bmm(a.flatten(0, -3), b.flatten(0, -3))
    return product.reshape(*a.shape[:-1], b.shape[-1])
