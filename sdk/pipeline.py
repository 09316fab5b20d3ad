"""From the user's one call to the sealed bundle: plan, build.  The only reader of ``max_*``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from device_profiles import Choice, Finding, choose
from device_profiles.errors import (
    BudgetError,
    DependencyError,
    EdgewrightError,
    MethodError,
    OptionError,
)
from edgewright_runtime.bundle.manifest import digest
from edgewright_runtime.engines import installed
from edgewright_runtime.preprocess import Classify, Image

from . import place, say
from .bundle import Bundle
from .judge import Judge, timed
from .plan import Plan, plan

if TYPE_CHECKING:
    from edgewright_runtime.bundle.lowered import Lowered, StepTime
    from edgewright_runtime.measure import Timing

_Ran = TypeVar("_Ran")


def export(
    model: Any,
    device: str,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    format: str | None = None,
    methods: Sequence[Any] | None = None,
    calibration: Iterable[tuple[Any, ...]] | None = None,
    train: Any = None,
    evaluate: Callable[[Callable[..., Any]], float] | None = None,
    preprocess: Image | Mapping[str, Image] | None = None,
    labels: Sequence[str] | str | Path | None = None,
    postprocess: Classify | None = None,
    max_latency_s: float | None = None,
    max_memory_bytes: int | None = None,
    max_quality_drop: float | None = None,
    output: str | Path | None = None,
) -> Bundle:
    """Exports a model for a device: capture, methods, lowering, verification, sealing.

    With two arguments the export is lossless: the model's own dtype, no method.

    Args:
        model: ``torch.nn.Module`` in evaluation mode, ``torch.export.ExportedProgram``, or a path
            to a ``.pt2`` or ``.onnx`` file (ONNX goes to the ONNX target).
        device: Device id or alias; ``"id:engine"`` pins the engine.
        example_inputs: Tensor, tuple of positional inputs or dict of named inputs; None: inferred
            where the model says what it accepts.
        dynamic_shapes: As ``torch.export.export`` takes them; None: all sizes are fixed.
        format: ``executorch``, ``onnx`` or ``tflite``; None: chosen for the device.
        methods: Edge methods or their registry names, applied in this order.
        calibration: Tuples of example inputs for methods that need them.
        train: ``(batches, loss)`` for methods that train.  ``batches`` is an iterable of (inputs, targets) that can be
            read again, such as a DataLoader, or a function that returns one for each epoch; inputs are as in
            ``example_inputs``.  ``loss(outputs, targets)`` returns a scalar; None: there are no labels.
        evaluate: ``evaluate(predict) -> float``, higher is better; ``predict`` takes and returns what
            the module does.
        preprocess: How a photo becomes the input; a mapping by input name if there are several inputs.
        labels: One per class, or a file with one a line.
        postprocess: How scores become labels; default with ``preprocess``: softmax, top 5.
        max_latency_s: Seconds of one run on the device.
        max_memory_bytes: Bytes that a run may need besides the engine itself.
        max_quality_drop: Absolute, in the unit of ``evaluate``.
        output: Path of the bundle; default ``<model>-<device>.edge`` in the working directory.

    Returns:
        The sealed bundle.

    Raises:
        OptionError, DeviceError, DependencyError, CaptureError, MethodError, LoweringError,
        ParityError, BudgetError, OutputError: Nothing is left behind; an older bundle stays.

    Example:
        >>> bundle = sdk.export(model, device="raspberry-pi-5")        # doctest: +SKIP
        >>> sdk.load(bundle.path).run(x)["output"]                     # doctest: +SKIP
    """
    choice = choose(device)
    _check_limits(evaluate, max_latency_s, max_memory_bytes, max_quality_drop)
    images, names, post = _declarations(preprocess, labels, postprocess)
    is_onnx = isinstance(model, (str, Path)) and str(model).endswith(".onnx")
    made = _methods(methods or ()) if installed("torch") else ()
    gains = {engine: method.name for method in made for engine in getattr(method, "engines", ())}
    planned = plan(choice, format, only="onnx" if is_onnx else None, gains=gains)
    if max_latency_s is not None and choice.profile.id != "host":
        raise BudgetError(
            f"max_latency_s={max_latency_s:g} cannot be judged: there is no latency price for {choice.profile.id} yet; "
            "leave it out, or export for device='host', where latency is measured"
        )
    _need_torch(planned)
    from edgewright_export.model import name_of
    from edgewright_export.training import batches

    target_path = place.output_path(output, name_of(model), choice.profile.id)
    judge = Judge(evaluate, max_quality_drop, max_memory_bytes, max_latency_s, choice, planned)
    request = _Request(
        choice,
        planned,
        target_path,
        images,
        names,
        post,
        made,
        calibration,
        batches.given(train),
        evaluate,
    )
    with say.progress():
        bundle = request.run(model, example_inputs, dynamic_shapes, judge)
    say.exported(bundle, choice.profile, planned)
    return bundle


def check(
    model: Any,
    device: str,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    format: str | None = None,
) -> tuple[Finding, ...]:
    """Says what keeps a model from being exported for a device, all places at once.

    Args:
        model, device, example_inputs, dynamic_shapes, format: As for :func:`export`.

    Returns:
        Findings; empty if the export would succeed up to verification.

    Raises:
        DeviceError, DependencyError, OptionError: The question itself is wrong.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgewright-check-") as folder, say.nothing():
        try:
            export(
                model,
                device,
                example_inputs=example_inputs,
                dynamic_shapes=dynamic_shapes,
                format=format,
                output=Path(folder) / "check.edge",
            )
        except (OptionError, DependencyError):
            raise
        except EdgewrightError as error:
            return error.findings or (Finding("", "", "", error.message, ""),)
    return ()


