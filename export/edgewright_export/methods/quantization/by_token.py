"""Activations of fewer bits for tokens that matter less.

After Shen et al. 2024, "EdgeQAT: entropy and distribution guided quantization-aware training for the acceleration of
lightweight LLMs on the edge" (only its abstract was at hand): tokens have bits by their importance, and attention to or of
the first token says how important one is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from ..tokens.sdpa import looks_back
from .attention import Site, Watched, attention_sites, scores
from .calls import Call, run
from .graph import finished, twin
from .simulate import OnGridOfRun
from .sites import number

FEW = 4
"""Bits of tokens that matter less."""
_WIDER = 1 + 2**-10
"""So that numbers which lie on a grid of 8 bits are not halfway between two steps, where engines may round either way."""


@dataclass(frozen=True)
class Threshold:
    """Which tokens keep all bits behind an attention.

    Args:
        site: The attention.
        backward: Whether no token sees later ones.
        least: Importance, from which on.
        share: Of the tokens of calibration inputs that have it.
    """

    site: Site
    backward: bool
    least: float
    share: float


def importance(site: Site, query: Tensor, key: Tensor, mask: Tensor | None, *, backward: bool) -> Tensor:
    """How much each token matters, the mean of all heads; [batch, tokens].

    Args:
        site: The attention.
        query: [batch, heads, tokens, width].
        key: Likewise.
        mask: As the attention takes it.
        backward: Whether it is the attention that tokens pay to the first one, which alone needs no later token; else that
            which the first one pays to them.
    """
    if backward:
        return scores(site, query, key, mask).softmax(-1)[..., 0].mean(1)
    first = mask if mask is None or mask.shape[-2] == 1 else mask[..., :1, :]
    return scores(site, query[..., :1, :], key, first).softmax(-1)[..., 0, :].mean(1)


class ImportantTokens(nn.Module):
    """Says which tokens keep all bits.

    Args:
        by: The attention that says so.
    """

    def __init__(self, by: Threshold) -> None:
        super().__init__()
        self._by = by

    def forward(self, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        """1.0 or 0.0, [batch, tokens, 1]."""
        found = importance(self._by.site, query, key, mask, backward=self._by.backward)
        return (found >= self._by.least).to(query.dtype).unsqueeze(-1)


class BitsByToken(nn.Module):
    """Rounds tokens that matter less to 16 steps between their own extremes.

    Args:
        on: Whether it does, or returns what it is given, as in the float graph.
    """

    def __init__(self, on: bool = False) -> None:
        super().__init__()
        self._on, self._grid = on, OnGridOfRun(rows=True, bits=FEW, wider=_WIDER)

    def forward(self, x: Tensor, important: Tensor) -> Tensor:
        """``x`` [batch, tokens, channels]; ``important`` [batch, tokens, 1], 1.0 or 0.0.

        They are multiplied because litert-torch 0.10.0 rounds both operands of a selection to the grid of what reads it.
        """
        return x * important + self._grid(x) * (1 - important) if self._on else x


def self_attentions(module: fx.GraphModule) -> tuple[Site, ...]:
    """Attentions whose tokens look at each other."""
    nodes = {node.name: node for node in module.graph.nodes}
    return tuple(s for s in attention_sites(module) if _tokens(nodes[s.query]) == _tokens(nodes[s.key]))


def by_token(
    module: fx.GraphModule, layers: Collection[str], share: float, given: Sequence[Call]
) -> tuple[fx.GraphModule, tuple[Threshold, ...]]:
    """A graph whose linear layers read their tokens through :class:`BitsByToken`, off, with the attention before to say which.

    Args:
        module: The float graph.
        layers: Products, by the names of their nodes.
        share: Of the tokens that keep all bits.
        given: Calibration inputs, of whose tokens this share does.
    """
    found = {one.site.name: one for one in _thresholds(module, share, given)}
    writer = _Writer(module)
    latest: Threshold | None = None
    for node in list(writer.made.graph.nodes):
        latest = found.get(node.name, latest)
        if latest is not None and node.name in layers and node.target is torch.ops.aten.linear.default:
            writer.write(node, latest)
    return finished(writer.made, writer.made.graph), tuple(found.values())


def is_by_token(made: fx.GraphModule, product: fx.Node) -> bool:
    """Whether a product reads its tokens so."""
    x = product.args[0]
    return isinstance(x, fx.Node) and x.op == "call_module" and isinstance(made.get_submodule(str(x.target)), BitsByToken)


def names_read(made: fx.GraphModule, product: fx.Node) -> tuple[str, ...]:
    """The values of the float graph that a product's input is made of."""
    x = product.args[0]
    assert isinstance(x, fx.Node)
    return tuple(node.name for node in x.all_input_nodes) if is_by_token(made, product) else (x.name,)


