"""``edgewright check``."""

from __future__ import annotations

import click

from . import reference
from .export import inputs_from, model_options
from .output import json_option, print_json


@click.command("check")
@model_options(default="host", show_default=True)
@json_option
def command(
    model: str,
    device: str,
    format_: str | None,
    example_inputs: str | None,
    shapes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what keeps MODEL from each target of a device; exit code 1 if anything does.

    Without --format, every format that the device runs is checked.
    """
    import sdk
    from device_profiles import choose
    from device_profiles.record import unstructure

    formats = (
        [format_] if format_ else sorted({r.format for r in choose(device).profile.engines if r.status != "not-used"})
    )
    loaded, inputs = reference.model(model), inputs_from(example_inputs, shapes)
    found = {name: sdk.check(loaded, device, example_inputs=inputs, format=name) for name in formats}
    if as_json:
        print_json({name: [unstructure(f) for f in findings] for name, findings in found.items()})
    else:
        for name, findings in found.items():
            click.echo(f"{name}: {'ok' if not findings else f'{len(findings)} problems'}")
            for finding in findings:
                click.echo("\n".join(finding.lines()))
    if any(found.values()):
        raise click.exceptions.Exit(1)
