"""What flows through an export: from the user's arguments to the unsealed files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from device_profiles import DeviceProfile, EngineRow
from edgewright_runtime.bundle import Cycles, Latency, Workload
from edgewright_runtime.bundle.manifest import Layer, QuantizedLayer, SparseLayer, Tried

from .annotations import Annotation

if TYPE_CHECKING:
    from edgewright_runtime.bundle.lowered import StepTime
    from edgewright_runtime.measure import Timing

    from .flat import Captured
    from .training.batches import Train


@dataclass(frozen=True)
class Recipe:
    """What the planner searches over; picklable.

    Args:
        methods: Edge methods in the order of application.
        target: Key of ``registry.TARGETS``.
        threads: Threads of the engine.
    """

    methods: tuple[Any, ...]
    target: str
    threads: int


@dataclass(frozen=True)
class Example:
    """Inputs that the model accepts.

    Args:
        args: Positional inputs of ``forward``.
        kwargs: Named inputs of ``forward``.
        source: Where they came from, one phrase.
        dynamic_shapes: As ``torch.export.export`` takes them, or None.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    source: str
    dynamic_shapes: Any = None


@dataclass(frozen=True)
class State:
    """The module on its way through the methods.

    Args:
        module: In evaluation mode, on the CPU.
        example: Inputs that it accepts.
        reference: The user's module as it was given: what quality is compared with.
        annotations: By qualified module path.
        changes: One line for each thing that was done.
        layers: What methods that drop tokens save, part by part.
        quantized: What methods that quantize did, layer by layer.
        sparse: Where methods put zeros, layer by layer.
        quantization: The grid in words, None while all is float.
        steady_db: How well a quantized module agrees with itself when float operations round otherwise, None while all is
            float.
        subgraph: Whether the whole model is to be one operator of the target's engine, which the native engine runs; None: not
            while it is float32, as the target's engine does as well.
        tried: What the module might have become, first ``reference``; that whose quality is not known yet may be the
            one that is chosen.
        captured: The graph of ``module``; set once the methods are through.
    """

    module: torch.nn.Module
    example: Example
    reference: torch.nn.Module
    annotations: Mapping[str, tuple[Annotation, ...]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    quantized: tuple[QuantizedLayer, ...] = ()
    sparse: tuple[SparseLayer, ...] = ()
    quantization: Mapping[str, str] | None = None
    steady_db: float | None = None
    subgraph: bool | None = False
    tried: tuple[Tried, ...] = ()
    captured: Captured | None = None


@dataclass(frozen=True)
class Budget:
    """Limits that a method may spend; None: not limited."""

    quality_drop: float | None = None
    latency_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Context:
    """What a method may look at besides the state.

    Args:
        target: Key of ``registry.TARGETS``.
        device: The board.
        engine: Its engine row.
        price: Seconds or cycles of a workload, None where it has no answer.
        time: Runs of states' modules, lowered and measured on the device in turns; None where that cannot be.
        profile: Of states' modules, run in turns by the native engine on the device, what each step takes; None where that
            cannot be.
        calibration: Tuples of example inputs.
        train: Batches and loss, None if the user passed none.
        evaluate: What the user passed as ``evaluate``.
        budget: Limits.
    """

    target: str
    device: DeviceProfile
    engine: EngineRow
    price: Callable[[Workload], Latency | Cycles | None]
    time: Callable[[Sequence[State]], Sequence[Timing] | None]
    profile: Callable[[Sequence[State]], Sequence[Sequence[StepTime]] | None]
    calibration: Iterable[tuple[Any, ...]] | None
    train: Train | None
    evaluate: Callable[[Callable[..., Any]], float] | None
    budget: Budget
