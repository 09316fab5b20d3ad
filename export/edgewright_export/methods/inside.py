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
        words = f"; {ctx.target} leaves the zeros of 1 x 1 convolutions out by itself on ARM, while they are float32"
        return replace(state, subgraph=wanted), words
    if wanted is False or not target.subgraphs_from:
        return state, in_vain
    if not _has(ctx, target.subgraphs_from):
        newest = ctx.engine.max_version
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
    """The state of integers with its ``subgraph`` decided, and why, in one line; "" where it is not to be an operator of ours.

    Args:
        made: Quantized, with its graph.
        was: Before.
        ctx: As for floats.
    """
    if was.subgraph is False or not _has(ctx, target_named(ctx.target).subgraphs_from):
        return made, ""
    inside, stays = replace(made, subgraph=True), "integers: run in the engine's own kernels, which multiply zeros as they do other numbers"
    if not any(_in_fours(row.pattern) for row in was.sparse):
        return made, f"{stays}; ours leave out blocks of four by four, pattern=(4, 4)"
    words, found = f"integers: run in our kernels as one operator of {ctx.target}", _measured(made, inside, ctx)
    if found is None:
        share = zeros_of_macs(was.sparse)
        return (inside, f"{words} (rule: {share:.0%} of its products are zero)") if share >= ENOUGH else (made, stays)
    faster, why = found
    return (inside, f"{words} ({why})") if faster else (made, f"{stays} ({why})")


def _in_fours(pattern: str) -> bool:
    """Whether blocks are those that kernels of integers leave out, or several of them."""
    sizes = re.fullmatch(r"\((\d+), (\d+)\)", pattern)
    return sizes is not None and all(int(size) % 4 == 0 for size in sizes.groups())


def zeros_of_macs(rows: Sequence[SparseLayer]) -> float:
    """Share of all multiply-accumulates that are with zeros, 0 to 1."""
    return sum(row.zeros * row.macs for row in rows) / max(1, sum(row.macs for row in rows))


def _has(ctx: Context, since: str) -> bool:
    """Whether the device may have what the target's engine has since a version, "" for none."""
    newest = ctx.engine.max_version
    return bool(since) and (newest is None or not is_older(newest, since))


def _leaves_them_out_itself(state: State, ctx: Context) -> bool:
    """Whether the target's engine does on the device, which is seen when the model is lowered."""
    target = target_named(ctx.target)
    if not _has(ctx, target.zeros_from) or not ctx.device.is_arm:
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
