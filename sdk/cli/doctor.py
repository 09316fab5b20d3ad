"""``edgewright doctor``."""

from __future__ import annotations

import platform
import re
from importlib.metadata import requires

import click

from edgewright_runtime.engines import installed

from .output import json_option, print_json, print_table

ENABLES = {
    "onnx": "export to ONNX and run it in ONNX Runtime",
    "executorch": "export to ExecuTorch and run it with the XNNPACK delegate",
    "tflite": "export to TFLite and run it in LiteRT (conversion on x86-64 Linux and macOS arm64 only)",
    "board": "reach boards: deploying over ssh needs only the system's ssh client",
    "build": "build the native engine for other platforms",
    "dev": "run the tests",
}


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what is installed and what each missing piece would enable."""
    import sdk

    pieces = {extra: _pieces(extra) for extra in ENABLES}
    if as_json:
        print_json({"edgewright": sdk.__version__, "python": platform.python_version(), "extras": pieces})
        return
    click.echo(f"edgewright {sdk.__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    rows = [
        (e, p["package"] or "", p["tested"] or "", p["installed"] or "missing") for e, ps in pieces.items() for p in ps
    ]
    print_table(("extra", "package", "tested", "installed"), rows)
    for extra, found in pieces.items():
        missing = [p["package"] for p in found if not p["installed"]]
        state = "ready" if not missing else f'pip install "edgewright[{extra}]"'
        click.echo(f"{extra:11} {ENABLES[extra]}: {state}")


def _pieces(extra: str) -> list[dict[str, str | None]]:
    found = []
    for line in requires("edgewright") or []:
        match = re.fullmatch(r"([\w.-]+)\s*([^;]*?)\s*;\s*extra == ['\"]([\w-]+)['\"]", line)
        if match and match[3] == extra:
            found.append({"package": match[1], "tested": match[2], "installed": installed(match[1])})
    return found
