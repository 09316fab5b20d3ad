"""A model learns to do with fewer weights what it did with all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...training.batches import Batch
from ...training.distill import labelled, outputs_apart, ran
from ...training.loop import fit
from ...training.square_head import outputs_of, square_head
from .choose import RATE, Choosing
from .masks import Masks

_PRUNED = 0.5
"""Part of the steps after which a gradual schedule is through."""
_CHANGES = 60
"""How often masks are chosen anew until then."""
_MOVING = 0.75
"""Part of the steps after which statistics of batch norms stay."""
_REGROWN = 0.5
"""Part of the weights that is chosen by gradients in the beginning; it goes down to none with a cosine."""


@dataclass(frozen=True)
class Lesson:
    """How a sparse model learns.

    Args:
        schedule: ``one-shot``, ``gradual``, ``regrow`` or ``learned``.
        steps: Batches that are learned from.
        rate: Highest learning rate.
        distill: Whether the dense model is a teacher.
        blocks: Paths of the parts whose outputs are compared with the teacher's.
        moves: Whether statistics of batch norms move with the batches.
        seed: Of everything random.
    """

    schedule: str
    steps: int
    rate: float
    distill: bool
    blocks: tuple[str, ...]
    moves: bool
    seed: int


def learn(
    student: nn.Module,
    teacher: nn.Module,
    masks: Masks,
    batches: Iterable[Batch],
    loss: Callable[[Any, Any], Any] | None,
    lesson: Lesson,
) -> tuple[float, float]:
    """Trains a module in place; what is masked is zero in the end.

    Args:
        student: The module.
        teacher: The dense one.
        masks: Of the student.
        batches: As many as the lesson has steps.
        loss: From outputs and targets to a scalar; None: there are no labels.
        lesson: How.

    Returns:
        The mean loss of the first and of the last tenth of the steps.
    """
    step = _Step(student, teacher, masks, loss, lesson)
    try:
        return fit(step.rates, batches, step, steps=lesson.steps, seed=lesson.seed)
    finally:
        step.end()


class _Step:
    """The loss of a batch; masks and statistics change on the way."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        masks: Masks,
        loss: Callable[[Any, Any], Any] | None,
        lesson: Lesson,
    ) -> None:
        self._student, self._teacher, self._masks = student, teacher, masks
        self._loss, self._lesson, self._step = loss, lesson, 0
        self._last = math.ceil(_PRUNED * lesson.steps)
        self._norms = [part for part in student.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
        self._choosing = Choosing(student, masks) if lesson.schedule == "learned" else None
        self.rates = [(student, lesson.rate), *([(self._choosing, RATE)] if self._choosing else [])]
        self._move(lesson.moves)

    def __call__(self, batch: Batch) -> Tensor:
        self._prepare()
        student = self._choosing if self._choosing and self._step < self._last else self._student
        self._step += 1
        total = torch.zeros(())
        if not self._lesson.distill:
            outputs = ran(student, batch)
        else:
            with torch.no_grad(), outputs_of(self._teacher, self._lesson.blocks) as theirs:
                wanted = ran(self._teacher, batch)
            with outputs_of(self._student, self._lesson.blocks) as ours:
                outputs = ran(student, batch)
            total = outputs_apart(outputs, wanted, batch.targets) + square_head(ours, theirs)
        return total if self._loss is None else total + labelled(self._loss, outputs, batch.targets)

    def end(self) -> None:
        """Statistics stay, and zeros are zeros, all of them."""
        self._move(False)
        if self._lesson.schedule == "one-shot" or self._step > self._last:
            self._masks.apply()
        elif self._choosing:
            self._choosing.decide()
        else:
            self._masks.choose()

    def _prepare(self) -> None:
        lesson, step = self._lesson, self._step
        every = max(1, self._last // _CHANGES)
        if self._choosing and step <= self._last:
            self._choosing.go_on(step / self._last)
            if step == self._last:
                self._choosing.decide()
        elif lesson.schedule == "one-shot" or step > self._last or (step % every and step != self._last):
            self._masks.apply()
        else:
            part = step / self._last
            regrown = 0.5 * _REGROWN * (1 + math.cos(math.pi * part)) if lesson.schedule == "regrow" else 0.0
            self._masks.choose(cubic(part), regrown)
        if step >= _MOVING * lesson.steps:
            self._move(False)

    def _move(self, yes: bool) -> None:
        for norm in self._norms:
            norm.train(yes)


def cubic(part: float) -> float:
    """Part of the zeros that are there when this part of the way is done (Zhu and Gupta 2017, "To prune, or not to prune")."""
    return 1 - (1 - part) ** 3
