"""What a board must have before it can run a bundle."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from device_profiles import DeviceProfile, EngineRow, choose
from device_profiles.errors import DeviceError
from edgewright_runtime.bundle.manifest import Manifest

_PYTHON = re.compile(r"python[0-9.]*")
_BELOW_HOME = re.compile(r"~/([A-Za-z0-9][A-Za-z0-9._-]*)")
_SHELL = frozenset("();<>|&")
_ENVIRONMENT = "edgewright"


@dataclass(frozen=True)
class Needs:
    """How to prepare one board for one engine.

    Args:
        profile: The board.
        engine: Name of the engine.
        python: Command of the Python that runs the engine.
        environment: Folder below the home that holds a virtual environment, where one is needed.
        own_environment: Whether the profile asks for one; else only where the system's Python refuses packages.
        script: Shell lines that install engine, numpy and Pillow into ``"$PYTHON"``.
        command: The same as one line that a person can type.
    """

    profile: DeviceProfile
    engine: str
    python: str
    environment: str
    own_environment: bool
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
        if (row.name, row.format, row.status) == (manifest.engine.name, manifest.format, "runs"):
            return _needs(profile, row, ["numpy", *(["Pillow"] if manifest.preprocess else [])])
    rows = ", ".join(f"{row.name} ({row.format}, {row.status})" for row in profile.engines) or "none"
    raise DeviceError(
        f"the bundle needs {manifest.engine.name} ({manifest.format}), {profile.id} has: {rows}; export again for it"
    )


def _needs(profile: DeviceProfile, row: EngineRow, extras: list[str]) -> Needs:
    plan = _pip_plan(row.install)
    if plan is None:
        before = [row.install] if row.install.strip() else []
        plan = _Plan("python3", None, [], before)
        script = before
    else:
        script = []
    present = {re.split(r"[^A-Za-z0-9_.-]", argument)[0].lower() for argument in plan.arguments}
    arguments = [*plan.arguments, *(name for name in extras if name.lower() not in present)]
    install = f"-m pip install {shlex.join(arguments)}"
    return Needs(
        profile=profile,
        engine=row.name,
        python=plan.python,
        environment=plan.environment or _ENVIRONMENT,
        own_environment=plan.environment is not None,
        script="\n".join([*script, f'"$PYTHON" {install}']),
        command=" && ".join([*plan.before, f"{plan.python} {install}"]),
    )


@dataclass(frozen=True)
class _Plan:
    """An install line taken apart: Python, environment below the home, arguments, what comes before pip."""

    python: str
    environment: str | None
    arguments: list[str]
    before: list[str]


def _pip_plan(install: str) -> _Plan | None:
    """Takes ``pip install ...`` apart, alone or in a virtual environment; None for any other shell line."""
    commands = _commands(install)
    if not commands or set(install) & set("$`\n"):
        return None
    *before, pip = commands
    if pip[:2] in (["pip", "install"], ["pip3", "install"]):
        python, arguments = "python3", pip[2:]
    elif pip[1:4] == ["-m", "pip", "install"] and _PYTHON.fullmatch(pip[0]):
        python, arguments = pip[0], pip[4:]
    else:
        return None
    if not before:
        return _Plan(python, None, arguments, [])
    made = before[0][3] if before[0][1:3] == ["-m", "venv"] and len(before[0]) == 4 else ""
    inside = _BELOW_HOME.fullmatch(made)
    if inside is None or before[1:] != [[".", f"{made}/bin/activate"]] or not _PYTHON.fullmatch(before[0][0]):
        return None
    return _Plan(before[0][0], inside[1], arguments, [" ".join(words) for words in before])


def _commands(install: str) -> list[list[str]]:
    """The words of each command of a ``&&`` chain; empty for any other shell line."""
    lexer = shlex.shlex(install, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    chain: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word == "&&":
                chain.append([])
            elif set(word) <= _SHELL:
                return []
            else:
                chain[-1].append(word)
    except ValueError:
        return []
    return chain if all(chain) else []
