"""Fewer tokens in the later blocks of a transformer."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from device_profiles import Finding
from device_profiles.errors import CaptureError, MethodError, OptionError
from edgewright_runtime.bundle import Workload
from edgewright_runtime.quiet import quiet

from .. import place
from ..capture import capture
from ..state import Context, State
from ..training.batches import Train
from ..workload import workload_of
from .tokens import auto
from .tokens import protect as protection
from .tokens.find import Transformer, find
from .tokens.macs import blocks_of, foretold, layers
from .tokens.plan import Plan
from .tokens.recalibrate import recalibrate
from .tokens.schedule import schedule
from .tokens.strategies import STRATEGIES
from .tokens.stream import attach
from .tokens.view import Strategy


@dataclass(frozen=True)
class TokenDropping:
    """Takes tokens that matter little out of a transformer, image by image, while it runs.

    A transformer is found by what it computes: blocks that hand on a hidden state [batch, tokens, width], each with
    one ``torch.nn.functional.scaled_dot_product_attention`` of all tokens.  Behind some blocks a strategy chooses how
    fewer tokens go on; masks and rotary tables go with them.  How many is fixed, so the graph has fixed shapes.

    Args:
        strategy: How tokens are chosen: ``merge`` similar ones, ``transform``, ``attention``, ``pyramid``,
            ``partition``, ``rows`` or ``query``; the sources are in the files of ``methods/tokens/strategies``.
        keep: Share of the tokens that is left behind the last stage, above 0, at most 1; ``"auto"``: as few behind each
            block as ``max_quality_drop`` or as many as ``max_latency_s`` allows, chosen on ``calibration``.
        stages: Blocks, counted from 0, behind which tokens go; a number is one; None: as the strategy's source has it.
        protect: Tokens that always stay: how many first ones, a tuple of places, a slice or its text ``"-20:"``;
            ``"auto"``: those that the output reads, such as a class token, unless it reads more than half.
        restore: Whether all tokens come back behind the last block; ``"auto"``: if the output has other shapes or
            fails without.
        recalibrate_steps: With ``train=``, batches from which the module with fewer tokens learns to do what the one
            with all of them does.

    Raises:
        OptionError: An option is out of range.

    Example:
        >>> sdk.methods.TokenDropping(strategy="merge", keep=0.5)  # doctest: +SKIP
    """

    strategy: str = "merge"
    keep: float | Literal["auto"] = 0.7
    stages: int | tuple[int, ...] | None = None
    protect: protection.Protect = "auto"
    restore: bool | Literal["auto"] = "auto"
    recalibrate_steps: int = 1000

    name: ClassVar[str] = "token-dropping"

    def __post_init__(self) -> None:
        wrong = [text for bad, text in self._rules() if bad]
        if wrong:
            raise OptionError(f"sdk.methods.TokenDropping: {'; '.join(wrong)}")
        object.__setattr__(self, "keep", self.keep if self.keep == "auto" else float(self.keep))
        stages = (self.stages,) if isinstance(self.stages, int) else self.stages
        object.__setattr__(self, "stages", None if stages is None else tuple(stages))
        object.__setattr__(self, "protect", protection.checked(self.protect))

    @property
    def needs(self) -> frozenset[str]:
        """Calibration inputs, to choose on."""
        return frozenset({"calibration"} if self.keep == "auto" else ())

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        return (
            (self.strategy not in tuple(STRATEGIES), f"strategy {self.strategy!r} is none of {', '.join(STRATEGIES)}"),
            (self.keep != "auto" and not _is_share(self.keep), f"keep {self.keep!r} is neither in (0, 1] nor 'auto'"),
            (
                not _are_stages(self.stages),
                f"stages {self.stages!r} are not block numbers from 0, each once, ascending",
            ),
            (
                not isinstance(self.restore, bool) and self.restore != "auto",
                f"restore {self.restore!r} is neither True, False nor 'auto'",
            ),
            (
                type(self.recalibrate_steps) is not int or self.recalibrate_steps < 1,
                f"recalibrate_steps {self.recalibrate_steps!r} is no number of batches from 1",
            ),
        )

    def check(self, state: State, ctx: Context) -> list[Finding]:
        """What keeps tokens from being dropped: no transformer, too few tokens or blocks, shapes that do not fit."""
        if state.captured is not None:
            reason = "an exported program has lost the modules between which tokens go"
            return [Finding("", "", "", reason, "pass the torch.nn.Module that it was exported from")]
        found = find(state.module, state.example)
        if isinstance(found, Finding):
            return [found]
        return self._misfits(state, found, ctx) or self._failures(state, found)

    def effect(self, workload: Workload, ctx: Context) -> Workload:
        """The workload with fewer tokens behind each stage; unchanged where its paths show no stack of blocks."""
        paths, tokens = blocks_of(workload)
        stages = self._stages(len(paths)) if paths else ()
        if self.keep == "auto" or not stages or stages[-1] >= len(paths) - 1:
            return workload
        return foretold(workload, paths, tokens, schedule(tokens, len(paths), self.keep, stages))

    def variants(self, workload: Workload, ctx: Context) -> Iterable[TokenDropping]:
        """The same strategy with more or fewer tokens."""
        return (dataclasses.replace(self, keep=keep) for keep in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4))

    def apply(self, state: State, ctx: Context) -> State:
        """The state with a module whose blocks work on fewer tokens; its parameters keep their names."""
        found = find(state.module, state.example)
        if isinstance(found, Finding):
            raise MethodError(f"{self.name} cannot be applied", [found])
        plan = self._plan(state, found)
        if self.keep == "auto":
            plan = dataclasses.replace(plan, after=self._chosen(state, found, plan, ctx))
        module = self._dropping(state.module, found, plan)
        trained = self._recalibrated(module, state, found, plan, ctx.train) if ctx and ctx.train else ()
        before, after = _workload(state.module, state), _captured(module, state, found.tokens)
        return dataclasses.replace(
            state,
            module=module,
            changes=(*state.changes, self._change(found, plan, before.macs, after.macs), *trained),
            layers=(*state.layers, *layers(found.paths, found.tokens, plan.after, before, after)),
        )

    def _stages(self, depth: int) -> tuple[int, ...]:
        if self.stages is None:
            return STRATEGIES[self.strategy].stages(depth)
        assert isinstance(self.stages, tuple)
        return self.stages

    def _strategy(self) -> Strategy:
        return STRATEGIES[self.strategy].strategy()

    @property
    def _share(self) -> float:
        """Of the tokens that are left; while they are not chosen, some that shows what fits."""
        return 0.5 if self.keep == "auto" else self.keep

    def _misfits(self, state: State, found: Transformer, ctx: Context) -> list[Finding]:
        """What is wrong before anything has run."""
        where, depth, stages = found.paths[0], len(found.paths), self._stages(len(found.paths))
        problems = []
        if stages[-1] > depth - 2:
            reason = f"stages {stages} of {depth} blocks; tokens can go behind blocks 0 to {depth - 2}"
            problems.append(Finding(where, "", "", reason, "name earlier blocks in stages="))
        if found.causal and STRATEGIES[self.strategy].mixes:
            reason = f"strategy {self.strategy!r} mixes tokens, and a causal model may not see later ones"
            others = ", ".join(repr(name) for name, row in STRATEGIES.items() if not row.mixes)
            problems.append(Finding(where, "", "", reason, f"choose one of {others}"))
        if self.keep == "auto" and ctx.budget.quality_drop is None and ctx.budget.latency_s is None:
            fix = "pass max_quality_drop= with evaluate=, max_latency_s=, or a number for keep"
            problems.append(Finding(where, "", "", 'keep="auto" has no limit to keep to', fix))
        protected = self._protected(state, found)
        left = schedule(found.tokens, depth, self._share, stages)[-1]
        if protected is None and self.protect == "auto":
            reason = "no gradient leads from the output to the last block, so what it reads is not known"
            problems.append(Finding(found.paths[-1], "", "", reason, "pass protect=, for a class token protect=1"))
        elif protected is None:
            reason = f"protect={self.protect!r}, but there are {found.tokens} tokens"
            problems.append(Finding(where, "", "", reason, f"name places from 0 to {found.tokens - 1}"))
        elif left < len(protected) and self.keep != "auto":
            reason = f"keep={self.keep:g} leaves {left} of {found.tokens} tokens, but {len(protected)} are protected"
            fix = f"keep at least {math.ceil(1000 * len(protected) / found.tokens) / 1000:g}, or protect fewer"
            problems.append(Finding(where, "", "", reason, fix))
        return problems

    def _protected(self, state: State, found: Transformer) -> tuple[int, ...] | None:
        if self.protect == "auto":
            return protection.read_by_output(state.module, state.example, found)
        assert not isinstance(self.protect, slice)
        return protection.places(self.protect, found.tokens)

    def _plan(self, state: State, found: Transformer) -> Plan:
        after = schedule(found.tokens, len(found.paths), self._share, self._stages(len(found.paths)))
        plan = Plan(found.tokens, after, self._protected(state, found) or (), found.causal, self.restore is True)
        if self.restore == "auto" and not self._fits_as_it_is(state, found, plan):
            return dataclasses.replace(plan, restore=True)
        return plan

    def _chosen(self, state: State, found: Transformer, plan: Plan, ctx: Context) -> tuple[int, ...]:
        """Tokens behind each block, by calibration and limits."""
        assert ctx.calibration is not None
        whole, depth = _workload(state.module, state), len(found.paths)
        likeness = auto.Likeness(state.module, ctx.calibration)

        def module(after: tuple[int, ...]) -> nn.Module:
            return self._dropping(state.module, found, dataclasses.replace(plan, after=after))

        schedules = list(
            auto.schedules(
                (found.tokens,) * depth,
                range(depth - 1) if self.stages is None else self._stages(depth),
                max(1, len(plan.protected)),
                lambda after: foretold(whole, found.paths, found.tokens, after).macs,
                lambda after: likeness.difference(module(after)),
            )
        )
        return auto.chosen(schedules, module, state, ctx)

    def _fits_as_it_is(self, state: State, found: Transformer, plan: Plan) -> bool:
        try:
            with quiet():
                return _shapes(self._dropping(state.module, found, plan), state) == _shapes(state.module, state)
        except Exception:
            return False

    def _failures(self, state: State, found: Transformer) -> list[Finding]:
        """What the module raises with fewer tokens."""
        module = self._dropping(state.module, found, self._plan(state, found))
        try:
            with quiet():
                _shapes(module, state)
        except Exception as error:
            path, line = place.raised_at(error, module)
            reason = f"with fewer tokens it fails: {str(error).strip().partition(chr(10))[0][:120]}"
            fix = "restore=True brings all tokens back behind the last block" if self.restore is False else _NARROWED
            return [Finding(path, "", line, reason, fix)]
        return []

    def _dropping(self, module: nn.Module, found: Transformer, plan: Plan) -> nn.Module:
        module = copy.deepcopy(module)
        attach(module, found, plan, self._strategy())
        return module

    def _recalibrated(
        self, module: nn.Module, state: State, found: Transformer, plan: Plan, train: Train
    ) -> tuple[str, ...]:
        left = found.tokens if plan.restore else plan.after[-1]
        first, last = recalibrate(module, state.module, found, train, left=left, steps=self.recalibrate_steps)
        steps = f"{self.recalibrate_steps} batches of train="
        return (f"{self.name}: recalibrated on {steps}, distillation loss {first:.3g} -> {last:.3g}",)

    def _change(self, found: Transformer, plan: Plan, before: int, after: int) -> str:
        left = ", ".join(map(str, plan.after))
        kept = f"; {len(plan.protected)} protected" if plan.protected else ""
        back = "; all restored behind the last" if plan.restore else ""
        blocks = f"{found.paths[0]} to {found.paths[-1]}"
        share = f"{100 * after / before:.1f} %" if before else "0 %"
        return (
            f"{self.name}: {self.strategy}; {found.tokens} tokens, behind {blocks} {left}{kept}{back}; "
            f"MACs {before:,} -> {after:,} ({share})"
        )


def _workload(module: nn.Module, state: State) -> Workload:
    return workload_of(capture(module, state.example).program)


def _captured(module: nn.Module, state: State, tokens: int) -> Workload:
    try:
        return _workload(module, state)
    except CaptureError as error:
        if state.example.dynamic_shapes is None:
            raise
        fix = "only sizes that leave the number of tokens alone may be open, such as the batch"
        found = Finding("", "", "", f"the plan is for {tokens} tokens, which dynamic_shapes let vary", fix)
        raise MethodError(f"{TokenDropping.name} cannot be applied", [found]) from error


_NARROWED = "what a block takes for each token must come as an argument of its forward, such as a mask or a table"


def _shapes(module: nn.Module, state: State) -> list[Any]:
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (state.example.args, state.example.kwargs))
    with torch.no_grad():
        return [
            leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in pytree.tree_leaves(module(*args, **kwargs))
        ]


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _are_stages(value: Any) -> bool:
    if value is None or (type(value) is int and value >= 0):
        return True
    if not isinstance(value, (tuple, list)) or not value or any(type(stage) is not int for stage in value):
        return False
    return value[0] >= 0 and list(value) == sorted(set(value))
