"""Chooses how many tokens go on behind each block, on calibration data and without training.

First a row of schedules, each with fewer multiply-adds than the one before: again and again a share of the tokens
goes behind that block where it changes the outputs least for what it saves.  Then the place in the row that the limits
allow, by bisection, so that an evaluation or a measurement is asked for few times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from device_profiles.errors import BudgetError, MethodError
from edgewright_runtime.quiet import quiet

from ...predict import module_predictor
from ...state import Context, State

progress = logging.getLogger("edgewright.progress")

Schedule = tuple[int, ...]
STEP = 0.15
"""Share of the tokens behind a block that goes in one step."""
MOST_CHANGE = 0.5
"""Share of the outputs' energy beyond which no further schedule is of use."""
EXAMPLES = 8
"""Calibration inputs that are looked at; more change the order of blocks little."""


def schedules(
    whole: Schedule,
    stages: Sequence[int],
    least: int,
    macs: Callable[[Schedule], int],
    change: Callable[[Schedule], float],
) -> Iterator[Schedule]:
    """From the whole model on, each with fewer tokens somewhere.

    Args:
        whole: Tokens behind each block, all of them.
        stages: Blocks behind which tokens may go.
        least: Tokens that must be left.
        macs: Multiply-adds of a schedule.
        change: How far the outputs are from those of the whole model.
    """
    here, changed, saved = whole, 0.0, macs(whole)
    yield here
    while changed < MOST_CHANGE:
        fewer = {_fewer(here, stage, least) for stage in stages}
        costs = {schedule: macs(schedule) for schedule in sorted(fewer, reverse=True)}
        changes = {schedule: change(schedule) for schedule, cost in costs.items() if cost < saved}
        if not changes:
            return
        here = min(changes, key=lambda schedule: (changes[schedule] - changed) / (saved - costs[schedule]))
        changed, saved = changes[here], costs[here]
        progress.info("behind the blocks %s tokens: outputs differ by %.2g", ", ".join(map(str, here)), changed)
        yield here


def _fewer(schedule: Schedule, stage: int, least: int) -> Schedule:
    """Fewer tokens behind a block, and no more than those behind any later one."""
    left = max(least, min(schedule[stage] - 1, round(schedule[stage] * (1 - STEP))))
    return (*schedule[:stage], *(min(tokens, left) for tokens in schedule[stage:]))


def chosen(row: Sequence[Schedule], module: Callable[[Schedule], nn.Module], state: State, ctx: Context) -> Schedule:
    """The first schedule that is fast enough, or without such a limit the last that is good enough.

    Args:
        row: What ``schedules`` gave.
        module: The module that works by a schedule.
        state: Before the method.
        ctx: Whose budget counts.

    Raises:
        BudgetError: None is fast enough.
    """
    if ctx.budget.latency_s is not None:

        def slow(schedule: Schedule) -> bool:
            return _seconds(module(schedule), state, ctx) > _limit(ctx)

        if not slow(row[0]):
            return row[0]
        if slow(row[-1]):
            raise BudgetError(
                f"with {row[-1][-1]} of {row[0][0]} tokens left one run still takes longer than "
                f"max_latency_s={_limit(ctx):g}; choose a smaller model"
            )
        return row[1:][_boundary(slow, row[1:-1])]
    assert ctx.evaluate is not None and ctx.budget.quality_drop is not None
    least = float(ctx.evaluate(module_predictor(state.module))) - ctx.budget.quality_drop
    evaluate = ctx.evaluate
    good = _boundary(lambda schedule: float(evaluate(module_predictor(module(schedule)))) >= least, row)
    return row[max(0, good - 1)]


def _limit(ctx: Context) -> float:
    assert ctx.budget.latency_s is not None
    return ctx.budget.latency_s


def _seconds(module: nn.Module, state: State, ctx: Context) -> float:
    timings = ctx.time([replace(state, module=module)])
    if timings is None:
        raise BudgetError(f"max_latency_s={_limit(ctx):g} cannot be judged: {ctx.device.id} is not measured here")
    return timings[0].median_s


def _boundary(holds: Callable[[Schedule], bool], row: Sequence[Schedule]) -> int:
    """Of what holds at first and, once it does not, never again: the index where it no longer does."""
    low, high = 0, len(row)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if holds(row[middle]) else (low, middle)
    return low


class Likeness:
    """How far the outputs of a module are from those of the whole one.

    Args:
        whole: The module before.
        calibration: Tuples of its inputs.

    Raises:
        MethodError: The calibration inputs are none that the module takes.
    """

    def __init__(self, whole: nn.Module, calibration: Iterable[tuple[Any, ...]]) -> None:
        self._inputs = [one if isinstance(one, (tuple, list)) else (one,) for one in islice(calibration, EXAMPLES)]
        try:
            self._wanted = [_outputs(whole, one) for one in self._inputs]
        except Exception as error:
            first = str(error).strip().partition("\n")[0][:120]
            raise MethodError(f"calibration= does not fit the model, which takes tuples of its inputs: {first}") from error

    def difference(self, module: nn.Module) -> float:
        """Mean squared difference of the outputs over their mean square, the mean of all outputs and inputs."""
        parts = [
            float((a.double() - b.double()).square().mean() / b.double().square().mean().clamp(min=1e-30))
            for one, wanted in zip(self._inputs, self._wanted, strict=True)
            for a, b in zip(_outputs(module, one), wanted, strict=True)
        ]
        return sum(parts) / len(parts)


def _outputs(module: nn.Module, inputs: Sequence[Any]) -> list[Tensor]:
    with torch.no_grad(), quiet():
        leaves = pytree.tree_leaves(module(*pytree.tree_map_only(Tensor, torch.clone, tuple(inputs))))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
