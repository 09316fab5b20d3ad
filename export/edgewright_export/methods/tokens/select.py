"""Which tokens stay, decided alike by every engine.

Sorting operators order equal values differently from one engine to the next.  So no two tokens are ever equal: scores
are rounded, and then each is made smaller by its place times less than the rounding.  Equal ones go by position, and
those as close as the rounding errors of an engine mostly count as equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import take

_PRECISION = 23
"""Bits of a float32 behind the first one."""
_LEAST, _MOST = 1e-30, 1e30
"""Scores beyond count as these; further out lie the tokens that no score decides."""
_PADDING, _PROTECTED = 1e-35, 1e35


def best(score: Tensor, count: int, valid: Tensor | None, protected: Tensor | None) -> Tensor:
    """The ``count`` tokens of highest score, in their order.

    Args:
        score, valid, protected: As for ``distinct``.

    Returns:
        Indices, int64 [batch, count], ascending.
    """
    return ascending(from_best(score, count, valid, protected).to(torch.float32))


def from_best(score: Tensor, count: int, valid: Tensor | None = None, protected: Tensor | None = None) -> Tensor:
    """The ``count`` tokens of highest score, the highest first.

    Args:
        score, valid, protected: As for ``distinct``.

    Returns:
        Indices, int64 [batch, count].
    """
    return distinct(score, valid, protected).topk(count, -1).indices


def distinct(score: Tensor, valid: Tensor | None = None, protected: Tensor | None = None) -> Tensor:
    """Scores of which no two of an image are equal: padding below every real token, a protected token above.

    Of float32's 24 bits as many are rounded off as places need, 9 of them for 197 tokens (Veltkamp's splitting, in
    Dekker 1971, "A floating-point technique for extending the available precision").

    Args:
        score: Float [batch, tokens], not negative; NaN counts as 0.
        valid, protected: As in ``View``.

    Returns:
        float32 [batch, tokens], above 0.
    """
    tokens = score.shape[-1]
    score = score.to(torch.float32)
    score = torch.where(score >= 0, score, 0.0).clamp(_LEAST, _MOST)
    scaled = score * float(2 ** (2 * tokens - 1).bit_length() + 1)
    score = scaled - (scaled - score)
    if valid is not None:
        score = torch.where(valid > 0, score, _PADDING)
    if protected is not None:
        score = torch.where(protected > 0, _PROTECTED, score)
    return score * (1 - torch.arange(tokens, dtype=torch.float32) * 2.0**-_PRECISION)


def ascending(place: Tensor) -> Tensor:
    """Places in the order of the tokens.

    Args:
        place: float32 [batch, count], no two equal.

    Returns:
        int64 [batch, count].
    """
    order = (-place).topk(place.shape[-1], -1).indices
    return take(place.unsqueeze(-1), order).squeeze(-1).to(torch.int64)


def one_hot(index: Tensor, tokens: int) -> Tensor:
    """float32 [..., count, tokens] with a one where ``index`` [..., count] points."""
    return (index.unsqueeze(-1) == torch.arange(tokens)).to(torch.float32)
