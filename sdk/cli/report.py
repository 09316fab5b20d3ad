"""``edgewright report``."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle import Bundle
from .output import json_option, print_json


@click.command("report")
@click.argument("bundle", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Default: report.html beside the bundle's core.")
@json_option
def command(bundle: str, output: str | None, as_json: bool) -> None:
    """Write a bundle's report as one self-contained HTML file."""
    folder = Path(bundle)
    default = folder / "report.html" if folder.is_dir() else folder.with_suffix(".html")
    path = Bundle.open(bundle).report(output or default)
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size})
    else:
        click.echo(str(path))
