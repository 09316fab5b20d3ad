"""ONNX files in the native engine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device_profiles import Finding
from device_profiles.errors import RuntimeFailure

from .. import kernels, native_library
from ..bundle.lowered import Decision, Lowered, StepTime
from ..bundle.seal import MANIFEST, is_bundle
from ..measure import measure
from ..session import Session
from . import installed

_PROFILED_S = 0.2
"""Seconds in which each of several files runs; with the fastest of them the others take longer."""


class Native:
    """Our own engine, built from ``runtime/native`` when this package was installed."""

    name = "native"
    extra = ""
    packages = ("edgewright",)
    formats = ("onnx",)

    def available(self) -> Finding | None:
        """See :class:`edgewright_runtime.engines.Engine`."""
        path = native_library.library_path()
        if os.path.exists(path):
            return None
        fix = "install with a C compiler: pip install --force-reinstall --no-deps edgewright"
        return Finding("", "", "", f"{os.path.basename(path)} is not beside the package", fix)

    def open(self, lowered: Lowered, *, threads: int) -> Session:
        """See :class:`edgewright_runtime.engines.Engine`."""
        return _Session(lowered, _opened(lowered, threads), threads)


def decisions(lowered: Lowered) -> tuple[Decision, ...]:
    """With which kernels the products of ``main`` run on this machine, in the order of the file.

    Args:
        lowered: With ``modules``; those that are no step of a session of their own are left out.

    Raises:
        RuntimeFailure: The engine refuses the file.
    """
    steps = {step.node: step for step in _opened(lowered, 1).steps()}
    table, isa = {row.name: row for row in kernels.rows()}, kernels.chosen()
    return tuple(_decision(paths, steps[node], table, isa) for node, paths in lowered.modules.items() if node in steps)


def _decision(paths: tuple[str, ...], step: native_library.Step, table: dict[str, kernels.Kernel], isa: str) -> Decision:
    row = table.get(step.kernel or "")
    is_sparse = row is not None and row.format != "dense"
    has_sparse = is_sparse or (row is not None and _has_sparse(row, isa))
    return Decision(paths, step.kernel, isa, is_sparse, has_sparse, step.sparse_cost)


def _has_sparse(row: kernels.Kernel, isa: str) -> bool:
    formats = [format for format in kernels.FORMATS if format != "dense"]
    others = (kernels.find(op, isa, row.dtype, format) for op in ("gemm", "spmm") for format in formats)
    return row.op == "gemm" and any(others)


def profiles(several: Sequence[Lowered], *, threads: int) -> tuple[tuple[StepTime, ...], ...]:
    """What each step of ``main`` takes on this machine, of each of several files, which run in turns.

    Args:
        several: With ``modules``.
        threads: Of the engine.

    Raises:
        RuntimeFailure: The engine refuses a file.
    """
    sessions = [(lowered, _opened(lowered, threads, profile=True)) for lowered in several]
    calls = {}
    for number, (lowered, opened) in enumerate(sessions):
        session = _Session(lowered, opened, threads)
        calls[str(number)] = partial(session.run, session.sample_inputs())
    measure(calls, min_seconds=_PROFILED_S)
    return tuple(
        tuple(StepTime(lowered.modules.get(step.node, ()), step.microseconds * 1e-6) for step in opened.steps())
        for lowered, opened in sessions
    )


def _opened(lowered: Lowered, threads: int, *, profile: bool = False) -> native_library.NativeSession:
    bounds = {
        f"{spec.binding}:{axis}": (spec.bounds[name].min, spec.bounds[name].max)
        for spec in lowered.inputs
        for axis, name in enumerate(spec.shape)
        if isinstance(name, str)
    }
    try:
        return native_library.Model(_source(lowered), check=False).session(bounds=bounds, threads=threads, profile=profile)
    except (native_library.NativeError, OSError) as error:
        raise RuntimeFailure(f"the native engine cannot open the model: {error}") from error


def _source(lowered: Lowered) -> Path:
    """The bundle, whose packed weights the engine takes; the bare file where the bundle has states, which are inputs and
    outputs of a session like others."""
    if is_bundle(lowered.folder) and not json.loads((lowered.folder / MANIFEST).read_bytes())["states"]:
        return lowered.folder
    return lowered.path()


class _Session(Session):
    def __init__(self, lowered: Lowered, opened: Any, threads: int) -> None:
        super().__init__(lowered, engine="native", engine_version=installed("edgewright") or "", threads=threads)
        self._opened = opened

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        try:
            results: list[np.ndarray] = self._opened.run(arrays)
        except native_library.NativeError as error:
            raise RuntimeFailure(f"the native engine could not run the model: {error}") from error
        return results

    def close(self) -> None:
        """Releases the session."""
        self._opened = None


def __getattr__(name: str) -> Any:
    """``OnnxBackend`` on access only, because onnx is no dependency of the runtime."""
    if name == "OnnxBackend":
        from ..onnx_backend import OnnxBackend

        return OnnxBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
