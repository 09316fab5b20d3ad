"""Integers instead of floats in a trained model, without training it again."""

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
from ..tried import kept_float
from .by_name import names
from .quantization import check
from .quantization.begin import Options, begin
from .quantization.budget import few_bits
from .quantization.calls import calls
from .quantization.finish import described, quantized
from .quantization.mixed import within_drop
from .quantization.plan import Plan
from .quantization.slower import too_slow
from .typed import mistyped


@dataclass(frozen=True)
class PTQ:
    """Post-training quantization: convolutions and linear layers multiply integers.

    Weights lie on a grid around 0 with a scale for each output, activations on one of 256 steps that is fixed by
    calibration (static) or found in each run (dynamic), sums are exact, and a result is rescaled once, in float32,
    and rounded half to even.  Batch norms are folded first.  What else stands between two such layers, sums, means of
    pixels and moves, works on integers too where it can.  Tables of embeddings and matrices of recurrent layers are stored
    as integers and read as floats.  With ``max_quality_drop=`` and ``evaluate=`` the layers that
    lose most stay float32, as few as the limit asks for.

    Args:
        weight_bits: 8 or 4.
        activation_bits: 8 or 4, of calibrated activations.
        activations: ``static``; ``dynamic``, for linear layers alone; ``float``: only weights are integers; ``auto``:
            linear layers between float operations, as in transformers, dynamic (but for LiteRT), everything else static.
        group_size: Weights of one output that share a scale, with ``activations="float"``; None: all of them; ``auto``: for
            each linear layer as many as go with at most 1.5 times the squared error of groups of 16.
        per_channel: One scale for each output, or one for all.
        symmetric: Zero points of activations are 0.
        ranges: How the ends of a grid are chosen: ``min-max``, ``percentile``, ``mse`` or ``entropy``.
        smooth: Whether differences between the channels of what a linear layer reads, or of what layers write and others
            read with residual sums on the way, go into weights, as far as calibration says that it helps (SmoothQuant).
        compensate: Whether weights are rounded one input after the other, with later ones making up for the error on
            calibration inputs (GPTQ); in depthwise convolutions that is worth most.
        equalize: Whether channels between two layers, with nothing or a ReLU between, are scaled so that weights of both are
            alike (cross-layer equalization); it needs no calibration.
        correct_bias: Whether biases take away the mean error of each output on calibration inputs.
        reconstruct: Steps for which weights, biases and scales of each block learn to give what it gives in float, on
            calibration inputs (BRECQ); some hundred are enough; 0: without.
        max_bytes: Bytes of the weights of all convolutions and linear layers with their scales.  Layers go down from 8 to 4
            bits, with the native engine to 3 and 2, first those whose weights change the outputs least for each byte,
            until this holds.
        exclude: Modules that stay float, by qualified name or pattern, with all that is inside: ``("head", "blocks.*.mlp")``.
        even_if_slower: Whether the model is quantized even if it was measured, where this machine is the device, to run
            slower than in float32; else it then stays float32, but for ``activations="float"``, which saves memory.

    Raises:
        OptionError: An option is out of range.

    Example:
        >>> sdk.export(model, device="host", methods=[sdk.methods.PTQ()], calibration=batches)  # doctest: +SKIP
    """

    weight_bits: int = 8
    activation_bits: int = 8
    activations: str = "auto"
    group_size: int | str | None = None
    per_channel: bool = True
    symmetric: bool = False
    ranges: str = "mse"
    smooth: bool = False
    compensate: bool = False
    equalize: bool = False
    correct_bias: bool = False
    reconstruct: int = 0
    max_bytes: int | None = None
    exclude: tuple[str, ...] = ()
    even_if_slower: bool = False

    name: ClassVar[str] = "ptq"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", names(self.exclude))
        wrong = mistyped(self) or Options.of(self).wrong()
        if wrong:
            raise OptionError(f"sdk.methods.PTQ: {'; '.join(wrong)}")

    def check(self, state: State, ctx: Context) -> list[Finding]:
        """What keeps the model from being quantized."""
        return check.problems(state, ctx, Options.of(self))

    def effect(self, workload: Workload, ctx: Context) -> Workload:
        """The workload with integers in all convolutions and linear layers."""
        return check.foretold(workload, self.weight_bits, self.max_bytes)

    def variants(self, workload: Workload, ctx: Context) -> Iterable[PTQ]:
        """The kinds of activations that go with the other options."""
        for kind in ("static", "dynamic", "float"):
            with suppress(OptionError):
                yield dataclasses.replace(self, activations=kind)

    def apply(self, state: State, ctx: Context) -> State:
        """The state with a module that computes what the device will."""
        given = calls(ctx.calibration or [(state.example.args, state.example.kwargs)], state.example)
        options = Options.of(self)

        def without(paths: tuple[str, ...]) -> Plan:
            return begin(state, dataclasses.replace(options, exclude=(*options.exclude, *paths)), ctx, given)

        plan, left, state = within_drop(begin(state, options, ctx, given), state, ctx, given, without)
        kept = f"; for max_quality_drop float32 stay {', '.join(left)}" if left else ""
        fewer = f"; for max_bytes {few_bits(plan)}" if self.max_bytes is not None else ""
        made = quantized(state, plan, given, (f"{self.name}: {described(plan, options)}{fewer}{kept}",), ctx)
        slow = None if self.even_if_slower or self.activations == "float" else too_slow(state, made, ctx)
        return made if slow is None else kept_float(state, f"{self.name}: {slow}")
