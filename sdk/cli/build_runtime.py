"""``edgewright build-runtime``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..build_runtime.build import build_runtime
from ..build_runtime.triples import TRIPLES
from .output import json_option, print_json


@click.command("build-runtime")
@click.option("--triple", required=True, help=f"The platform: {', '.join(TRIPLES)}.")
@click.option("-o", "--output", type=click.Path(), help="Default: edgewright-VERSION-TRIPLE.tar.gz here.")
@json_option
def command(triple: str, output: str | None, as_json: bool) -> None:
    """Build the native engine for another platform, as one archive.

    It holds library, header and CMake package; for wasm32 what a page imports: both modules, JavaScript and types.

    The compiler comes from the ziglang package: pip install "edgewright[build]".
    """
    built = build_runtime(triple, output=Path(output) if output else None)
    if as_json:
        print_json({**asdict(built), "path": str(built.path)})
        return
    click.echo(f"{built.path}: {built.bytes} bytes, {built.library} {built.library_bytes} bytes")
    click.echo(f"sha256 {built.sha256}")
