"""What a manifest may not say, whatever its hash: names that leave the folder, references to nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

import numpy as np

from .lowered import Entry
from .manifest import Manifest


def is_inside(name: str) -> bool:
    """Whether a manifest's file name is relative, normal and stays in the folder."""
    path = PurePosixPath(name)
    plain = bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name
    return plain and not any(c in name for c in "\\:\0") and _is_unicode(name)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in name)


def contradictions(manifest: Manifest, reserved: Collection[str]) -> list[str]:
    """Every problem that the manifest alone shows; empty if there is none.

    Args:
        manifest: As it was read.
        reserved: Top-level names that no core file may have.
    """
    problems = [f"{name!r} leaves the bundle" for name in manifest.files if not is_inside(name)]
    problems += [f"{name!r} cannot be a core file" for name in manifest.files if name.partition("/")[0] in reserved]
    referred = {entry.file for entry in manifest.entries.values()} | {s.file for s in manifest.segments}
    referred |= {manifest.labels} if manifest.labels is not None else set()
    problems += [f"{name!r} is used but not listed" for name in sorted(referred - set(manifest.files))]
    problems += _segments(manifest)
    problems += _tried(manifest)
    for name, entry in manifest.entries.items():
        problems += _tensors(name, entry)
    if "main" not in manifest.entries:
        return [*problems, "there is no entry 'main'"]
    return [*problems, *_declarations(manifest, manifest.entries["main"])]


def _segments(manifest: Manifest) -> Iterator[str]:
    for segment in manifest.segments:
        core = manifest.files.get(segment.file)
        if segment.offset < 0 or segment.bytes < 0 or (core and segment.offset + segment.bytes > core.bytes):
            yield f"a segment of {segment.file!r} ends outside the file"


def _tried(manifest: Manifest) -> Iterator[str]:
    if sum(one.chosen for one in manifest.tried) > 1:
        yield "more than one of what was tried is chosen"
    for one in manifest.tried:
        if not 0 <= one.weight_bytes < 1 << 63:
            yield f"{one.what!r} was tried with {one.weight_bytes} bytes of weights"
        if one.quality is not None and one.evaluated is None:
            yield f"{one.what!r} has a quality and was not evaluated"


def _tensors(name: str, entry: Entry) -> Iterator[str]:
    for side, specs in (("input", entry.inputs), ("output", entry.outputs)):
        names = [spec.name for spec in specs]
        yield from (f"{side} {n!r} of {name!r} occurs twice" for n in sorted(set(names)) if names.count(n) > 1)
        for spec in specs:
            if not _is_dtype(spec.dtype):
                yield f"{side} {spec.name!r} of {name!r} has dtype {spec.dtype!r}, which numpy does not know"


def _is_dtype(name: str) -> bool:
    try:
        return np.dtype(name).name == name
    except (TypeError, ValueError):
        return False


def _declarations(manifest: Manifest, main: Entry) -> Iterator[str]:
    inputs = {spec.name for spec in main.inputs}
    yield from (f"preprocess names {name!r}, which is no input" for name in manifest.preprocess if name not in inputs)
    output = manifest.postprocess.output if manifest.postprocess else None
    if output is not None and output not in {spec.name for spec in main.outputs}:
        yield f"postprocess names {output!r}, which is no output"
