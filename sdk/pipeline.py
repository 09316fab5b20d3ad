"""From the user's one call to the sealed bundle: plan, build.  The only reader of ``max_*``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_profiles import Choice, Finding, choose
from device_profiles.errors import (
    BudgetError,
    DependencyError,
    EdgewrightError,
    LoweringError,
    MethodError,
    OptionError,
)
from edgewright_runtime.bundle import Latency, Lowered
from edgewright_runtime.bundle.manifest import Manifest, digest
from edgewright_runtime.preprocess import Classify, Image

from . import place, say
from .bundle import Bundle
from .plan import Plan, plan

if TYPE_CHECKING:
    pass

log = logging.getLogger("edgewright")


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
        train: For methods that train.
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
    planned = plan(choice, format, only="onnx" if is_onnx else None)
    if max_latency_s is not None and choice.profile.id != "host":
        raise BudgetError(
            f"max_latency_s={max_latency_s:g} cannot be judged: there is no latency price for {choice.profile.id} yet; "
            "leave it out, or export for device='host', where latency is measured"
        )
    _need_torch(planned)
    from edgewright_export.model import name_of

    target_path = place.output_path(output, name_of(model), choice.profile.id)
    quality = _Finish(evaluate, max_quality_drop, max_memory_bytes, max_latency_s, choice, planned)
    request = _Request(
        choice, planned, target_path, images, names, post, _methods(methods or ()), calibration, train, evaluate
    )
    return request.run(model, example_inputs, dynamic_shapes, quality)


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
        labels = path.read_text(encoding="utf-8").splitlines()
    names = tuple(labels)
    wrong = [name for name in names if not isinstance(name, str) or "\n" in name or "\r" in name]
    if wrong or not names:
        raise OptionError(f"labels must be strings without line breaks, one per class; got {wrong[:3] or 'none'}")
    return names


def _need_torch(planned: Plan) -> None:
    from edgewright_runtime.engines import installed

    if installed("torch") is None:
        raise DependencyError(f'export needs torch: pip install "edgewright[{planned.extra}]"')


class _Request:
    """One export, decided but for the model."""

    def __init__(
        self,
        choice: Choice,
        planned: Plan,
        output: Path,
        images: Mapping[str, Image],
        labels: tuple[str, ...] | None,
        postprocess: Classify | None,
        methods: tuple[Any, ...],
        calibration: Any,
        train: Any,
        evaluate: Any,
    ) -> None:
        self.choice, self.planned, self.output = choice, planned, output
        self.images, self.labels, self.postprocess = images, labels, postprocess
        self.methods, self.calibration, self.train, self.evaluate = methods, calibration, train, evaluate

    def run(self, model: Any, example_inputs: Any, dynamic_shapes: Any, finish: _Finish) -> Bundle:
        from edgewright_export.build import build
        from edgewright_export.model import name_of, resolve
        from edgewright_export.onnx_file import build_onnx

        resolved = resolve(model)
        methods = self.methods
        if isinstance(resolved, Path):
            if methods:
                raise MethodError("methods need a PyTorch model; an .onnx file is exported as it is")
            manifest = build_onnx(self._job(name_of(model), ()), resolved.resolve(), example_inputs, finish.onnx)
        else:
            state = self._captured(resolved, example_inputs, dynamic_shapes, methods)
            images = _named_images(self.images, [spec.name for spec in state.captured.inputs])
            job = replace(self._job(name_of(model), methods), preprocess=images)
            manifest = build(job, state, lambda lowered, made: finish.module(state, lowered, made))
        bundle = Bundle(self.output, manifest, digest(manifest.to_json()))
        say.exported(bundle, self.choice.profile, self.planned)
        return bundle

    def _job(self, name: str, methods: tuple[Any, ...]) -> Any:
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
            recipe=Recipe(methods, self.planned.target, self.planned.threads),
            output=self.output,
            preprocess=self.images,
            labels=self.labels,
            postprocess=self.postprocess,
            versions={"edgewright": sdk.__version__},
        )

    def _captured(self, model: Any, example_inputs: Any, dynamic_shapes: Any, methods: tuple[Any, ...]) -> Any:
        from edgewright_export.prepare import captured, first_state
        from edgewright_export.state import Budget, Context

        state = first_state(model, example_inputs, dynamic_shapes)
        context = Context(
            self.planned.target,
            self.choice.profile,
            self.planned.row,
            lambda workload: None,
            self.calibration,
            self.train,
            self.evaluate,
            Budget(),
        )
        return captured(state, methods, context)


def _methods(given: Sequence[Any]) -> tuple[Any, ...]:
    from edgewright_export.registry import METHODS

    if isinstance(given, str) or not isinstance(given, Sequence):
        raise MethodError(f"methods is {given!r}; expected a sequence of methods")
    for method in given:
        if isinstance(method, str) or not all(hasattr(method, name) for name in ("name", "check", "apply")):
            known = ", ".join(METHODS) or "none in this version"
            raise MethodError(f"no edge method {method!r}; there are: {known}")
    return tuple(given)


def _named_images(images: Mapping[str, Image], inputs: list[str]) -> dict[str, Image]:
    if "" in images and len(inputs) != 1:
        raise OptionError(f"preprocess=sdk.Image(...) needs one input, the model has {', '.join(inputs)}; pass a dict")
    return {name or inputs[0]: image for name, image in images.items()}


class _Finish:
    """What is judged on the verified files, before they are sealed: quality, memory, latency."""

    def __init__(
        self,
        evaluate: Any,
        max_quality_drop: float | None,
        max_memory_bytes: int | None,
        max_latency_s: float | None,
        choice: Choice,
        planned: Plan,
    ) -> None:
        self.evaluate, self.max_quality_drop = evaluate, max_quality_drop
        self.max_memory_bytes, self.max_latency_s = max_memory_bytes, max_latency_s
        self.choice, self.planned = choice, planned

    def module(self, state: Any, lowered: Lowered, manifest: Manifest) -> Manifest:
        manifest = self._memory(manifest)
        arrays = [tensor.detach().numpy() for tensor in state.captured.select(state.example.args, state.example.kwargs)]
        manifest = self._latency(lowered, manifest, arrays)
        return self._quality(state, lowered, manifest)

    def onnx(self, lowered: Lowered, manifest: Manifest) -> Manifest:
        if self.evaluate is not None:
            raise OptionError("evaluate= needs a PyTorch model to compare with; an .onnx file has none")
        return self._memory(manifest)

    def _memory(self, manifest: Manifest) -> Manifest:
        need, limit = manifest.memory.bytes, self.max_memory_bytes
        if limit is not None and need > limit:
            raise BudgetError(f"the model needs {need} bytes ({manifest.memory.kind}), max_memory_bytes is {limit}")
        return manifest

    def _latency(self, lowered: Lowered, manifest: Manifest, arrays: list[Any]) -> Manifest:
        if self.choice.profile.id != "host":
            return manifest
        from edgewright_runtime.engines import engine_named
        from edgewright_runtime.measure import machine, measure

        with engine_named(lowered.engine).open(lowered, threads=self.planned.threads) as session:
            timing = measure({lowered.engine: lambda: session.run(*arrays)})[lowered.engine]
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

        before = float(self.evaluate(module_predictor(state.reference)))
        with session_predictor(state.captured, lowered, self.planned.threads) as predict:
            after = float(self.evaluate(predict))
        if self.max_quality_drop is not None and not before - after <= self.max_quality_drop:
            raise BudgetError(
                f"quality fell from {before:.6g} to {after:.6g}, by {before - after:.3g}; "
                f"max_quality_drop is {self.max_quality_drop:g}"
            )
        return with_quality(manifest, before, after)


__all__ = ["LoweringError", "check", "export"]
