"""``edgewright verify``."""

from __future__ import annotations

import click

from ..bundle import Bundle
from .output import json_option, print_json


@click.command("verify")
@click.argument("bundle", type=click.Path())
@json_option
def command(bundle: str, as_json: bool) -> None:
    """Check every hash of a bundle (folder or .edgez)."""
    opened = Bundle.open(bundle)
    if as_json:
        print_json({"path": bundle, "sha256": opened.sha256, "files": len(opened.manifest.files), "intact": True})
    else:
        files, size = len(opened.manifest.files), opened.file_bytes
        click.echo(f"{bundle}: intact, {files} core files, {size} bytes, manifest sha256 {opened.sha256}")