def as_read(made: fx.GraphModule, product: fx.Node, values: Mapping[str, Tensor]) -> Tensor:
    """A product's input as a graph that rounds its tokens reads it, of values of the float graph."""
    given = [values[name] for name in names_read(made, product)]
    return BitsByToken(on=True)(*given) if is_by_token(made, product) else given[0]


def switched_on(made: fx.GraphModule) -> None:
    """Lets a graph round its tokens."""
    for name, part in list(made.named_children()):
        if isinstance(part, BitsByToken):
            made.add_module(name, BitsByToken(on=True))


class _Writer:
    """Puts these modules into a copy of a graph, each once."""

    def __init__(self, module: fx.GraphModule) -> None:
        graph = twin(module)
        self.made = fx.GraphModule(module, graph)
        self._nodes = {node.name: node for node in graph.nodes}
        self._calls: dict[str, fx.Node] = {}

    def write(self, product: fx.Node, by: Threshold) -> None:
        """In front of a linear layer, where it reads the tokens that the attention saw."""
        x, site = product.args[0], by.site
        assert isinstance(x, fx.Node)
        if x.meta["val"].dim() != 3 or number(x.meta["val"].shape[1]) != _tokens(self._nodes[site.query]):
            return
        with self.made.graph.inserting_before(product):
            seen = [self._nodes[name] for name in (site.query, site.key, site.mask) if name is not None]
            important = self._call(f"{site.name}__important", ImportantTokens(by), *seen)
            bits = self._call(f"{x.name}__bits_{site.name}", BitsByToken(), x, important)
        bits.meta = dict(x.meta)
        product.args = (bits, *product.args[1:])

    def _call(self, path: str, part: nn.Module, *arguments: fx.Node) -> fx.Node:
        if path not in self._calls:
            self.made.add_module(path, part)
            self._calls[path] = self.made.graph.call_module(path, arguments)
            self._calls[path].meta = {}
        return self._calls[path]


def _tokens(node: fx.Node) -> int:
    return number(node.meta["val"].shape[-2])


def _thresholds(module: fx.GraphModule, share: float, given: Sequence[Call]) -> Iterator[Threshold]:
    sites = self_attentions(module)
    watched, backward = Watched(module, sites), [site.causal for site in sites]
    seen: list[list[Tensor]] = [[] for _ in sites]
    for call in given:
        run(watched.module, [call])
        for i, site in enumerate(sites):
            mask = None if site.mask is None else watched.values[site.mask]
            backward[i] = backward[i] or (not seen[i] and mask is not None and looks_back(mask))
            query, key = watched.values[site.query], watched.values[site.key]
            seen[i].append(importance(site, query, key, mask, backward=backward[i]).flatten())
    for site, back, parts in zip(sites, backward, seen, strict=True):
        tokens = torch.cat(parts)
        least = _between(tokens, math.ceil(share * len(tokens)))
        yield Threshold(site, back, least, float((tokens >= least).float().mean()))


def _between(values: Tensor, count: int) -> float:
    """A number between the ``count`` largest of values from 0 and the next, so that none is on the verge; 0: all count."""
    order: list[float] = values.sort(descending=True).values.tolist()
    return (order[count - 1] + order[count]) / 2 if count < len(order) else 0.0