def _check_limits(evaluate: Any, latency_s: Any, memory_bytes: Any, quality_drop: Any) -> None:
    if quality_drop is not None and evaluate is None:
        raise OptionError("max_quality_drop needs evaluate=: a function evaluate(predict) -> float, higher is better")
    if evaluate is not None and not callable(evaluate):
        raise OptionError(f"evaluate is a {type(evaluate).__name__}; expected a function evaluate(predict) -> float")
    limits = {"max_latency_s": latency_s, "max_memory_bytes": memory_bytes, "max_quality_drop": quality_drop}
    for name, value in limits.items():
        if value is not None and not (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0):
            raise OptionError(f"{name} is {value!r}; expected a number that is not negative")


def _declarations(
    preprocess: Any, labels: Any, postprocess: Any
) -> tuple[Mapping[str, Image], tuple[str, ...] | None, Classify | None]:
    if preprocess is not None and not isinstance(preprocess, (Image, Mapping)):
        raise OptionError(
            f"preprocess is a {type(preprocess).__name__}; expected sdk.Image(...) or a dict by input name"
        )
    if postprocess is not None and not isinstance(postprocess, Classify):
        raise OptionError(f"postprocess is a {type(postprocess).__name__}; expected sdk.Classify(...)")
    images = {"": preprocess} if isinstance(preprocess, Image) else dict(preprocess or {})
    names = _labels(labels)
    if postprocess is None and images:
        postprocess = Classify()
    return images, names, postprocess


def _labels(labels: Any) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        path = Path(labels)
        if not path.is_file():
            raise OptionError(f"labels names no file: {path}; pass a list, or a file with one label a line")
        labels = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    names = tuple(labels)
    wrong = [name for name in names if not isinstance(name, str) or "\n" in name or "\r" in name]
    if wrong or not names:
        raise OptionError(f"labels must be strings without line breaks, one per class; got {wrong[:3] or 'none'}")
    return names


def _need_torch(planned: Plan) -> None:
    if installed("torch") is None:
        raise DependencyError(f'export needs torch: pip install "edgewright[{planned.extra}]"')


