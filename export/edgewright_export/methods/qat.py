"""Integers instead of floats in a trained model that learns to live with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from device_profiles import Finding
from device_profiles.errors import OptionError
from edgewright_runtime.bundle import Workload

from ..state import Context, State
from ..training import seen
from ..tried import kept_float
from .by_name import names
from .inside import placed_integers
from .quantization import check
from .quantization.begin import Options, begin
from .quantization.calls import calls
from .quantization.finish import bare, described, quantized, require_fit
from .quantization.learn import Lesson, learn
from .quantization.slower import too_slow
from .quantization.tried import with_both
from .typed import mistyped


@dataclass(frozen=True)
class QAT:
    """Quantization-aware training: the model is trained on the grids on which it will run.

    It begins as :class:`~.ptq.PTQ` ends.  Then weights, biases, what else the model learns, and the scales of all grids
    are trained, with rounding in the way forward and none in the way back (Jacob et al. 2018, "Quantization and training
    of neural networks for efficient integer-arithmetic-only inference"; Esser et al. 2020, "Learned step size
    quantization").  Batch norms are folded before, so their statistics stay.  Without ``calibration=`` the first
    256 samples of ``train=`` calibrate.

    Args:
        weight_bits, activation_bits, activations, per_channel, symmetric, ranges, smooth, exclude: As for PTQ.
        fixed_point: Whether all scales are powers of two and all zero points 0, so that numbers have a binary point, which
            is learned (QFX); ``activations`` is then ``static`` and ``symmetric`` True.
        power_of_two: Whether weights are sums of at most two powers of two, which shifts can multiply.
        important_tokens: Share of the tokens whose activations keep 8 bits in the linear layers behind an attention that read
            [batch, tokens, channels]; all others have 4 (EdgeQAT).  Important is what the first token pays attention to or,
            where no token sees later ones, what itself pays most to the first.  None: all keep 8.  No engine is faster with
            fewer bits: it is for hardware that is.
        steps: Batches of ``train=`` that are learned from.
        learning_rate: The highest of weights, with AdamW.
        distill: Whether outputs of the float model are learned too.
        attention: Weight of EdgeQAT's losses: entropy of queries and keys, and distribution of attention, like the float
            model's; 0: without.
        seed: Of everything random in training.
        even_if_slower: As for PTQ; it is measured before training.

    Raises:
        OptionError: An option is out of range.

    Example:
        >>> qat = sdk.methods.QAT(weight_bits=4, steps=500)  # doctest: +SKIP
        >>> sdk.export(model, "host", methods=[qat], calibration=some, train=(batches, loss))  # doctest: +SKIP
    """

    weight_bits: int = 8
    activation_bits: int = 8
    activations: str = "auto"
    per_channel: bool = True
    symmetric: bool = False
    ranges: str = "mse"
    smooth: bool = False
    exclude: tuple[str, ...] = ()
    fixed_point: bool = False
    power_of_two: bool = False
    important_tokens: float | None = None
    steps: int = 1000
    learning_rate: float = 1e-4
    distill: bool = True
    attention: float = 0.0
    seed: int = 0
    even_if_slower: bool = False

    name: ClassVar[str] = "qat"
    needs: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", names(self.exclude))
        if self.fixed_point and self.activations == "auto":
            object.__setattr__(self, "activations", "static")
            object.__setattr__(self, "symmetric", True)
        wrong = mistyped(self) or [*Options.of(self).wrong(), *(text for bad, text in self._rules() if bad)]
        if wrong:
            raise OptionError(f"sdk.methods.QAT: {'; '.join(wrong)}")

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        return (
            (type(self.steps) is not int or self.steps < 1, f"steps {self.steps!r} is no number of batches from 1"),
            (not 0 < self.learning_rate < 1, f"learning_rate {self.learning_rate!r} is not between 0 and 1"),
            (not self.attention >= 0, f"attention {self.attention!r} is negative"),
        )

    def check(self, state: State, ctx: Context) -> list[Finding]:
        """What keeps the model from being quantized."""
        return check.problems(state, seen.calibrated(ctx, state.example, self.seed), Options.of(self))

    def effect(self, workload: Workload, ctx: Context) -> Workload:
        """The workload with integers in all convolutions and linear layers."""
        return check.foretold(workload, self.weight_bits)

    def variants(self, workload: Workload, ctx: Context) -> Iterable[QAT]:
        """The kinds of activations that go with the other options."""
        for kind in ("static", "dynamic", "float"):
            with suppress(OptionError):
                yield dataclasses.replace(self, activations=kind)

    def apply(self, state: State, ctx: Context) -> State:
        """The state with a module that computes what the device will."""
        ctx = seen.calibrated(ctx, state.example, self.seed)
        assert ctx.calibration is not None and ctx.train is not None
        given = calls(ctx.calibration, state.example)
        lesson = Lesson(self.steps, self.learning_rate, self.distill, self.attention, self.seed)
        begun = begin(state, Options.of(self), ctx, given)
        state = with_both(state, begun)
        untrained = bare(state, begun)
        require_fit(untrained, ctx)
        untrained, _ = placed_integers(untrained, state, ctx)
        slow = None if self.even_if_slower or self.activations == "float" else too_slow(state, untrained, ctx)
        if slow is not None:
            return kept_float(state, f"{self.name}: {slow}")
        plan, (first, last) = learn(begun, ctx.train, lesson)
        trained = f"trained on {self.steps} batches, loss {first:.3g} -> {last:.3g}"
        return quantized(state, plan, given, (f"{self.name}: {described(plan, Options.of(self))}; {trained}",), ctx)
