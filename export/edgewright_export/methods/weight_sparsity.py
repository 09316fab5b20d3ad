"""Weights that are mostly zeros, and kernels that leave them out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, fx, nn

from device_profiles import Finding
from device_profiles.errors import OptionError
from edgewright_runtime.bundle import Workload
from edgewright_runtime.quiet import quiet

from ..state import Context, State
from ..training import seen, unlabelled
from ..training.batches import Batch
from ..training.square_head import blocks
from . import inside
from .by_name import are_names, names
from .quantization.calls import Call, calls
from .quantization.graph import open_graph
from .quantization.sites import Product
from .quantization.walk import is_open
from .sparsity import check, report, speed
from .sparsity.allocate import ALLOCATIONS, cheapest, measured, of_sizes
from .sparsity.choose import MOST_CANDIDATES, candidates
from .sparsity.importance import looked_at
from .sparsity.layers import Choice, layers
from .sparsity.learn import Lesson, learn
from .sparsity.make_up import made_up, write
from .sparsity.masks import Masks
from .sparsity.pattern import Pattern
from .sparsity.rearrange import rearranged
from .typed import mistyped

SCHEDULES = ("auto", "one-shot", "gradual", "regrow", "learned")
_SHARE = 0.8
_BATCH = 16
"""Calibration inputs of a batch."""


@dataclass(frozen=True)
class WeightSparsity:
    """Weight sparsity: most weights of convolutions and linear layers become zero, the others learn to do without them.

    Which weights become zero is a matter of what that costs the layer's result on calibration inputs (optimal brain
    surgeon).  Then the model learns from ``train=``, with the dense model as a teacher; where that is not passed, from the
    teacher alone on ``calibration=``.  Without ``calibration=`` the first 256 samples of ``train=`` are looked at.
    Convolutions with channels in groups and first convolutions of images stay dense.

    Args:
        sparsity: Share of zeros, 0 to 1; None: what ``speedup`` takes or an "N:M" pattern says, 0.8 for others.
        pattern: Which weights become zero together: a block ``(outputs, inputs)`` such as ``(4, 1)``, the one that kernels
            like best, or ``(4, 4)`` for weights that become integers, of which they leave out no other block; ``"group"``: such blocks after channels of the whole model changed places so that more of what matters
            stays; the model computes the same until then (SparseByteNN); ``"unstructured"``; ``"2:4"``: of 4 successive inputs
            2 stay.
        speedup: In the place of ``sparsity``: how many times as fast as the dense model it is to be on this machine, with as many
            zeros as that takes, where they save most time for what they cost (SPDY).
        schedule: ``one-shot``: all zeros at once, the other weights make up for them layer after layer, then training;
            ``gradual``: more and more zeros while it trains (Zhu and Gupta 2017); ``regrow``: so, and the zeros that would
            grow fastest come back (GraNet); ``learned``: which N of M stay is learned with the weights (MaskLLM); ``auto``:
            gradual with ``train=``, else one-shot.
        allocation: ``uniform``: the same share in each layer; ``weights``, ``macs``: that share of all weights or of all
            multiply-accumulates, more where that changes the model's outputs less; ``auto``: uniform with ``train=``, else
            weights.
        only: Modules that become sparse, by qualified name or pattern; empty: all that can.
        exclude: Modules that stay dense: ``("head", "blocks.*.mlp")``.
        steps: Batches of ``train=``, or of 16 calibration inputs, that are learned from; None: 1000, or 200.
        learning_rate: The highest of weights, with AdamW; None: 1e-3 for ``train=``, else 1e-4.
        distill: Whether outputs of the dense model, and of each block of it (SquareHead), are learned.
        subgraph: Whether a runtime that multiplies zeros gets the model as one operator, which our engine runs with kernels that
            leave them out; None: where that is faster, measured if the device is this machine.
        seed: Of everything random in training.

    Raises:
        OptionError: An option is out of range.

    Example:
        >>> sparse = sdk.methods.WeightSparsity(0.8, pattern=(4, 1))  # doctest: +SKIP
        >>> sdk.export(model, "host", methods=[sparse], train=(batches, loss))  # doctest: +SKIP
    """

    sparsity: float | None = None
    pattern: tuple[int, int] | str = (4, 1)
    speedup: float | None = None
    schedule: str = "auto"
    allocation: str = "auto"
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    steps: int | None = None
    learning_rate: float | None = None
    distill: bool = True
    subgraph: bool | None = None
    seed: int = 0

    name: ClassVar[str] = "weight-sparsity"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for field in ("only", "exclude"):
            object.__setattr__(self, field, names(getattr(self, field)))
        if isinstance(self.pattern, list):
            object.__setattr__(self, "pattern", tuple(self.pattern))
        wrong = mistyped(self) or [text for bad, text in self._rules() if bad]
        if wrong:
            raise OptionError(f"sdk.methods.WeightSparsity: {'; '.join(wrong)}")

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        try:
            own = Pattern.read(self.pattern).sparsity
        except ValueError as error:
            return ((True, str(error)),)
        share = self.sparsity
        return (
            (share is not None and not 0 <= share <= 1, f"sparsity {share!r} is not between 0 and 1"),
            (None not in (share, own) and share != own, f"sparsity {share!r} is not the {own} of pattern {self.pattern!r}"),
            *self._rules_of_speed(own),
            (self.schedule not in SCHEDULES, f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}"),
            (self.allocation not in ALLOCATIONS, f"allocation {self.allocation!r} is none of {', '.join(ALLOCATIONS)}"),
            (
                own is not None and self.allocation not in ("auto", "uniform"),
                f"pattern {self.pattern!r} says the share of each layer",
            ),
            (own is not None and self.schedule == "regrow", f"pattern {self.pattern!r} has nothing that could come back"),
            (own is None and self.schedule == "learned", f"schedule 'learned' chooses N of M; pattern is {self.pattern!r}"),
            (
                self.schedule == "learned" and candidates(self._pattern) > MOST_CANDIDATES,
                f"pattern {self.pattern!r} has more than {MOST_CANDIDATES} ways to choose from",
            ),
            (not are_names(self.only), f"only {self.only!r} is no tuple of module names or patterns"),
            (not are_names(self.exclude), f"exclude {self.exclude!r} is no tuple of module names or patterns"),
            (
                self.steps is not None and (type(self.steps) is not int or self.steps < 0),
                f"steps {self.steps!r} is no number of batches from 0",
            ),
            (
                self.learning_rate is not None and not 0 < self.learning_rate < 1,
                f"learning_rate {self.learning_rate!r} is not between 0 and 1",
            ),
        )

    def _rules_of_speed(self, own: float | None) -> tuple[tuple[bool, str], ...]:
        if self.speedup is None:
            return ()
        return (
            (not 1 < self.speedup < float("inf"), f"speedup {self.speedup!r} is not above 1"),
            (own is not None, f"speedup chooses how many zeros there are, which pattern {self.pattern!r} says"),
            (self.sparsity is not None, "speedup and sparsity both say how many zeros there are; pass one"),
            (self.allocation != "auto", f"speedup chooses the share of each layer, and allocation is {self.allocation!r}"),
        )

    def check(self, state: State, ctx: Context) -> list[Finding]:
        """What keeps the model from becoming sparse."""
        learns = self.steps != 0
        found = speed.problems(ctx, self.subgraph) if self.speedup is not None else []
        return found + check.problems(state, ctx, self._choice, self.schedule, learns=learns, alone=learns and not self.distill)

    def effect(self, workload: Workload, ctx: Context) -> Workload:
        """The workload with zeros in all convolutions and linear layers."""
        ops = (replace(op, sparsity=self._share) if op.kind in ("conv", "linear") else op for op in workload.ops)
        return replace(workload, ops=tuple(ops))

    def variants(self, workload: Workload, ctx: Context) -> Iterable[WeightSparsity]:
        """Fewer and more zeros; a pattern that says how many is the only one."""
        if self._pattern.sparsity is not None or self.speedup is not None:
            return (self,)
        return (replace(self, sparsity=share) for share in (0.5, 0.7, 0.8, 0.9))

    def apply(self, state: State, ctx: Context) -> State:
        """The state with a sparse module."""
        ctx = seen.calibrated(ctx, state.example, self.seed)
        assert ctx.calibration is not None
        given, moved = calls(ctx.calibration, state.example), ""
        if self._pattern.rearranged:
            state, moved = rearranged(state, self._choice, self._share, given)
        graph = open_graph(state)
        with quiet():
            module = copy.deepcopy(state.module)
        found = layers(graph, dict(module.named_parameters(remove_duplicate=False)), self._choice)
        known = looked_at(graph, found.sparse, given)
        shares, fast = self._shares(state, ctx, graph, found.sparse, known, given)
        masks = Masks(module, self._pattern, shares, known)
        lesson = self._lesson(ctx, blocks(module, [product.path for product in found.sparse]))
        if lesson.schedule == "one-shot":
            masks.choose()
            write(module, made_up(graph, found.sparse, masks.kept, given))
        losses = learn(module, state.module, masks, *self._data(ctx, state.module, graph, given), lesson) if lesson.steps else None
        rows = report.rows(module, found, self.pattern)
        wanted = self.subgraph if self.speedup is None else True
        made, where = inside.placed(replace(state, module=module, sparse=rows, captured=None), ctx, wanted)
        return replace(made, changes=(*state.changes, f"{self.name}: {report.described(rows, lesson, losses)}{moved}{fast}{where}"))

    @property
    def engines(self) -> tuple[str, ...]:
        """Those that run the model faster than as many numbers without zeros."""
        return ("native",) if self.speedup is not None or self._share >= inside.ENOUGH else ()

    @property
    def _pattern(self) -> Pattern:
        return Pattern.read(self.pattern)

    @property
    def _choice(self) -> Choice:
        return Choice(self._pattern, self.only, self.exclude)

    @property
    def _share(self) -> float:
        own = self._pattern.sparsity
        return own if own is not None else _SHARE if self.sparsity is None else self.sparsity

    def _shares(
        self,
        state: State,
        ctx: Context,
        graph: fx.GraphModule,
        found: Sequence[Product],
        known: Mapping[str, Tensor],
        given: Sequence[Call],
    ) -> tuple[dict[str, float], str]:
        kind = self.allocation
        if kind == "auto":
            kind = "uniform" if ctx.train is not None or self._pattern.sparsity is not None else "weights"
        if kind == "uniform" and self.speedup is None:
            return {product.weight: self._share for product in found}, ""
        costs = measured(graph, found, known, self._pattern, given)
        if self.speedup is not None:
            return speed.fast_enough(state, found, costs, lambda shares: self._zeroed(state, shares, known), self.speedup, ctx)
        sizes = {p.weight: float(p.macs if kind == "macs" else known[p.weight].numel()) for p in found}
        return cheapest(costs, of_sizes(sizes), self._share * sum(sizes.values())), ""

    def _zeroed(self, state: State, shares: Mapping[str, float], known: Mapping[str, Tensor]) -> nn.Module:
        module = copy.deepcopy(state.module)
        Masks(module, self._pattern, shares, known).choose()
        return module

    def _lesson(self, ctx: Context, parts: Sequence[str]) -> Lesson:
        trains = ctx.train is not None
        steps = self.steps if self.steps is not None else 1000 if trains else 200
        steps = steps if trains or self.distill else 0
        schedule = self.schedule if self.schedule != "auto" else "gradual" if trains and steps else "one-shot"
        rate = self.learning_rate if self.learning_rate is not None else 1e-3 if trains else 1e-4
        return Lesson(schedule, steps, rate, self.distill, tuple(parts), trains, self.seed)

    @staticmethod
    def _data(
        ctx: Context, module: nn.Module, graph: fx.GraphModule, given: Sequence[Call]
    ) -> tuple[Iterator[Batch], Callable[..., Any] | None]:
        if ctx.train is not None:
            return ctx.train.endless(), ctx.train.loss
        together = is_open(graph) and not isinstance(module, fx.GraphModule)  # exported modules refuse other shapes
        return unlabelled.batches([(call.args, call.kwargs) for call in given], _BATCH if together else 1), None
