"""Keeps attention what it is in the float graph while a quantized one learns.

After Shen et al. 2024, "EdgeQAT: entropy and distribution guided quantization-aware training for the acceleration of
lightweight LLMs on the edge": quantized queries and keys lose entropy, and attention maps lose their shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .graph import tapped

_SDPA = torch.ops.aten.scaled_dot_product_attention.default
_TINY = 1e-6


@dataclass(frozen=True)
class Site:
    """One attention; nodes by their names.

    Args:
        name: The attention itself.
        query: [batch, heads, tokens, width].
        key: Likewise.
        mask: Added to the scores, or which of them count; None: neither.
        causal: Whether no token looks at later ones.
        scale: Of the scores; None: the root of the width.
    """

    name: str
    query: str
    key: str
    mask: str | None
    causal: bool
    scale: float | None


def attention_sites(module: fx.GraphModule) -> tuple[Site, ...]:
    """All attentions of a graph."""
    return tuple(_site(node) for node in module.graph.nodes if node.target is _SDPA)


def _site(node: fx.Node) -> Site:
    given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), node.args, strict=False))
    given |= node.kwargs
    query, key, mask = given["query"], given["key"], given.get("attn_mask")
    assert isinstance(query, fx.Node) and isinstance(key, fx.Node)
    scale = given.get("scale")
    return Site(
        name=node.name,
        query=query.name,
        key=key.name,
        mask=mask.name if isinstance(mask, fx.Node) else None,
        causal=bool(given.get("is_causal")),
        scale=scale if isinstance(scale, float) else None,
    )


class Watched:
    """A graph whose queries and keys are looked at.

    Args:
        module: The graph.
        sites: Its attentions.
    """

    def __init__(self, module: fx.GraphModule, sites: tuple[Site, ...]) -> None:
        self.values: dict[str, Any] = {}
        names = {name for site in sites for name in (site.query, site.key, site.mask) if name is not None}
        self.module = tapped(module, names, self.values.__setitem__)


def apart(site: Site, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> Tensor:
    """How far one attention of a student is from its teacher's, of entropy and of distribution."""
    entropies = [entropy(student[name]) - entropy(teacher[name]) for name in (site.query, site.key)]
    ours, theirs = (attention_map(site, values) for values in (student, teacher))
    lost = sum((e.square().mean() for e in entropies), torch.zeros(()))
    return lost + divergence(ours, theirs) + (1 - torch.cosine_similarity(ours.exp(), theirs.exp(), -1)).mean()


def entropy(values: Tensor) -> Tensor:
    """Of a normal distribution with the variance of each head's values, nats; [heads]."""
    axes = (0, *range(2, values.dim()))
    return 0.5 * (2 * math.pi * math.e * values.var(axes, correction=0).clamp(min=_TINY)).log()


def attention_map(site: Site, values: Mapping[str, Any]) -> Tensor:
    """Logarithms of the attention that each token pays, [batch, heads, tokens, tokens]."""
    mask = None if site.mask is None else values[site.mask]
    found = scores(site, values[site.query], values[site.key], mask)
    logarithms: Tensor = found.log_softmax(-1).clamp(min=math.log(_TINY))
    return logarithms


def scores(site: Site, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """What softmax makes attention of, [batch, heads, queries, tokens]; -inf for tokens that are not seen.

    Args:
        query: [batch, heads, queries, width], from the first token on.
        key: [batch, heads or a divisor, tokens, width].
        mask: Of the same queries.
    """
    if key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    found = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if site.scale is None else site.scale)
    if site.causal:
        allowed = torch.ones(found.shape[-2:], dtype=torch.bool).tril()
        found = found.masked_fill(~allowed, -math.inf)
    if mask is not None:
        found = found.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else found + mask
    return found


def divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Kullback-Leibler divergence of maps given as logarithms, the mean of all tokens."""
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()
