"""How far two arrays are apart."""

from __future__ import annotations

import math

import numpy as np

from edgewright_runtime.bundle.manifest import OutputParity

THRESHOLD_DB = {"float64": 80.0, "float32": 80.0, "float16": 40.0}
"""Least signal-to-noise ratio by the module's dtype."""
QUANTIZED_DB = 30.0
"""That of a quantized module: a value between two steps of a grid may come out on either."""
_UNSTEADY_DB = 6.0
"""How much farther than a module is from itself its files may be."""
NOT_COMPARABLE_DB = -300.0
_SILENT_MAX_ABS = 1e-6
"""Largest absolute difference that counts as equal where the reference is all zeros."""


def compare(name: str, reference: np.ndarray, result: np.ndarray) -> OutputParity:
    """Compares one output.

    Args:
        name: Name of the output.
        reference: What the module returns.
        result: What the files return.

    Returns:
        SNR is ``10 log10(sum(ref^2) / sum((ref - res)^2))`` in dB over the finite elements; NaN and
        infinities must be at the same places.
    """
    if reference.shape != result.shape or reference.dtype != result.dtype:
        return OutputParity(name, 1e300, NOT_COMPARABLE_DB, 0.0)
    if np.array_equal(reference, result, equal_nan=reference.dtype.kind in "fc"):
        return OutputParity(name, 0.0, None, 1.0)
    a, b = reference.astype(np.float64).ravel(), result.astype(np.float64).ravel()
    finite = np.isfinite(a)
    if not (np.array_equal(finite, np.isfinite(b)) and np.array_equal(a[~finite], b[~finite], equal_nan=True)):
        return OutputParity(name, 1e300, NOT_COMPARABLE_DB, 0.0)
    a, b = a[finite], b[finite]
    signal, noise = float(np.sum(a * a)), float(np.sum((a - b) ** 2))
    worst = float(np.max(np.abs(a - b)))
    return OutputParity(name, worst, _snr_db(signal, noise, worst), _cosine(a, b))


def _snr_db(signal: float, noise: float, worst: float) -> float | None:
    if noise == 0 or (signal == 0 and worst <= _SILENT_MAX_ABS):
        return None
    if signal == 0 or not math.isfinite(signal / noise):
        return NOT_COMPARABLE_DB
    return 10 * math.log10(signal / noise)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b) / norms) if norms else 0.0


def worst_of(rows: list[OutputParity]) -> OutputParity:
    """The row with the lowest SNR among rows of the same output."""
    return min(rows, key=lambda row: math.inf if row.snr_db is None else row.snr_db)


def quantized_db(steady_db: float) -> float:
    """The threshold of a quantized module.

    Args:
        steady_db: How well it agrees with itself when float operations round otherwise.
    """
    return min(QUANTIZED_DB, steady_db - _UNSTEADY_DB)


def threshold_db(dtypes: set[str]) -> float:
    """The threshold of a module whose floating-point dtypes these are."""
    return min((THRESHOLD_DB[d] for d in dtypes if d in THRESHOLD_DB), default=80.0)
