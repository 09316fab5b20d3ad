"""The one training loop of the reference models: AdamW and one cosine cycle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

WARMUP = 0.05


def fit(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor, float], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.05,
) -> float:
    """Trains in place and prints a line every fiftieth of the way.

    Args:
        model: What is trained; left in evaluation mode.
        batches: At least ``steps`` pairs of inputs and targets.
        loss: From inputs, targets and the fraction of the training that is done to a scalar.
        lr: Peak learning rate.
        weight_decay: Of every parameter with more than one axis.

    Returns:
        Minutes of wall time.
    """
    start = time.monotonic()
    optimizer = _adamw(model, lr, weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step / steps))
    model.train()
    for step in range(steps):
        value = loss(*next(batches), step / steps)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % max(steps // 50, 1) == 0 or step == steps - 1:
            print(f"step {step:6d}/{steps}  loss {value.item():.4f}  {time.monotonic() - start:6.0f} s", flush=True)
    model.eval()
    return (time.monotonic() - start) / 60


def cosine(done: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if done < WARMUP:
        return (done + 1e-3) / (WARMUP + 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def epochs(x: Tensor, y: Tensor, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end; the last, smaller one of an epoch is left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(x), generator=generator).split(batch):
            if len(chosen) == batch:
                yield x[chosen], y[chosen]


def accuracy(predict: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Percent of rows whose largest logit is the label's."""
    with torch.no_grad():
        right = sum(int((predict(a).argmax(-1) == b).sum()) for a, b in zip(x.split(250), y.split(250), strict=True))
    return 100 * right / len(x)


def _adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    kept = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr, betas=(0.9, 0.98))
