"""One operator through one target: a verified bundle, an error of ours, or anything else."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sdk
from device_profiles import choose
from device_profiles.errors import MAX_LINES, EdgewrightError
from edgewright_export.build import Job, build
from edgewright_export.model import resolve
from edgewright_export.prepare import captured, first_state
from edgewright_export.registry import target_named
from edgewright_export.state import Budget, Context, Recipe, State
from edgewright_runtime.bundle.seal import open_bundle
from sdk.plan import plan

from .operators import Sample

MATCH, OURS, ELSE, NO_SAMPLE = "match", "our error", "anything else", "no sample"
OUTCOMES = (MATCH, OURS, ELSE, NO_SAMPLE)


@dataclass(frozen=True)
class Row:
    """What became of one operator on one target.

    Args:
        op: Full name in the database.
        target: Key of the target.
        outcome: One of :data:`OUTCOMES`.
        error: Type of the exception, ``""`` for a match.
        message: First line of the message.
        finding: Operation and reason of the first finding.
        seconds: Wall clock, the capture counted with the first target.
        dtype: Of the sample.
    """

    op: str
    target: str
    outcome: str
    error: str = ""
    message: str = ""
    finding: str = ""
    seconds: float = 0.0
    dtype: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def attempt(op: str, target: str, sample: Sample, state: Callable[[], State], folders: list[Path]) -> Row:
    """Exports for this machine with the target's format.

    Args:
        op: Name.
        target: Key of the target.
        sample: The module and its inputs.
        state: Captures, or raises as the capture did.
        folders: Must be empty when the export is over; the bundle goes into the first.
    """
    start = time.monotonic()
    output = folders[0] / "operator.edge"
    try:
        build(_job(target, output), state())
        open_bundle(output)
        row = Row(op, target, MATCH)
    except EdgewrightError as error:
        row = _ours(op, target, error)
    except BaseException as error:
        row = Row(op, target, ELSE, type(error).__name__, _line(traceback.format_exc()[-1500:].replace("\n", " | ")))
    left = [path.name for folder in folders for path in folder.iterdir() if path != output or row.outcome != MATCH]
    if left:
        row = Row(op, target, ELSE, row.error, f"left behind: {', '.join(left[:4])}")
    seconds = round(time.monotonic() - start, 2)
    return Row(op, target, row.outcome, row.error, row.message, row.finding, seconds, sample.dtype)


def captured_once(sample: Sample) -> Callable[[], State]:
    """The captured state; the capture runs at the first call, later ones repeat its result or error."""
    known: list[State | EdgewrightError] = []

    def state() -> State:
        if not known:
            try:
                known.append(_captured(sample))
            except EdgewrightError as error:
                known.append(error)
        if isinstance(known[0], EdgewrightError):
            raise known[0]
        return known[0]

    return state


def _captured(sample: Sample) -> State:
    planned = plan(choose("host"), "onnx")
    context = Context(planned.target, choose("host").profile, planned.row, lambda _: None, None, None, None, Budget())
    return captured(first_state(resolve(sample.module), sample.inputs, None), (), context)


def _job(target: str, output: Path) -> Job:
    choice, made = choose("host"), target_named(target)
    planned = plan(choice, made.format)
    recipe = Recipe((), target, planned.threads)
    return Job(
        name="operator",
        device=choice.profile,
        row=planned.row,
        why=planned.why,
        target=made,
        recipe=recipe,
        output=output,
        preprocess={},
        labels=None,
        postprocess=None,
        versions={"edgewright": sdk.__version__},
    )


def _ours(op: str, target: str, error: EdgewrightError) -> Row:
    lines = str(error).splitlines()
    first = error.findings[0] if error.findings else None
    finding = f"{first.op}: {first.reason}" if first else ""
    good = 0 < len(lines) <= MAX_LINES and bool(lines[0].strip())
    message = lines[0] if good else f"{len(lines)} lines: {' | '.join(lines)}"
    return Row(op, target, OURS if good else ELSE, type(error).__name__, _line(message), _line(finding))


def _line(text: str) -> str:
    """Without folders, which differ from machine to machine."""
    short = re.sub(r"(?<![\w.])(?:/[\w.+@-]+)+/(?=[\w.+-])", "", text)
    return re.sub(r"\b(edgewright-\w+-)\w+", r"\1", short).replace(os.sep, "/")[:1200]
