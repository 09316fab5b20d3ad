"""What a board must have before it can run a bundle."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from device_profiles import DeviceProfile, EngineRow, choose
from device_profiles.errors import DeviceError
from edgewright_runtime.bundle.manifest import Manifest

_PYTHON = re.compile(r"python[0-9.]*")
_SHELL = frozenset("();<>|&")


@dataclass(frozen=True)
class Needs:
    """How to prepare one board for one engine.

    Args:
        profile: The board.
        engine: Name of the engine.
        python: Command of the Python that runs the engine.
        script: Shell lines that install engine, numpy and Pillow into ``"$PYTHON"``.
        command: The same as one line that a person can type.
    """

    profile: DeviceProfile
    engine: str
    python: str
    script: str
    command: str


def needs_of(manifest: Manifest) -> Needs:
    """Reads the engine row of the bundle's device.

    Raises:
        DeviceError: The device is unknown here, is no machine that runs Python, or has no such engine.
    """
    choice = choose(manifest.device)
    profile = choice.profile
    if choice.accelerator is not None:
        tool = choice.accelerator.command or f"use the vendor's tool, {choice.accelerator.tool}"
        raise DeviceError(f"deploy does not run {choice.accelerator.name}; copy the model file and run: {tool}")
    if profile.kind in ("browser", "phone"):
        raise DeviceError(
            f"deploy prepares Linux boards, {profile.id} is a {profile.kind}; make one file to ship: edgewright pack"
        )
    for row in profile.engines:
        if (row.name, row.format) == (manifest.engine.name, manifest.format):
            return _needs(profile, row, ["numpy", *(["Pillow"] if manifest.preprocess else [])])
    rows = ", ".join(f"{row.name} ({row.format})" for row in profile.engines) or "none"
    raise DeviceError(
        f"the bundle needs {manifest.engine.name} ({manifest.format}), {profile.id} has: {rows}; export again for it"
    )


def _needs(profile: DeviceProfile, row: EngineRow, extras: list[str]) -> Needs:
    parsed = _pip_arguments(row.install)
    if parsed is None:
        python, before = "python3", [row.install] if row.install.strip() else []
        arguments = extras
    else:
        (python, arguments), before = parsed, []
        present = {re.split(r"[^A-Za-z0-9_.-]", argument)[0].lower() for argument in arguments}
        arguments = [*arguments, *(name for name in extras if name.lower() not in present)]
    install = f"-m pip install {shlex.join(arguments)}"
    return Needs(
        profile,
        row.name,
        python,
        "\n".join([*before, f'"$PYTHON" {install}']),
        " && ".join([*before, f"{python} {install}"]),
    )


def _pip_arguments(install: str) -> tuple[str, list[str]] | None:
    """(python, arguments of ``pip install``) of a plain pip command, None for any other shell line."""
    lexer = shlex.shlex(install, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return None
    if any(word and set(word) <= _SHELL for word in words) or set(install) & set("$`\n"):
        return None
    if words[:2] in (["pip", "install"], ["pip3", "install"]):
        return "python3", words[2:]
    if words[1:4] == ["-m", "pip", "install"] and _PYTHON.fullmatch(words[0]):
        return words[0], words[4:]
    return None
