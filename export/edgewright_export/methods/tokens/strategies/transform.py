"""Every new token a mixture of many old ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..attended import attended_by_protected, standing_out
from ..select import best, one_hot
from ..view import Mixed, View

_UNFIT = -1e30


@dataclass(frozen=True)
class Transform:
    """Zeng et al. 2025, "Token Transforming", section 3: a matrix from many tokens to many.

    The tokens that get the most attention become the new ones.  Every other token is shared out among them, by the
    cosine of their keys, the mean of all heads; so nothing is lost, and tokens that could go to several do.

    Args:
        sharpness: What cosines are multiplied by before the softmax that makes shares of them; the greater, the
            nearer it comes to merging each token into the most similar one.
        reach: See ``Attention``.
    """

    sharpness: float = 100.0
    reach: int = 2

    def reduce(self, view: View, count: int) -> Mixed:
        score = standing_out(view, attended_by_protected(view), self.reach)
        own = one_hot(best(score, count, view.valid, view.protected), view.hidden.shape[1])
        key = normalize(view.key.mean(1).to(torch.float32), dim=-1)
        similar = torch.matmul(torch.matmul(own, key), key.transpose(-1, -2)) * self.sharpness
        fit = _fit(view, own)
        shared = torch.where(fit > 0, similar, _UNFIT).softmax(1) * fit
        return Mixed((own + shared * (1 - own.sum(1, keepdim=True))).to(view.hidden.dtype))


def _fit(view: View, own: Tensor) -> Tensor:
    """1 where a new token may take an old one in: it is not protected, and padding does not mix with what is real."""
    free = 1 - torch.matmul(own, view.protected.to(own.dtype).unsqueeze(-1))
    if view.valid is None:
        return free.expand_as(own)
    valid = view.valid.to(own.dtype)
    return free * (1 - (torch.matmul(own, valid.unsqueeze(-1)) - valid.unsqueeze(-2)).abs())
