"""Leaves a model in float32 where integers do not make it faster."""

from __future__ import annotations

from edgewright_runtime.measure import ratio

from ...state import Context, State

_TOLERATED = 1.03
"""Time of integers over that of floats."""


def too_slow(float_state: State, integers: State, ctx: Context) -> str | None:
    """Says that a quantized model is slower than the float one, if it was measured to be on this device.

    Both are lowered and run in turns.

    Args:
        float_state: Before.
        integers: After, with its graph.
        ctx: Measures, if the device is this machine.

    Returns:
        One line for the changes; None where integers are as fast, or nothing can be measured.
    """
    timings = ctx.time([float_state, integers])
    if timings is None:
        return None
    whole, small = timings
    times, low, _ = ratio(small, whole)
    if times <= _TOLERATED or low <= 1:
        return None
    return (
        f"kept float32: one run takes {small.median_s * 1e3:.3g} ms with integers, {whole.median_s * 1e3:.3g} ms without "
        f"({ctx.target}, measured on this machine); even_if_slower=True quantizes all the same"
    )
