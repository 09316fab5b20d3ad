"""In which order channels lie, so that blocks of successive rows hold what matters or nothing that does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_NEXT = 1024
"""Rows of the largest importance among which a group looks for its next one."""
_ROUNDS = 50
_IDLE = 8
"""Rounds without an exchange after which there is no other."""
_MOST = 256
"""Groups of one round: what it takes grows with their square."""
_LITTLE = 1e-7
"""Part of all importance for which nothing is exchanged."""


def order(importances: Sequence[Tensor], rows: int, share: float) -> Tensor | None:
    """Channels in the order in which they shall lie; None: no better one was found than the one they have.

    Groups are filled one after the other with the row of which most would stay.  Then, in each round, one row of each group
    leaves, drawn at random, and pairs of these change places as long as more would stay.  What a block needs to stay is taken as
    given meanwhile, and found anew for the next round.

    Args:
        importances: Of each layer that returns the channels, [channels, ...]; all layers count the same.
        rows: Of a block.
        share: Of blocks; in each layer so many of the least importance become zero.
    """
    parts = [one.flatten(1).double() for one in importances]
    table = _Table([(part / part.sum().clamp(min=1e-300)).float() for part in parts], rows, share)
    if not bool(table.all.isfinite().all()):
        return None
    given = torch.arange(len(table.all))
    best = found = _filled(table, table.needed(given))
    draw, idle = torch.Generator().manual_seed(0), 0
    for _ in range(_ROUNDS):
        after = _exchanged(table, found, draw)
        idle = idle + 1 if torch.equal(after, found) else 0
        found = after
        best = max(best, found, key=table.kept)
        if idle == _IDLE:
            break
    return best if table.kept(best) > table.kept(given) + _LITTLE else None


class _Table:
    """Importance of rows, by column of all layers."""

    def __init__(self, layers: Sequence[Tensor], rows: int, share: float) -> None:
        self.all, self.rows, self._widths = torch.cat(list(layers), 1), rows, [layer.shape[1] for layer in layers]
        blocks = [len(self.all) // rows * width for width in self._widths]
        self._counts = [count - math.floor(share * count + 0.5) for count in blocks]

    def sums(self, order: Tensor) -> Tensor:
        """Of blocks, [groups, columns]."""
        return self.all[order].view(-1, self.rows, self.all.shape[1]).sum(1)

    def kept(self, order: Tensor) -> float:
        """What stays, all layers together."""
        return sum(float(stays.double().sum()) for stays in self._stays(order))

    def needed(self, order: Tensor) -> Tensor:
        """What a block needs to stay, [columns]."""
        least = [stays[-1:] if len(stays) else torch.full((1,), torch.inf) for stays in self._stays(order)]
        return torch.cat([one.expand(width) for one, width in zip(least, self._widths, strict=True)])

    def _stays(self, order: Tensor) -> list[Tensor]:
        layers = torch.split(self.sums(order), self._widths, 1)
        return [layer.flatten().topk(count).values for layer, count in zip(layers, self._counts, strict=True)]


def _filled(table: _Table, needed: Tensor) -> Tensor:
    """Groups one after the other; one that is not full yet needs its part of what a block needs."""
    left, found = table.all.sum(1).argsort(descending=True, stable=True), list[int]()
    while len(left):
        sums = torch.zeros_like(needed)
        for size in range(1, table.rows + 1):
            gains = (table.all[left[:_NEXT]] + (sums - needed * size / table.rows)).clamp_(min=0).sum(1)
            place = int(gains.argmax())
            found.append(int(left[place]))
            sums += table.all[found[-1]]
            left = torch.cat([left[:place], left[place + 1 :]])
    return torch.tensor(found)


def _exchanged(table: _Table, order: Tensor, draw: torch.Generator) -> Tensor:
    """After one round."""
    groups = torch.randperm(len(order) // table.rows, generator=draw)[:_MOST]
    places = groups * table.rows + torch.randint(table.rows, (len(groups),), generator=draw)
    leave = table.all[order[places]]
    lacks = table.sums(order)[groups] - leave - table.needed(order)
    gains = torch.stack([(leave + one).clamp_(min=0).sum(1) for one in lacks])
    found = order.clone()
    found[places] = order[places][_assigned(gains)]
    return found


def _assigned(gains: Tensor) -> Tensor:
    """Which row each group gets: pairs of which each is the other's best exchange change places until there is none.

    Args:
        gains: [groups, rows], of which each group begins with the row of its number.
    """
    count = len(gains)
    numbers = found = torch.arange(count)
    while True:
        now = gains[:, found]
        own = now.diagonal()
        more = now + now.T - own[:, None] - own
        most, other = more.max(1)
        change = (other[other] == numbers) & (other != numbers) & (most > _LITTLE)
        if not bool(change.any()):
            return found
        found = torch.where(change, found[other], found)