@dataclass(frozen=True)
class _Request:
    """One export, decided but for the model."""

    choice: Choice
    planned: Plan
    output: Path
    images: Mapping[str, Image]
    labels: tuple[str, ...] | None
    postprocess: Classify | None
    methods: tuple[Any, ...]
    calibration: Any
    train: Any
    evaluate: Any

    def run(self, model: Any, example_inputs: Any, dynamic_shapes: Any, judge: Judge) -> Bundle:
        from edgewright_export.build import build
        from edgewright_export.model import name_of, resolve
        from edgewright_export.onnx_file import build_onnx

        resolved = resolve(model)
        job = self._job(name_of(model))
        if isinstance(resolved, Path):
            if self.methods:
                raise MethodError("methods need a PyTorch model; an .onnx file is exported as it is")
            manifest = build_onnx(job, resolved.resolve(), example_inputs, judge.onnx)
        else:
            state = self._captured(resolved, example_inputs, dynamic_shapes, judge)
            manifest = build(job, state, lambda lowered, made: judge.module(state, lowered, made))
        return Bundle(self.output, manifest, digest(manifest.to_json()))

    def _job(self, name: str) -> Any:
        import sdk
        from edgewright_export.build import Job
        from edgewright_export.registry import target_named
        from edgewright_export.state import Recipe

        return Job(
            name=name,
            device=self.choice.profile,
            row=self.planned.row,
            why=self.planned.why,
            target=target_named(self.planned.target),
            recipe=Recipe(self.methods, self.planned.target, self.planned.threads),
            output=self.output,
            preprocess=self.images,
            labels=self.labels,
            postprocess=self.postprocess,
            versions={"edgewright": sdk.__version__},
        )

    def _captured(self, model: Any, example_inputs: Any, dynamic_shapes: Any, judge: Judge) -> Any:
        from edgewright_export.prepare import captured, first_state
        from edgewright_export.state import Budget, Context

        state = first_state(model, example_inputs, dynamic_shapes)
        context = Context(
            self.planned.target,
            self.choice.profile,
            self.planned.row,
            lambda workload: None,
            self._time,
            self._profile,
            self.calibration,
            self.train,
            self.evaluate,
            Budget(judge.max_quality_drop, judge.max_latency_s, judge.max_memory_bytes),
        )
        return captured(state, self.methods, context)

    def _time(self, states: Sequence[Any]) -> Sequence[Timing] | None:
        """Runs of modules, captured or not, in turns, where this machine is the device."""
        return self._run(states, self.planned.target, timed)

    def _profile(self, states: Sequence[Any]) -> Sequence[Sequence[StepTime]] | None:
        """What each step of modules takes in the native engine, likewise."""
        from edgewright_runtime.engines.native import profiles

        return self._run(states, "native", lambda made, threads: profiles(made, threads=threads))

    def _run(self, states: Sequence[Any], target_name: str, runs: Callable[[Sequence[Lowered], int], _Ran]) -> _Ran | None:
        import tempfile

        from edgewright_export.capture import capture
        from edgewright_export.registry import target_named

        if self.choice.profile.id != "host":
            return None
        target = target_named(target_name)
        with tempfile.TemporaryDirectory(prefix="edgewright-time-") as folder:
            made = []
            for number, state in enumerate(states):
                own = Path(folder) / str(number)
                own.mkdir()
                captured = state.captured or capture(state.module, state.example)
                made.append(target.gather(target.lower(replace(state, captured=captured), self.planned.row, own)))
            return runs(made, self.planned.threads)


def _methods(given: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise MethodError(f"methods is {given!r}; expected a sequence of methods")
    return tuple(map(_method, given))


def _method(given: Any) -> Any:
    from edgewright_export.registry import METHODS, method_named

    if isinstance(given, str) and given in METHODS:
        return method_named(given)()
    if isinstance(given, (str, type)) or not all(hasattr(given, name) for name in ("name", "check", "apply")):
        hint = "; make one: add ()" if isinstance(given, type) else f"; there are: {', '.join(METHODS)}"
        raise MethodError(f"no edge method {given!r}{hint}")
    return given
