"""``edgewright pack``."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle import Bundle
from .output import json_option, print_json


@click.command("pack")
@click.argument("bundle", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Default: the bundle's name with .edgez.")
@json_option
def command(bundle: str, output: str | None, as_json: bool) -> None:
    """Pack a bundle into one .edgez file that a browser or an app can fetch."""
    target = Path(output) if output else Path(bundle.rstrip("/")).with_suffix(".edgez")
    path = Bundle.open(bundle).pack(target)
    size = path.stat().st_size
    if as_json:
        print_json({"path": str(path), "bytes": size})
    else:
        click.echo(f"{path}: {size} bytes")
