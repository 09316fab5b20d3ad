"""What is judged on verified files before they are sealed: quality, memory, latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from device_profiles import Choice
from device_profiles.errors import BudgetError, OptionError
from edgewright_runtime.bundle import Latency, Lowered
from edgewright_runtime.bundle.manifest import Manifest

from .plan import Plan

if TYPE_CHECKING:
    from edgewright_runtime.measure import Timing


def timed(several: Sequence[Lowered], threads: int) -> Sequence[Timing]:
    """Runs of verified or unverified files on this machine, in turns."""
    from edgewright_runtime.engines import engine_named
    from edgewright_runtime.measure import measure

    with ExitStack() as stack:
        calls = {}
        for number, lowered in enumerate(several):
            session = stack.enter_context(engine_named(lowered.engine).open(lowered, threads=threads))
            calls[str(number)] = partial(session.run, session.sample_inputs())
        return list(measure(calls).values())


@dataclass(frozen=True)
class Judge:
    """What is judged on the verified files, before they are sealed: quality, memory, latency."""

    evaluate: Callable[[Callable[..., Any]], float] | None
    max_quality_drop: float | None
    max_memory_bytes: int | None
    max_latency_s: float | None
    choice: Choice
    planned: Plan

    def module(self, state: Any, lowered: Lowered, manifest: Manifest) -> Manifest:
        """The manifest of a lowered module with what was measured.

        Raises:
            BudgetError: A limit is not met.
        """
        manifest = self._memory(manifest)
        return self._quality(state, lowered, self._latency(lowered, manifest))

    def onnx(self, lowered: Lowered, manifest: Manifest) -> Manifest:
        """The manifest of an ONNX file with what was measured."""
        if self.evaluate is not None:
            raise OptionError("evaluate= needs a PyTorch model to compare with; an .onnx file has none")
        return self._latency(lowered, self._memory(manifest))

    def _memory(self, manifest: Manifest) -> Manifest:
        need, limit = manifest.memory.bytes, self.max_memory_bytes
        if limit is not None and need > limit:
            raise BudgetError(f"the model needs {need} bytes ({manifest.memory.kind}), max_memory_bytes is {limit}")
        return manifest

    def _latency(self, lowered: Lowered, manifest: Manifest) -> Manifest:
        if self.choice.profile.id != "host":
            return manifest
        from edgewright_runtime.measure import machine

        (timing,) = timed([lowered], self.planned.threads)
        low, high = timing.quantile_s(0.05), timing.quantile_s(0.95)
        source = f"{len(timing.samples_s)} samples on {machine()['processor']}"
        latency = Latency(
            timing.median_s, low, high, 0.9, "measured", "host", lowered.engine, self.planned.threads, source
        )
        if self.max_latency_s is not None and timing.median_s > self.max_latency_s:
            raise BudgetError(
                f"one run takes {timing.median_s * 1e3:.3g} ms (measured on this machine), "
                f"max_latency_s is {self.max_latency_s * 1e3:g} ms"
            )
        return replace(manifest, latency=(latency,))

    def _quality(self, state: Any, lowered: Lowered, manifest: Manifest) -> Manifest:
        if self.evaluate is None:
            return manifest
        from edgewright_export.build import with_quality
        from edgewright_export.predict import module_predictor, session_predictor
        from edgewright_export.tried import quality_as_given

        known = quality_as_given(state)
        before = float(self.evaluate(module_predictor(state.reference))) if known is None else known
        with session_predictor(state.captured, lowered, self.planned.threads) as predict:
            after = float(self.evaluate(predict))
        if not (math.isfinite(before) and math.isfinite(after)):
            raise OptionError(
                f"evaluate returned {before} on the module and {after} on the files; expected finite numbers"
            )
        if self.max_quality_drop is not None and not before - after <= self.max_quality_drop:
            raise BudgetError(
                f"quality fell from {before:.6g} to {after:.6g}, by {before - after:.3g}; "
                f"max_quality_drop is {self.max_quality_drop:g}"
            )
        return with_quality(manifest, state.tried, before, after)
