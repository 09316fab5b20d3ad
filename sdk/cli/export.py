"""``edgewright export``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import reference
from .output import json_option, print_json


def model_options(**device: Any) -> Callable[[Any], Any]:
    """Options that say what the model is and for which device; shared by ``export`` and ``check``."""
    options = (
        click.argument("model"),
        click.option("--device", help="Device id or id:engine; see: edgewright devices.", **device),
        click.option("--format", "format_", help="executorch, onnx or tflite."),
        click.option("--example-inputs", metavar="REF", help="package.module:callable that returns them."),
        click.option("--input-shape", "shapes", multiple=True, metavar="1,3,224,224", help="A random fp32 input."),
    )

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def inputs_from(ref: str | None, shapes: tuple[str, ...]) -> Any:
    """Example inputs from ``--example-inputs`` or ``--input-shape``."""
    if ref and shapes:
        raise click.UsageError("give --example-inputs or --input-shape, not both")
    if not shapes:
        return reference.called(ref)
    import numpy as np

    draw = np.random.default_rng(0)
    return tuple(draw.standard_normal(_sizes(text)).astype(np.float32) for text in shapes)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"--input-shape {text!r} is not a list of integers such as 1,3,224,224") from None


@click.command("export")
@model_options(required=True)
@click.option("-o", "--output", help="Default: <model>-<device>.edge.")
@click.option(
    "--method", "methods", multiple=True, metavar="NAME:OPTION=VALUE,...", help="ptq, qat:weight_bits=4, token-dropping:keep=0.5, weight-sparsity:pattern=4+1"
)
@click.option("--preprocess", metavar="REF", help="package.module:object, an sdk.Image.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False), help="File with one label a line.")
@click.option("--calibration", metavar="REF", help="package.module:callable that returns tuples of inputs.")
@click.option("--train", metavar="REF", help="package.module:callable that returns (batches, loss).")
@click.option("--evaluate", metavar="REF", help="package.module:callable, evaluate(predict) -> float.")
@click.option("--max-latency-s", type=float)
@click.option("--max-memory-bytes", type=int)
@click.option("--max-quality-drop", type=float)
@json_option
def command(
    model: str,
    device: str,
    format_: str | None,
    example_inputs: str | None,
    shapes: tuple[str, ...],
    output: str | None,
    methods: tuple[str, ...],
    preprocess: str | None,
    labels: str | None,
    calibration: str | None,
    train: str | None,
    evaluate: str | None,
    max_latency_s: float | None,
    max_memory_bytes: int | None,
    max_quality_drop: float | None,
    as_json: bool,
) -> None:
    """Export MODEL (package.module:callable, .pt2 or .onnx) for a device."""
    import sdk

    inputs = inputs_from(example_inputs, shapes)
    bundle = sdk.export(
        reference.model(model),
        device,
        example_inputs=inputs,
        format=format_,
        methods=[method_from(text) for text in methods],
        preprocess=reference.resolve(preprocess) if preprocess else None,
        labels=labels,
        calibration=reference.called(calibration),
        train=reference.called(train),
        evaluate=reference.resolve(evaluate) if evaluate else None,
        max_latency_s=max_latency_s,
        max_memory_bytes=max_memory_bytes,
        max_quality_drop=max_quality_drop,
        output=output,
    )
    if as_json:
        print_json(summary(bundle))


def method_from(text: str) -> Any:
    """A method from ``--method``: ``name`` or ``name:option=value,...``; ``+`` joins whole numbers, or words, to a tuple.

    Raises:
        click.UsageError: No such method or option.
    """
    from dataclasses import fields

    from edgewright_export.registry import METHODS, method_named

    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise click.UsageError(f"--method {name!r}: no such edge method; there are: {', '.join(METHODS)}")
    method, options = method_named(name), {}
    known = [field.name for field in fields(method)]  # type: ignore[arg-type]
    for part in rest.split(",") if rest else ():
        option, equals, value = part.partition("=")
        if option not in known or not equals:
            raise click.UsageError(f"--method {name}: {part!r} is not option=value; options are: {', '.join(known)}")
        options[option] = _value(value)
    return method(**options)


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    parts = text.split("+")
    if all(part.lstrip("-").isdigit() for part in parts):
        return tuple(map(int, parts))
    return tuple(parts) if len(parts) > 1 else text


def summary(bundle: Any) -> dict[str, Any]:
    """A bundle as plain data."""
    from device_profiles.record import unstructure

    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "device": bundle.device,
        "format": bundle.format,
        "engine": bundle.engine,
        "file_bytes": bundle.file_bytes,
        "memory_bytes": bundle.memory_bytes,
        "latency": [unstructure(row) for row in bundle.latency],
        "parity": unstructure(bundle.parity),
        "quality": unstructure(bundle.quality) if bundle.quality else None,
        "changes": list(bundle.manifest.changes),
        "layers": [unstructure(row) for row in bundle.manifest.layers],
        "quantization": bundle.manifest.quantization,
        "quantized": [unstructure(row) for row in bundle.manifest.quantized],
        "sparse": [unstructure(row) for row in bundle.manifest.sparse],
        "tried": [unstructure(row) for row in bundle.manifest.tried],
    }
