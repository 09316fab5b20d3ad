"""The one training loop: AdamW, a short warm-up, half a cosine down, clipped gradients."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from device_profiles.errors import MethodError

from .batches import Batch

progress = logging.getLogger("edgewright.progress")
_WARMUP = 0.05
_DECAY = 0.01
_LARGEST_GRADIENT = 1.0


def fit(
    rates: Sequence[tuple[nn.Module, float]],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    steps: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Trains modules in place.

    They stay in evaluation mode: statistics of normalization are frozen and nothing is dropped out.  The random
    numbers of the caller are as before.

    Args:
        rates: Modules with their highest learning rates; all of their parameters are trained, those that ask for no
            gradient too.
        batches: At least ``steps``.
        loss: From a batch to a scalar.
        steps: Batches that are learned from.
        seed: Of everything random, shuffling by a data loader among it.

    Returns:
        Mean loss of the first and of the last tenth of the steps.

    Raises:
        MethodError: The loss is no longer a number.
    """
    values: list[float] = []
    parameters = [p for module, _ in rates for p in module.parameters() if p.is_floating_point()]
    with _learning(parameters), seeded(seed), torch.enable_grad():
        optimizer = torch.optim.AdamW([group for module, rate in rates for group in _groups(module, rate)])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate((step + 0.5) / steps))
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
def _learning(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters ask for a gradient; afterwards they are as before but for their values."""
    asked = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_()
        yield
    finally:
        for parameter, before in zip(parameters, asked, strict=True):
            parameter.requires_grad_(before)
            parameter.grad = None


def _groups(module: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Only what has more than one axis decays."""
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    decaying, other = ([p for p in parameters if (p.dim() > 1) is decays] for decays in (True, False))
    return [
        {"params": decaying, "lr": rate, "weight_decay": _DECAY},
        {"params": other, "lr": rate, "weight_decay": 0.0},
    ]


def _rate(done: float) -> float:
    """Share of the highest learning rate."""
    if done < _WARMUP:
        return done / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))
