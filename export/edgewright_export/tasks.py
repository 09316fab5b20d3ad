"""What runs in a worker's child process: plain data in, plain data out."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np

from device_profiles.errors import EdgewrightError
from device_profiles.record import structure, unstructure
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import engine_named, native

from .registry import target_named

_MESSAGE = 2000


def lower(target: str, program: str, folder: str, inputs: list[Any], outputs: list[Any], limits: dict[str, Any]) -> Any:
    """Converts a saved program; returns the Lowered record without its folder."""
    import torch
    import torch.ao.quantization.fx._decomposed

    loaded = torch.export.load(program)
    specs = [structure(TensorSpec, s) for s in inputs], [structure(TensorSpec, s) for s in outputs]
    with torch.no_grad():
        lowered = target_named(target).convert(loaded, specs[0], specs[1], limits, Path(folder))
    return plain_lowered(lowered)


def embed(target: str, model: str, folder: str, inputs: list[Any], outputs: list[Any]) -> Any:
    """Writes a model for the native engine as one operator; returns the Lowered record without its folder."""
    specs = [structure(TensorSpec, s) for s in inputs], [structure(TensorSpec, s) for s in outputs]
    return plain_lowered(target_named(target).embed(Path(model), specs[0], specs[1], Path(folder)))


def run(lowered: dict[str, Any], folder: str, cases: str, results: str, count: int, threads: int) -> dict[str, Any]:
    """Opens files in the session that users get and runs ``count`` cases from an npz file."""
    files = read_lowered(lowered, Path(folder))
    arrays = np.load(cases)
    answers = {}
    with engine_named(files.engine).open(files, threads=threads) as session:
        for case in range(count):
            given = [arrays[f"{case}_{i}"] for i in range(len(files.inputs))]
            for i, array in enumerate(session.run(*given).values()):
                answers[f"{case}_{i}"] = array
        version = session.engine_version
    np.savez(results, allow_pickle=False, **answers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"engine_version": version, "peak_memory_bytes": peak}


def decisions(lowered: dict[str, Any], folder: str) -> list[Any]:
    """What the native engine decides for its files on this machine."""
    return [unstructure(one) for one in native.decisions(read_lowered(lowered, Path(folder)))]


def describe(error: BaseException, traceback: str) -> dict[str, Any]:
    """An exception as plain data."""
    mine = isinstance(error, EdgewrightError)
    return {
        "type": type(error).__name__,
        "mine": mine,
        "message": (error.message if isinstance(error, EdgewrightError) else str(error))[:_MESSAGE],
        "findings": [unstructure(f) for f in error.findings] if isinstance(error, EdgewrightError) else [],
        "traceback": traceback[-2 * _MESSAGE :],
    }


def plain_lowered(lowered: Lowered) -> dict[str, Any]:
    """A Lowered record as plain data, without its folder and what was decided for it."""
    return {
        "format": lowered.format,
        "engine": lowered.engine,
        "files": list(lowered.files),
        "entries": {name: unstructure(entry) for name, entry in lowered.entries.items()},
        "versions": lowered.versions,
        "requires": lowered.requires,
        "modules": lowered.modules,
        "leaves_out_zeros": lowered.leaves_out_zeros,
    }


def read_lowered(plain: dict[str, Any], folder: Path) -> Lowered:
    """The reverse of :func:`plain_lowered`."""
    return Lowered(
        folder=folder,
        format=plain["format"],
        engine=plain["engine"],
        files=tuple(plain["files"]),
        entries={name: structure(Entry, entry) for name, entry in plain["entries"].items()},
        versions=plain["versions"],
        requires=plain["requires"],
        modules={node: tuple(paths) for node, paths in plain["modules"].items()},
        leaves_out_zeros=plain["leaves_out_zeros"],
    )
