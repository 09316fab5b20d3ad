"""The one training loop: AdamW, a short warm-up, half a cosine down, clipped gradients."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from device_profiles.errors import MethodError

from .batches import Batch

progress = logging.getLogger("edgewright.progress")
_WARMUP = 0.05
_DECAY = 0.01
_LARGEST_GRADIENT = 1.0


def fit(
    modules: Sequence[nn.Module],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    steps: int,
    lr: float,
    seed: int = 0,
) -> tuple[float, float]:
    """Trains modules in place.

    They stay in evaluation mode: statistics of normalization are frozen and nothing is dropped out.  The random
    numbers of the caller are as before.

    Args:
        modules: All of their parameters are trained, those that ask for no gradient too.
        batches: At least ``steps``.
        loss: From a batch to a scalar.
        steps: Batches that are learned from.
        lr: Highest learning rate.
        seed: Of everything random, shuffling by a data loader among it.

    Returns:
        Mean loss of the first and of the last tenth of the steps.

    Raises:
        MethodError: The loss is no longer a number.
    """
    values: list[float] = []
    with _learning(modules) as parameters, seeded(seed), torch.enable_grad():
        optimizer = _adamw(parameters, lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate((step + 1) / steps))
        for step, batch in zip(range(steps), batches, strict=False):
            value = loss(batch)
            values.append(value.item())
            if not math.isfinite(values[-1]):
                raise MethodError(f"training: the loss is {values[-1]} in step {step + 1} of {steps}; look at train=")
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            progress.info("training: step %d of %d, loss %.4f", step + 1, steps, values[-1])
    some = max(1, steps // 10)
    return sum(values[:some]) / some, sum(values[-some:]) / some


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers begin at a seed; those of the caller go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _learning(modules: Sequence[nn.Module]) -> Iterator[list[nn.Parameter]]:
    """All parameters ask for a gradient; afterwards they are as before but for their values."""
    given = [p for module in modules for p in module.parameters() if p.is_floating_point()]
    asked = [p.requires_grad for p in given]
    try:
        yield [p.requires_grad_() for p in given]
    finally:
        for parameter, before in zip(given, asked, strict=True):
            parameter.requires_grad_(before)
            parameter.grad = None


def _adamw(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.AdamW:
    """Only what has more than one axis decays."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in parameters:
        groups[parameter.dim() > 1].append(parameter)
    return torch.optim.AdamW([{"params": p, "weight_decay": _DECAY * decays} for decays, p in groups.items()], lr)


def _rate(done: float) -> float:
    """Share of the highest learning rate."""
    if done < _WARMUP:
        return done / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))
