"""Whether a sparse model runs in the engine that leaves zeros out, inside a runtime that multiplies them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from device_profiles.errors import LoweringError
from edgewright_runtime.bundle.manifest import SparseLayer
from edgewright_runtime.engines import is_older
from edgewright_runtime.measure import ratio

from ..capture import capture
from ..registry import target_named
from ..state import Context, State

ENOUGH = 0.6
"""Share of zeros, of all multiply-accumulates, from which our kernels are taken unmeasured."""


def placed(state: State, ctx: Context, wanted: bool | None) -> tuple[State, str]:
    """The state with its ``subgraph`` decided, and why, in words that follow a line; "" where there is nothing to say.

    Args:
        state: Sparse, not captured.
        ctx: Its target; measures where the device is this machine.
        wanted: What the user says; None: where it is faster.
    """
    target = target_named(ctx.target)
    if target.leaves_out_zeros or all(row.why_dense is not None for row in state.sparse):
        return state, ""
    in_vain = f"; {ctx.target} multiplies zeros as it does other numbers"
    if not wanted and _leaves_them_out_itself(state, ctx):
        return state, f"; {ctx.target} leaves the zeros of 1 x 1 convolutions out by itself on ARM"
    if wanted is False or not target.subgraphs_from:
        return state, in_vain
    newest = ctx.engine.max_version
    if newest is not None and is_older(newest, target.subgraphs_from):
        return state, f"{in_vain}: our kernels need {ctx.target} {target.subgraphs_from}, the board has at most {newest}"
    inside = replace(state, subgraph=True)
    words = f"; runs in our kernels as one operator of {ctx.target}"
    if wanted:
        return inside, words
    found = _measured(state, inside, ctx)
    if found is None:
        share = zeros_of_macs(state.sparse)
        enough = share >= ENOUGH and ctx.device.kind == "board"
        return (inside, f"{words} (rule: {share:.0%} of its products are zero)") if enough else (state, in_vain)
    faster, why = found
    return (inside, f"{words} ({why})") if faster else (state, f"{in_vain} ({why})")


def placed_integers(made: State, was: State, ctx: Context) -> tuple[State, str]:
    """The state of integers with its ``subgraph`` decided, and why, in one line; "" where the model was no operator of ours.

    Args:
        made: Quantized, with its graph.
        was: Before.
        ctx: As for floats.
    """
    if not was.subgraph:
        return made, ""
    inside, stays = replace(made, subgraph=True), "integers: run in the engine's own kernels, which multiply zeros as they do other numbers"
    blocks = [row for row in was.sparse if _in_fours(row.pattern)]
    if not blocks:
        return made, f"{stays}; ours leave out blocks of four by four, pattern=(4, 4)"
    found = _measured(made, inside, ctx)
    if found is None:
        share = zeros_of_macs(blocks)
        words = f"integers: run in our kernels as one operator of {ctx.target} (rule: {share:.0%} of its products are zero)"
        return (inside, words) if share >= ENOUGH else (made, stays)
    faster, why = found
    return (inside, f"integers: run in our kernels as one operator of {ctx.target} ({why})") if faster else (made, f"{stays} ({why})")


def _in_fours(pattern: str) -> bool:
    """Whether blocks are those that kernels of integers leave out, or several of them."""
    sizes = re.fullmatch(r"\((\d+), (\d+)\)", pattern)
    return sizes is not None and all(int(size) % 4 == 0 for size in sizes.groups())


def zeros_of_macs(rows: Sequence[SparseLayer]) -> float:
    """Share of all multiply-accumulates that are with zeros, 0 to 1."""
    return sum(row.zeros * row.macs for row in rows) / max(1, sum(row.macs for row in rows))


def _leaves_them_out_itself(state: State, ctx: Context) -> bool:
    """Whether the target's engine does on the device, which is seen when the model is lowered."""
    target, newest = target_named(ctx.target), ctx.engine.max_version
    if not target.zeros_from or not ctx.device.is_arm or (newest is not None and is_older(newest, target.zeros_from)):
        return False
    with tempfile.TemporaryDirectory(prefix="edgewright-zeros-") as folder:
        try:
            captured = capture(state.module, state.example)
            return target.lower(replace(state, captured=captured), ctx.engine, Path(folder)).leaves_out_zeros
        except LoweringError:
            return False


def _measured(plain: State, inside: State, ctx: Context) -> tuple[bool, str] | None:
    """Whether our kernels are faster, and how that is known; None: nothing can be measured."""
    try:
        timings = ctx.time([plain, inside])
    except LoweringError as error:
        return False, f"it cannot be one operator: {error.message}"
    if timings is None:
        return None
    alone, ours = timings
    _, surely, _ = ratio(alone, ours)
    return surely > 1, f"{ours.median_s * 1e3:.3g} ms, {alone.median_s * 1e3:.3g} ms without them, measured on this machine"
