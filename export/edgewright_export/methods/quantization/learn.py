"""Training of a simulated graph: its weights learn to be whole steps, its grids where to lie."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edgewright_runtime.quiet import quiet

from ...training.batches import Batch, Train
from ...training.distill import labelled, outputs_apart, ran
from ...training.loop import fit
from .attention import Watched, apart, attention_sites
from .plan import Plan, learned, simulated
from .room import with_room_for_biases
from .simulate import Scale

_SCALE_RATE = 1e-3
"""Highest learning rate of the logarithm of a scale."""


@dataclass(frozen=True)
class Lesson:
    """How a graph is trained.

    Args:
        steps: Batches that are learned from.
        rate: Highest learning rate of weights.
        distill: Whether the float graph is a teacher.
        attention: Weight of the losses that keep attention what it is in the float graph, 0: without.
        seed: Of everything random.
    """

    steps: int
    rate: float
    distill: bool
    attention: float
    seed: int


def learn(plan: Plan, train: Train, lesson: Lesson) -> tuple[Plan, tuple[float, float]]:
    """A plan with weights, biases and grids that were learned.

    Returns:
        The plan, and the mean loss of the first and of the last tenth of the steps.
    """
    with quiet():
        teacher = copy.deepcopy(plan.module)
    student = simulated(plan)
    loss = _Loss(student, teacher, train, lesson)
    scales = nn.ModuleList([module for module in student.modules() if _is_scale(module)])
    own = {id(p) for p in scales.parameters()}
    others = nn.ParameterList([p for p in student.parameters() if id(p) not in own])
    losses = fit(
        ((others, lesson.rate), (scales, _SCALE_RATE)), train.endless(), loss, steps=lesson.steps, seed=lesson.seed
    )
    return with_room_for_biases(learned(plan, student)), losses


def _is_scale(module: nn.Module) -> bool:
    return isinstance(module, Scale)


class _Loss:
    """The user's loss, the distance from the teacher's outputs, that from its attention."""

    def __init__(self, student: fx.GraphModule, teacher: fx.GraphModule, train: Train, lesson: Lesson) -> None:
        self._train, self._lesson = train, lesson
        self._sites = attention_sites(teacher) if lesson.attention else ()
        self._student, self._teacher = Watched(student, self._sites), Watched(teacher, self._sites)

    def __call__(self, batch: Batch) -> Tensor:
        total = torch.zeros(())
        outputs = ran(self._student.module, batch)
        if self._lesson.distill or self._sites:
            with torch.no_grad():
                wanted = ran(self._teacher.module, batch)
        if self._lesson.distill:
            total = total + outputs_apart(outputs, wanted, batch.targets)
        for site in self._sites:
            apart_here = apart(site, self._student.values, self._teacher.values)
            total = total + self._lesson.attention / len(self._sites) * apart_here
        return total if self._train.loss is None else total + labelled(self._train.loss, outputs, batch.targets)
