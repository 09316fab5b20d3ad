"""Every new token a mixture of all old ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..attended import askers, attended
from ..select import best, one_hot, take
from ..view import Mixed, View

_FOREIGN = -1e30


@dataclass(frozen=True)
class Transform:
    """Zeng et al. 2025, "Token Transforming", section 3: a matrix from many tokens to many.

    The tokens that get the most attention become the new ones; every other token is shared out among them by the
    cosine of their hidden states.

    Args:
        sharpness: By how much a cosine is multiplied in the softmax that shares out; the greater, the nearer to
            merging into the most similar one.
    """

    sharpness: float = 20.0

    def reduce(self, view: View, count: int) -> Mixed:
        index = best(attended(view, askers(view)), count, view.valid, view.protected)
        own = one_hot(index, view.hidden.shape[1])
        hidden = normalize(view.hidden.to(torch.float32), dim=-1)
        similar = torch.matmul(take(hidden, index), hidden.transpose(-1, -2)) * self.sharpness
        fit = _fit(view, own)
        shared = torch.where(fit > 0, similar, torch.full_like(similar, _FOREIGN)).softmax(1) * fit
        return Mixed(own + shared * (1 - own.sum(1, keepdim=True)))


def _fit(view: View, own: Tensor) -> Tensor:
    """1 where a new token may take an old one in: it is not protected, and padding does not mix with what is real."""
    free = 1 - torch.matmul(own, view.protected.to(own.dtype).unsqueeze(-1))
    if view.valid is None:
        return free.expand_as(own)
    valid = view.valid.to(own.dtype)
    return free * (1 - (torch.matmul(own, valid.unsqueeze(-1)) - valid.unsqueeze(-2)).abs())
