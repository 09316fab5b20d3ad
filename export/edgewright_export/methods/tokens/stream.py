"""Reduces tokens between blocks, and narrows what the blocks get beside them.

Everything hangs on the blocks as hooks, so that modules keep their paths, classes and attributes.  Hooks, function
modes and plain objects work while a graph is captured; what they compute becomes part of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .find import Transformer, first_of, hidden_of
from .plan import Plan
from .restore import restored
from .rows import narrow, take
from .sdpa import ATTENTION, AttentionCall, allowed_by
from .view import Kept, Merged, Reduction, Strategy, View


def attach(module: nn.Module, transformer: Transformer, plan: Plan, strategy: Strategy) -> None:
    """Makes the blocks of a module work on fewer and fewer tokens, in place."""
    stream = Stream(plan, strategy)
    for path in dict.fromkeys(transformer.paths):
        block = module.get_submodule(path)
        block.register_forward_pre_hook(stream.before, with_kwargs=True)
        block.register_forward_hook(stream.behind, always_call=True)


class Stream:
    """Runs of all blocks, one after the other."""

    def __init__(self, plan: Plan, strategy: Strategy) -> None:
        self._plan = plan
        self._strategy = strategy
        self._protected = torch.tensor([float(place in plan.protected) for place in range(plan.tokens)])
        self._step = 0
        self._run: _Run | None = None

    def before(self, block: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Hook: what a block gets, for the tokens that are left."""
        if self._run is None:
            hidden = hidden_of(args, kwargs)
            assert hidden is not None
            self._run = _Run(hidden, self._plan, self._protected)
        return self._run.begin(args, kwargs)

    def behind(self, block: nn.Module, args: Any, output: Any) -> Any:
        """Hook: what a block returns, for the tokens that stay; ``output`` is None if it failed."""
        run, step = self._run, self._step
        assert run is not None
        self._run, self._step = None, 0
        run.end()
        if output is None:
            return None
        is_last = step + 1 == len(self._plan.after)
        hidden = run.reduced(first_of(output), self._plan.after[step], self._strategy)
        if is_last and self._plan.restore:
            hidden = run.undone(hidden)
        if not is_last:
            self._run, self._step = run, step + 1
        return hidden if isinstance(output, Tensor) else type(output)((hidden, *output[1:]))


