"""``edgewright pack-weights``."""

from __future__ import annotations

import click

from ..bundle import Bundle
from .output import json_option, print_json


@click.command("pack-weights")
@click.argument("bundle", type=click.Path())
@click.option("--isa", "isas", multiple=True, help="neon, avx2, avx512vnni, wasm, ...; default: that of its device.")
@click.option("-o", "--output", type=click.Path(), help="Another folder for the new bundle; default: in its place.")
@json_option
def command(bundle: str, isas: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """Add weights as the native engine's kernels read them: a larger bundle that opens faster."""
    packed = Bundle.open(bundle).pack_weights(isas=isas, output=output)
    if as_json:
        print_json({"path": str(packed.path), "sha256": packed.sha256, "bytes": packed.file_bytes})
    else:
        names = ", ".join(name for name in packed.manifest.files if name.startswith("packed/"))
        click.echo(f"{packed.path}: {packed.file_bytes} bytes with {names}; manifest sha256 {packed.sha256}")
