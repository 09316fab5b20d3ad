"""Which tokens stay, decided alike by every engine.

Sorting operators order equal values differently from one engine to the next.  Here a token's rank is a count of
comparisons, its place a running count, so equal scores go by position and all engines keep the same tokens.  Counts
are exact in float32 up to 2 ** 24 tokens.  Nothing is larger than [batch, tokens, tokens].
"""

from __future__ import annotations

import torch
from torch import Tensor

_REAL = torch.finfo(torch.float32).max / 2
"""Beyond it, scores count as equal; above and below it lie the tokens that no score decides."""


def ordered(score: Tensor, valid: Tensor | None, protected: Tensor | None) -> Tensor:
    """Scores in which padding is below every real token and a protected token above.

    Args:
        score: Float [batch, tokens]; NaN counts as the lowest.
        valid, protected: As in ``View``.
    """
    score = score.to(torch.float32)
    score = torch.where(score >= -_REAL, score.clamp(max=_REAL), -_REAL)
    if valid is not None:
        score = torch.where(valid > 0, score, -2 * _REAL)
    if protected is not None:
        score = torch.where(protected > 0, 2 * _REAL, score)
    return score


def rank(score: Tensor, among: Tensor | None = None) -> Tensor:
    """How many come before each one, the greatest first and equal ones by position.

    Of a pair one comparison is enough: either the later one is greater, or the earlier one comes first.

    Args:
        score: float32 [..., tokens], without NaN.
        among: 1 for a pair that is compared, float32 [..., tokens, tokens], symmetric; None: all are.

    Returns:
        float32 [..., tokens].
    """
    place = torch.arange(score.shape[-1])
    later = (place.unsqueeze(0) > place.unsqueeze(1)).to(torch.float32)
    if among is not None:
        later = later * among
    overtaken = (score.unsqueeze(-2) > score.unsqueeze(-1)).to(torch.float32) * later
    return later.sum(-2) + overtaken.sum(-1) - overtaken.sum(-2)


def chosen(mask: Tensor, count: int) -> Tensor:
    """Indices of the ones, ascending.

    Args:
        mask: float32 [..., tokens] of 0 and 1, with ``count`` ones.

    Returns:
        int64 [..., count].
    """
    place = torch.arange(mask.shape[-1])
    until = (place.unsqueeze(1) <= place.unsqueeze(0)).to(torch.float32)
    seen = torch.matmul(mask.unsqueeze(-2), until)
    before = seen <= torch.arange(count).to(torch.float32).unsqueeze(-1)
    return before.to(torch.float32).sum(-1).to(torch.int64)


def best(score: Tensor, count: int, valid: Tensor | None, protected: Tensor | None) -> Tensor:
    """The ``count`` tokens of highest score, in their order.

    Args:
        score, valid, protected: As for ``ordered``.

    Returns:
        Indices, int64 [batch, count], ascending.
    """
    return chosen((rank(ordered(score, valid, protected)) < count).to(torch.float32), count)


def one_hot(index: Tensor, tokens: int) -> Tensor:
    """float32 [..., count, tokens] with a one where ``index`` [..., count] points."""
    return (index.unsqueeze(-1) == torch.arange(tokens)).to(torch.float32)
