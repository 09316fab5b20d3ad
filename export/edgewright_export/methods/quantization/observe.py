"""What values a graph has on calibration inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from .calls import Call, run
from .graph import tapped

_SAMPLE = 1 << 17
"""Values that are kept of each node, drawn evenly from all inputs."""


@dataclass
class Seen:
    """Values of one node.

    Args:
        least: The lowest of all.
        most: The highest of all.
        sample: Some of them, [count].
    """

    least: float
    most: float
    sample: Tensor


def observe(module: fx.GraphModule, names: Iterable[str], given: Sequence[Call]) -> dict[str, Seen]:
    """Runs calibration inputs and collects what these nodes return."""
    seen: dict[str, Seen] = {}
    share = max(1, _SAMPLE // len(given))
    draw = torch.Generator().manual_seed(0)

    def collect(name: str, value: Tensor) -> None:
        flat = value.detach().flatten().float()
        least, most = float(flat.min()), float(flat.max())
        if flat.numel() > share:
            flat = flat[torch.randint(flat.numel(), (share,), generator=draw)]
        if name in seen:
            old = seen[name]
            least, most, flat = min(old.least, least), max(old.most, most), torch.cat([old.sample, flat])
        seen[name] = Seen(least, most, flat)

    run(tapped(module, names, collect), given)
    return seen
