"""From a plan to the state of a quantized module."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from device_profiles.errors import MethodError
from edgewright_runtime.bundle.manifest import QuantizedLayer

from ...capture import capture
from ...registry import target_named
from ...state import Context, State
from ..inside import placed_integers
from .begin import Options
from .by_token import FEW
from .calls import Call
from .coverage import coverage, share_of_bytes, share_of_macs, worst
from .plan import Activations, Plan, simulated, written
from .steady import steadiness_db


def quantized(state: State, plan: Plan, given: Sequence[Call], changes: Sequence[str], ctx: Context) -> State:
    """The state whose module computes what the device will, and whose graph is what targets write.

    Args:
        state: Before.
        plan: What is quantized.
        given: Inputs on which the errors of the layers are measured.
        changes: What was done, one line each.
        ctx: Measures.
    """
    rows = coverage(plan, given, state.example)
    made, where = placed_integers(bare(state, plan), state, ctx)
    assert isinstance(made.module, fx.GraphModule)
    steady = steadiness_db(plan, made.module, given)
    return replace(
        made,
        changes=(*state.changes, *changes, *((where,) if where else ()), _worst_of(rows)),
        quantized=rows,
        quantization=_in_words(plan, rows, steady),
        steady_db=steady,
    )


def bare(state: State, plan: Plan) -> State:
    """The state of a quantized module without what is said of it, outside of any operator of ours."""
    return replace(state, module=simulated(plan), captured=capture(written(plan), state.example), subgraph=False)


def require_fit(made: State, ctx: Context) -> None:
    """Before anything is trained: the target takes what will be written.

    Raises:
        MethodError: It does not; names the layers and what helps.
    """
    assert made.captured is not None
    problems = target_named(ctx.target).check(made.captured.program, {})
    if problems:
        raise MethodError(f"{ctx.target} cannot carry this quantization", problems)


def described(plan: Plan, options: Options) -> str:
    """What is quantized, in one line."""
    modes = Counter(plan.modes[product.name] for product in plan.products)
    kinds: dict[Activations, str] = {
        "static": "calibrated inputs",
        "dynamic": "inputs quantized in each run",
        "float": "float inputs",
    }
    parts = ", ".join(f"{modes[mode]} with {text}" for mode, text in kinds.items() if modes[mode])
    ends = f" ({options.ranges} of {options.activation_bits} bits)" if modes["static"] else ""
    stored = f"; weights of {len(plan.stored)} embeddings and recurrent layers stored so" if plan.stored else ""
    tokens = f"; bits of tokens: {_bits_of_tokens(plan)}" if plan.thresholds else ""
    return f"{len(plan.products)} layers with weights of {options.weight_bits} bits: {parts}{ends}{stored}{tokens}"


def _in_words(plan: Plan, rows: Sequence[QuantizedLayer], steady: float) -> dict[str, str]:
    bits = {"bits of tokens": _bits_of_tokens(plan)} if plan.thresholds else {}
    return {
        "grid": "activations s8 affine, weights s8 around 0, sums s32, rescaled in float32, rounded half to even",
        "largest weight": ", ".join(sorted({str(most) for most in plan.most.values()})),
        "weights": "sums of at most two powers of two" if plan.powers else "all whole numbers",
        "scales": "powers of two" if plan.fixed_point else "float32",
        "scales of weights": ", ".join(sorted({_scales(plan.scales[p.name].dim()) for p in plan.products})),
        "when float operations round otherwise": "the same" if math.isinf(steady) else f"the same but for {steady:.0f} dB",
        **bits,
        "integer multiply-accumulates": f"{100 * share_of_macs(rows):.1f} %",
        "weights stored as integers": f"{100 * share_of_bytes(rows):.1f} % of their bytes",
    }


def _bits_of_tokens(plan: Plan) -> str:
    shares = [100 * by.share for by in plan.thresholds]
    ways = {True: "that they pay to the first one", False: "that the first one pays to them"}
    said = ", or ".join(dict.fromkeys(ways[by.backward] for by in plan.thresholds))
    kept = f"{min(shares):.0f}" if max(shares) - min(shares) < 1 else f"{min(shares):.0f} to {max(shares):.0f}"
    return f"8 for {kept} % of them (before training) behind each attention, chosen by the attention {said}; {FEW} for the others"


def _scales(axes: int) -> str:
    return "one an output" if axes == 1 else "one a group of an output"


def _worst_of(rows: Sequence[QuantizedLayer]) -> str:
    shown = ", ".join(f"{row.path} {row.sqnr_db:.1f} dB" for row in worst(rows))
    return f"quantized alone, the layers farthest from float: {shown or 'none differs'}"
