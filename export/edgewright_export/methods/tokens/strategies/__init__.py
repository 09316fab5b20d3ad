"""Ways to choose which tokens go: one file each, one line in ``STRATEGIES``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..view import Strategy
from .attention import Attention
from .merge import Merge
from .partition import Partition
from .pyramid import Pyramid
from .query import Query
from .rows import Rows
from .transform import Transform

Stages = Callable[[int], tuple[int, ...]]
"""From the number of blocks to those behind which tokens go."""


def first_third(blocks: int) -> tuple[int, ...]:
    """Behind each block of the first third: little has been spent by then, and no stage takes much at once."""
    return tuple(range(max(1, blocks // 3)))


def quarters(blocks: int) -> tuple[int, ...]:
    """At a quarter, half and three quarters of the depth."""
    return tuple(sorted({max(1, blocks * part // 4) - 1 for part in (1, 2, 3)}))


def early(blocks: int) -> tuple[int, ...]:
    """Once, at a sixth of the depth."""
    return (max(1, blocks // 6) - 1,)


class Row(NamedTuple):
    """A strategy, behind which blocks it works by default, and whether its new tokens are mixtures of old ones."""

    strategy: type[Strategy]
    stages: Stages
    mixes: bool


STRATEGIES = {
    "merge": Row(Merge, first_third, True),
    "transform": Row(Transform, first_third, True),
    "attention": Row(Attention, first_third, False),
    "pyramid": Row(Pyramid, quarters, False),
    "partition": Row(Partition, first_third, False),
    "rows": Row(Rows, first_third, False),
    "query": Row(Query, early, False),
}