class _Run:
    """One hidden state on its way through the blocks."""

    def __init__(self, hidden: Tensor, plan: Plan, protected: Tensor) -> None:
        self._plan = plan
        self._batch, self._tokens = hidden.shape[0], plan.tokens
        position = torch.arange(plan.tokens)
        self._position, self._protected = (x.to(torch.float32).expand(self._batch, -1) for x in (position, protected))
        self._size: Tensor | None = None
        self._narrowed: dict[int, tuple[Tensor, Tensor]] = {}
        self._done: list[tuple[Tensor, Reduction]] = []
        self._attention: _Attention | None = None

    def begin(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Arguments of a block; from now on its attention is watched."""
        hidden = hidden_of(args, kwargs)
        narrowed = pytree.tree_map_only(
            Tensor, lambda value: value if value is hidden else self.narrowed(value), (args, kwargs)
        )
        self._attention = _Attention(self, self._tokens, self._size)
        self._attention.__enter__()  # type: ignore[no-untyped-call]
        return narrowed  # type: ignore[no-any-return]

    def end(self) -> None:
        """The block is through, or failed."""
        assert self._attention is not None
        self._attention.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def narrowed(self, value: Tensor) -> Tensor:
        """A tensor of all tokens for those that are left; of each one is made once between two reductions."""
        if not self._done:
            return value
        if id(value) not in self._narrowed:
            made = narrow(value, self._position.to(torch.int64), self._plan.tokens)
            self._narrowed[id(value)] = (value, made)
            self._narrowed[id(made)] = (made, made)
        return self._narrowed[id(value)][1]

    def reduced(self, hidden: Tensor, count: int, strategy: Strategy) -> Tensor:
        """The hidden state behind a block with so many tokens."""
        if count == self._tokens:
            return hidden
        assert self._attention is not None
        view = self._view(hidden, self._attention)
        reduction = strategy.reduce(view, count)
        if isinstance(reduction, Kept):
            left = self._keep(view, reduction.index)
        elif isinstance(reduction, Merged):
            left = self._merge(view, reduction)
        else:
            left = self._mix(view, reduction.weight)
        self._done.append((hidden, reduction))
        self._narrowed.clear()
        self._tokens = count
        return left

    def undone(self, hidden: Tensor) -> Tensor:
        """All tokens again."""
        for before, reduction in reversed(self._done):
            hidden = restored(hidden, before, reduction, self._plan.causal)
        return hidden

    def _view(self, hidden: Tensor, seen: _Attention) -> View:
        assert seen.query is not None and seen.key is not None
        size = torch.ones_like(self._position) if self._size is None else self._size
        valid = None if seen.mask is None else _valid(seen.mask, self._batch).to(torch.float32)
        plan = self._plan
        return View(
            hidden=hidden,
            query=seen.query,
            key=seen.key,
            size=size,
            valid=valid,
            protected=self._protected,
            position=self._position,
            whole=plan.tokens,
            causal=plan.causal,
            held=len(plan.protected),
            leading=plan.leading,
        )

    def _keep(self, view: View, index: Tensor) -> Tensor:
        known = [view.position, view.protected] + ([] if self._size is None else [self._size])
        self._position, self._protected, *size = take(torch.stack(known, -1), index).unbind(-1)
        self._size = size[0] if size else None
        return take(view.hidden, index)

    def _merge(self, view: View, merged: Merged) -> Tensor:
        """Means by size (Bolya et al. 2023, section 3): of those that stay, and of those that go into each."""
        into = (merged.stays.unsqueeze(-1) == merged.into.unsqueeze(1)).to(view.hidden.dtype)
        size = view.size.unsqueeze(-1).to(view.hidden.dtype)
        mass = torch.cat((view.hidden * size, size), -1)
        known = take(torch.stack((view.position, view.protected), -1), merged.stays)
        self._position, self._protected = known.unbind(-1)
        total = take(mass, merged.stays) + torch.matmul(into, take(mass, merged.gone))
        self._size = total[..., -1].to(torch.float32)
        return total[..., :-1] / total[..., -1:]

    def _mix(self, view: View, weight: Tensor) -> Tensor:
        """Means by weight and size; a new token has the place of what weighs most in it."""
        mass = weight * view.size.unsqueeze(1)
        total = mass.sum(-1, keepdim=True)
        most = weight >= weight.amax(-1, keepdim=True)
        place = torch.where(most, view.position.unsqueeze(1), float(self._plan.tokens))
        protected = (mass * view.protected.unsqueeze(1)).sum(-1) > total.squeeze(-1) / 2
        self._size, self._position = total.squeeze(-1), place.amin(-1)
        self._protected = protected.to(weight.dtype)
        return torch.matmul((mass / total).to(view.hidden.dtype), view.hidden)


class _Attention(TorchFunctionMode):
    """Watches the self-attention of one block, fits its mask and lets merged tokens count as what they stand for."""

    def __init__(self, run: _Run, tokens: int, size: Tensor | None) -> None:
        super().__init__()
        self._run, self._tokens, self._size = run, tokens, size
        self.query: Tensor | None = None
        self.key: Tensor | None = None
        self.mask: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is ATTENTION:
            return self._fitted(AttentionCall(*args, **(kwargs or {})))()
        return function(*args, **(kwargs or {}))

    def _fitted(self, call: AttentionCall) -> AttentionCall:
        """The same for the tokens that are left, if it is about all of them."""
        if not call.query.shape[-2] == call.key.shape[-2] == self._tokens:
            return call
        mask = None if call.attn_mask is None else self._run.narrowed(call.attn_mask)
        self.query, self.mask = call.query, mask
        groups = call.query.shape[1] // call.key.shape[1]
        self.key = call.key if groups == 1 else call.key.repeat_interleave(groups, 1)
        if self._size is None:
            return replace(call, attn_mask=mask)
        sized = _proportional(mask, call.is_causal, self._size.to(call.query.dtype))
        return replace(call, attn_mask=sized, is_causal=False)


def _proportional(mask: Tensor | None, is_causal: bool, size: Tensor) -> Tensor:
    """A mask that counts a key as often as it stands for a token (Bolya et al. 2023, section 3.2, equation 1)."""
    bias = size.log().unsqueeze(1).unsqueeze(1)
    if is_causal:
        mask = torch.ones(size.shape[-1], size.shape[-1], dtype=torch.bool).tril()
    if mask is None:
        return bias
    return torch.where(mask, bias, float("-inf")) if mask.dtype == torch.bool else mask + bias


def _valid(mask: Tensor, batch: int) -> Tensor:
    """Which keys at least one token of the image may see, bool [batch, keys]."""
    allowed = allowed_by(mask)
    while allowed.dim() < 4:
        allowed = allowed.unsqueeze(0)
    return allowed.flatten(1, 2).any(1).expand(batch, -1)
