"""Which layers with zeros run without them, and why: what the native engine decides when it opens the file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from device_profiles import DeviceProfile
from device_profiles.errors import LoweringError
from device_profiles.record import structure
from edgewright_runtime.bundle import Lowered
from edgewright_runtime.bundle.lowered import Decision
from edgewright_runtime.bundle.manifest import SparseLayer

from .tasks import plain_lowered
from .worker import worker_with


def with_decisions(lowered: Lowered, preload: Sequence[str]) -> Lowered:
    """Files of the native engine with what it decides for them on this machine.

    Args:
        lowered: With ``modules``.
        preload: Of the worker that opens them.

    Raises:
        LoweringError: The engine refuses the files or dies.
    """
    arguments = {"lowered": plain_lowered(lowered), "folder": str(lowered.folder)}
    with tempfile.TemporaryDirectory(prefix="edgewright-decide-") as job:
        outcome = worker_with(preload).run("decisions", Path(job), arguments)
    if outcome.error is not None:
        said = outcome.error["message"].strip()[:400]
        raise LoweringError(f"the {lowered.format} file was written, but {lowered.engine} cannot open it: {said}")
    return replace(lowered, decisions=tuple(structure(Decision, plain) for plain in outcome.result))


def decided(rows: Sequence[SparseLayer], lowered: Lowered, device: DeviceProfile) -> tuple[SparseLayer, ...]:
    """The rows with what runs each layer.

    Args:
        rows: In the order in which the layers run.
        lowered: What was verified.
        device: Where it is to run.
    """
    if lowered.decisions is None:
        left_out = lowered.leaves_out_zeros and device.is_arm
        return tuple(_elsewhere(row, lowered.engine, left_out and row.op == "conv") for row in rows)
    sizes = any(isinstance(size, str) for spec in lowered.inputs for size in spec.shape)
    return tuple(_here(row, one, sizes) for row, one in zip(rows, _of(rows, lowered.decisions), strict=True))


def _of(rows: Sequence[SparseLayer], decisions: Sequence[Decision]) -> Iterator[Decision | None]:
    """That of each row; None where a module has not as many products in the file as it has rows."""
    paths = [row.path for row in rows]
    found: dict[str, list[Decision]] = {path: [] for path in paths}
    for one in decisions:
        path = next((path for path in one.paths if path in found), None)
        if path is not None:
            found[path].append(one)
    taken = {path: iter(own) for path, own in found.items() if len(own) == paths.count(path)}
    return (next(taken[path]) if path in taken else None for path in paths)


def _elsewhere(row: SparseLayer, engine: str, left_out: bool) -> SparseLayer:
    if not row.zeros:
        return replace(row, runs="dense", why="it has no zeros")
    if left_out:
        return replace(row, runs="sparse", why=f"{engine} leaves the zeros of 1 x 1 convolutions out on ARM, by its own rules")
    return replace(row, runs="dense", why=f"{engine} multiplies zeros as it does other numbers")


def _here(row: SparseLayer, one: Decision | None, sizes: bool) -> SparseLayer:
    if one is None:
        return replace(row, why="the engine has no step that is this layer and nothing else")
    return replace(
        row,
        runs="sparse" if one.is_sparse else "dense",
        kernel=one.kernel,
        isa=one.isa,
        sparse_cost=one.sparse_cost,
        why=_why(row, one, sizes),
    )


def _why(row: SparseLayer, one: Decision, sizes: bool) -> str:
    if not row.zeros and not one.is_sparse:
        return "it has no zeros"
    if not one.has_sparse:
        return f"the engine has no sparse kernel that does what {one.kernel or 'portable code'} does"
    if one.sparse_cost is None:
        told = f"a sparse kernel is {'' if one.is_sparse else 'not '}faster than the dense one"
    else:
        at = ", at the input sizes where that gains least" if sizes else ""
        short = ", too little less to be sure of" if not one.is_sparse and one.sparse_cost < 1 else ""
        told = f"a sparse kernel costs {one.sparse_cost:.2f} times what the dense one does{at}{short}"
    around = "" if row.zeros else "it has no zeros, but with the layers around it "
    return f"{around}{told}: estimated, as decided on {one.isa}"
