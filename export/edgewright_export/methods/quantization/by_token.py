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

from device_profiles import Finding
from device_profiles.errors import MethodError

from ..tokens.sdpa import looks_back
from .attention import Site, Watched, attention_sites, scores
from .calls import Call, run
from .graph import finished, twin
from .simulate import OnGridOfRun

_LINEAR = torch.ops.aten.linear.default
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
        share: Of the tokens of calibration inputs that have it, padding left out, before anything is trained.
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
    """Attentions with heads whose queries and keys linear layers make of the same value."""
    nodes = {node.name: node for node in module.graph.nodes}
    found = (site for site in attention_sites(module) if nodes[site.query].meta["val"].dim() == 4)
    return tuple(s for s in found if _made_of(nodes[s.query]) == _made_of(nodes[s.key]))


def by_token(
    module: fx.GraphModule, layers: Collection[str], share: float, given: Sequence[Call]
) -> tuple[fx.GraphModule, tuple[Threshold, ...]]:
    """A graph whose linear layers read their tokens through :class:`BitsByToken`, off, with the attention before to say which.

    Args:
        module: The float graph.
        layers: Products, by the names of their nodes.
        share: Of the tokens that keep all bits.
        given: Calibration inputs, of whose tokens this share does.

    Returns:
        The graph, and the thresholds that it has.

    Raises:
        MethodError: No layer reads tokens that an attention saw.
    """
    found = {one.site.name: one for one in _thresholds(module, share, given)}
    order, writer = list(found), _Writer(module)
    behind: dict[fx.Node, str] = {}
    for node in list(writer.made.graph.nodes):
        before = [behind[read] for read in node.all_input_nodes if read in behind]
        if node.name in found or before:
            behind[node] = node.name if node.name in found else max(before, key=order.index)
        if before and node.name in layers and node.target is _LINEAR:
            writer.write(node, found[behind[node]])
    if not writer.written:
        reason = "no linear layer behind an attention reads [batch, tokens, channels] of its tokens"
        nothing = Finding("", "", "", reason, "leave it out, or exclude fewer layers")
        raise MethodError(f"important_tokens={share} changes nothing", [nothing])
    return finished(writer.made, writer.made.graph), tuple(found[name] for name in order if name in writer.written)


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
    """Puts these modules into a copy of a graph, each once.

    Attributes:
        written: The attentions by which layers read tokens.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        graph = twin(module)
        self.made = fx.GraphModule(module, graph)
        self.written: set[str] = set()
        self._nodes = {node.name: node for node in graph.nodes}
        self._calls: dict[str, fx.Node] = {}

    def write(self, layer: fx.Node, by: Threshold) -> None:
        """In front of a linear layer, where it reads the tokens that the attention saw."""
        x, site = layer.args[0], by.site
        assert isinstance(x, fx.Node)
        query = self._nodes[site.query].meta["val"].shape
        if x.meta["val"].dim() != 3 or list(map(str, x.meta["val"].shape[:2])) != [str(query[0]), str(query[2])]:
            return
        with self.made.graph.inserting_before(layer):
            seen = [self._nodes[name] for name in (site.query, site.key, site.mask) if name is not None]
            important = self._call(f"{site.name}__important", ImportantTokens(by), *seen)
            bits = self._call(f"{x.name}__bits_{site.name}", BitsByToken(), x, important)
        bits.meta = dict(x.meta)
        layer.args = (bits, *layer.args[1:])
        self.written.add(site.name)

    def _call(self, path: str, part: nn.Module, *arguments: fx.Node) -> fx.Node:
        if path not in self._calls:
            self.made.add_module(path, part)
            self._calls[path] = self.made.graph.call_module(path, arguments)
            self._calls[path].meta = {}
        return self._calls[path]


def _made_of(node: fx.Node) -> set[str]:
    """What the linear layers read that a value is made of, and inputs that come to it without one."""
    found: set[str] = set()
    left, seen = [node], {node}
    while left:
        node = left.pop()
        if node.target is _LINEAR or node.op == "placeholder":
            found.add(str(node.args[0] if node.target is _LINEAR else node))
            continue
        left += [read for read in node.all_input_nodes if read not in seen]
        seen.update(node.all_input_nodes)
    return found


def _thresholds(module: fx.GraphModule, share: float, given: Sequence[Call]) -> Iterator[Threshold]:
    sites = self_attentions(module)
    watched = Watched(module, sites)
    seen: list[dict[bool, list[Tensor]]] = [{True: [], False: []} for _ in sites]
    backward = [True for _ in sites]
    for call in given:
        run(watched.module, [call])
        for i, site in enumerate(sites):
            query, key = watched.values[site.query], watched.values[site.key]
            mask = None if site.mask is None else watched.values[site.mask]
            backward[i] = backward[i] and (site.causal or (mask is not None and looks_back(mask)))
            for way in (True, False) if backward[i] else (False,):
                seen[i][way].append(importance(site, query, key, mask, backward=way).flatten())
    for site, parts, back in zip(sites, seen, backward, strict=True):
        tokens = torch.cat(parts[back])
        tokens = tokens[tokens > 0]
        least = _between(tokens, math.ceil(share * len(tokens)))
        yield Threshold(site, back, least, float((tokens >= least).float().mean()) if len(tokens) else 1.0)


def _between(values: Tensor, count: int) -> float:
    """A number between the ``count`` largest values and the next, so that only equal ones are on the verge; 0: all count."""
    order: list[float] = values.sort(descending=True).values.tolist()
    return (order[count - 1] + order[count]) / 2 if count < len(order) else 0.0
