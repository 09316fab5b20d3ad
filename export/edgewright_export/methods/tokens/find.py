"""Finds a transformer by what it computes: blocks one behind the other, each with one self-attention inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from device_profiles import Finding
from edgewright_runtime.quiet import quiet

from ...state import Example
from .sdpa import ATTENTION, AttentionCall, looks_back

_FUSED = ("multi_head_attention_forward", "_transformer_encoder_layer_fwd", "_native_multi_head_attention")
_FIX = "token dropping needs blocks around torch.nn.functional.scaled_dot_product_attention"


@dataclass(frozen=True)
class Transformer:
    """Blocks that hand on one hidden state, [batch, tokens, width].

    Args:
        paths: Path of each block in the order of their calls; a shared one stands more than once.
        tokens: How many there are.
        width: Of each token.
        causal: A token sees those before it alone.
    """

    paths: tuple[str, ...]
    tokens: int
    width: int
    causal: bool


def find(module: nn.Module, example: Example) -> Transformer | Finding:
    """The transformer of a module, the one with most tokens times width times blocks if there are several.

    Args:
        module: In evaluation mode.
        example: Inputs that it accepts.

    Returns:
        The transformer, or what was seen instead of one.
    """
    watch = _Watch()
    with ExitStack() as hooks, torch.no_grad(), quiet():
        for path, child in module.named_modules():
            hooks.enter_context(child.register_forward_pre_hook(watch.entered(path), with_kwargs=True))
            hooks.enter_context(child.register_forward_hook(watch.left))
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (example.args, example.kwargs))
        with watch:
            module(*args, **kwargs)
    found = [_transformer(run) for run in _runs(watch.calls)]
    return max(found, key=lambda t: t.tokens * t.width * len(t.paths)) if found else _seen_instead(watch)


def hidden_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The first tensor that a module is called with."""
    given = (*args, *kwargs.values())
    return next((value for value in given if isinstance(value, Tensor)), None)


def first_of(output: Any) -> Any:
    """The hidden state that a block returns, alone or before other things."""
    return output[0] if isinstance(output, (tuple, list)) and output else output


@dataclass(frozen=True)
class _Attention:
    """One attention: how many tokens look at how many, and whether none looks ahead."""

    queries: int
    keys: int
    causal: bool


@dataclass
class _Call:
    """One call of a module."""

    path: str
    parent: _Call | None
    hidden: Tensor | None
    output: Any = None
    attentions: list[_Attention] = field(default_factory=list)

    @property
    def is_block(self) -> bool:
        """Hidden state in, hidden state of the same shape out, one self-attention in between."""
        if self.hidden is None or self.hidden.dim() != 3 or not self.hidden.is_floating_point():
            return False
        tokens = self.hidden.shape[1]
        own = [a for a in self.attentions if a.queries == a.keys == tokens]
        return len(own) == 1 and isinstance(self.output, Tensor) and self.output.shape == self.hidden.shape

    @property
    def is_outermost_block(self) -> bool:
        above = self.parent
        while above is not None:
            if above.is_block:
                return False
            above = above.parent
        return self.is_block


class _Watch(TorchFunctionMode):
    """Keeps the calls of modules and the attentions in each."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.softmax: set[str] = set()
        self.fused: set[str] = set()
        self._open: list[_Call] = []

    def entered(self, path: str) -> Any:
        """Hook for the begin of a call."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = _Call(path, self._open[-1] if self._open else None, hidden_of(args, kwargs))
            self.calls.append(call)
            self._open.append(call)

        return hook

    def left(self, _: nn.Module, args: Any, output: Any) -> None:
        """Hook for the end of a call."""
        self._open.pop().output = first_of(output)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        where = self._open[-1].path if self._open else ""
        if function is ATTENTION:
            seen = _attention(AttentionCall(*args, **kwargs))
            for call in self._open:
                call.attentions.append(seen)
        elif name == "softmax" and result.dim() > 2 and result.shape[-1] == result.shape[-2] > 1:
            self.softmax.add(where)
        elif name in _FUSED:
            self.fused.add(where)
        return result


def _attention(call: AttentionCall) -> _Attention:
    queries, keys, mask = call.query.shape[-2], call.key.shape[-2], call.attn_mask
    return _Attention(queries, keys, call.is_causal or (mask is not None and looks_back(mask)))


def _runs(calls: list[_Call]) -> Iterator[list[_Call]]:
    """Two or more blocks, each called with what the one before returned."""
    run: list[_Call] = []
    for call in (call for call in calls if call.is_outermost_block):
        if run and call.hidden is not run[-1].output:
            if len(run) > 1:
                yield run
            run = []
        run.append(call)
    if len(run) > 1:
        yield run


def _transformer(run: list[_Call]) -> Transformer:
    assert run[0].hidden is not None
    _, tokens, width = run[0].hidden.shape
    causal = any(a.causal for call in run for a in call.attentions if a.queries == a.keys == tokens)
    return Transformer(tuple(call.path for call in run), tokens, width, causal)


def _seen_instead(watch: _Watch) -> Finding:
    """Why there is none, from the most likely reason to the least."""
    own = [call for call in watch.calls for a in call.attentions if a.queries == a.keys]
    if watch.fused and not own:
        reason = "attention inside torch.nn.MultiheadAttention, which shows neither queries nor keys"
        return Finding(min(watch.fused), "", "", reason, _FIX)
    if watch.softmax and not own:
        reason = "attention written as a softmax of products"
        fix = 'pass attn_implementation="sdpa" to from_pretrained, or call scaled_dot_product_attention'
        return Finding(min(watch.softmax), "", "", reason, fix)
    if own:
        blocks = sum(call.is_outermost_block for call in watch.calls)
        reason = f"self-attention, but {blocks or 'no'} {'block' if blocks == 1 else 'blocks'} {_WANTED}"
        return Finding(own[-1].path, "", "", reason, "call two or more such blocks on each other's output")
    crossed = next((call.path for call in reversed(watch.calls) if call.attentions), None)
    if crossed is not None:
        return Finding(crossed, "", "", "attention to other tokens alone; there is no self-attention", _FIX)
    return Finding("", "", "", "no attention was seen when the model ran on its example inputs", _FIX)


_WANTED = "that take a hidden state [batch, tokens, width], return one like it and hand it straight to the next"
