"""Lowering targets: one file per format and engine, one line in ``registry.TARGETS``."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from device_profiles import EngineRow, Finding
from device_profiles.errors import LoweringError
from device_profiles.record import structure, unstructure
from edgewright_runtime.bundle import Lowered, TensorSpec, Workload

from .. import place
from ..annotations import Annotations
from ..blame import blame
from ..flat import Captured
from ..passes import run_passes
from ..registry import TargetRow
from ..state import State
from ..tasks import read_lowered
from ..worker import Outcome, worker_with
from ..workload import workload_of
from . import subgraph
from .spell_out import replaceable, spell_out

log = logging.getLogger("edgewright")
_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
)  # fmt: skip
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_FIX = "replace this operation or choose another target (edgewright check)"


class Target:
    """Writes one format for one engine.  A target file fills in the fields and :meth:`convert`; the rest is its row."""

    preload: tuple[str, ...]
    """Modules that the worker imports once, and functions (``module:function``) that it calls once."""
    passes: tuple[str, ...] = ()
    """Names of ``passes``, run on the captured graph in this order."""
    results_on_grids: bool = True
    """Whether a product of integers must end on a grid, which is not so where it can end in float32 as well."""
    runs_on_own_grids: bool = True
    """Whether ``auto`` lets linear layers between float operations have a grid of each run."""
    bits: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """By ``static``, ``dynamic`` and ``float`` activations, and ``embedding``, the bits in which it stores weights besides 8;
    of those with fewer than it has here each takes the next that there is."""
    stored: frozenset[str] = frozenset({"embedding", "gru", "lstm"})
    """Layers whose weights it stores as integers although they compute in float."""
    leaves_out_zeros: bool = False
    """Whether its engine does not multiply zeros of convolutions and linear layers of float32, where that is faster."""
    zeros_from: str = ""
    """The oldest version of its engine that leaves zeros out on ARM where files say ``leaves_out_zeros``; "": none does."""
    grids_of_rows: bool = False
    """Whether an input that is quantized in each run has a grid for each of its rows, instead of one for all."""
    subgraphs_from: str = ""
    """The oldest version of its engine that runs what :meth:`embed` writes; "": it writes nothing."""

    def __init__(self, name: str, row: TargetRow) -> None:
        self.name, self.engine, self.format, self.extra = name, row.engine, row.format, row.extra

    def check(self, program: torch.export.ExportedProgram, annotations: Annotations) -> list[Finding]:
        """What keeps a captured graph from being lowered, as far as the graph alone tells."""
        return unfit_values(program) + [
            Finding(path, "", "", f"{type(a).__name__} is not realised by {self.name}", "choose another target")
            for path, given in annotations.items()
            for a in given
        ]

    def workload(self, program: torch.export.ExportedProgram, annotations: Annotations) -> Workload:
        """The operations of the graph."""
        return workload_of(program)

    def lower(self, state: State, row: EngineRow, folder: Path) -> Lowered:
        """Writes the files of a captured state into an empty folder.

        Raises:
            LoweringError: All operations that this target cannot write, with module paths.
        """
        captured = state.captured
        assert captured is not None
        if state.subgraph:
            return subgraph.lower(self, state, row, folder)
        problems = self.check(captured.program, state.annotations)
        if problems:
            raise LoweringError(f"the model cannot be lowered to {self.format} ({self.engine})", problems)
        program = run_passes(self.passes, captured.program)
        limits = limits_of(row)
        outcome = self._converted(program, captured, limits, folder)
        if outcome.error is not None:
            failure = self._failure(outcome, program, captured, limits)
            spelled = spell_out(program, replaceable(failure.findings))
            outcome = self._converted(spelled, captured, limits, folder) if spelled is not None else outcome
            if outcome.error is not None:
                raise failure
        return read_lowered(outcome.result, folder)

    def _converted(
        self, program: torch.export.ExportedProgram, captured: Captured, limits: dict[str, Any], folder: Path
    ) -> Outcome:
        """Converts; what the converter does not know is spelled out.  The first outcome where that does not help."""
        first = outcome = self.convert_in_child(program, captured.inputs, captured.outputs, limits, folder)
        done: set[str] = set()
        while outcome.error is not None:
            unknown = set(self.unknown(outcome.error))
            spelled = spell_out(program, unknown) if unknown - done else None
            if spelled is None:
                return first
            program, done = spelled, done | unknown
            outcome = self.convert_in_child(program, captured.inputs, captured.outputs, limits, folder)
        return outcome

    def convert_in_child(
        self,
        program: torch.export.ExportedProgram,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        limits: dict[str, Any],
        folder: Path,
    ) -> Outcome:
        """Runs :meth:`convert` in a child process, into a folder that it empties first."""
        for left in folder.iterdir():
            left.unlink()
        with tempfile.TemporaryDirectory(prefix="edgewright-lower-") as job:
            path = Path(job) / "program.pt2"
            failed = _save(program, path)
            if failed is not None:
                return failed
            return worker_with(self.preload).run(
                "lower",
                Path(job),
                {
                    "target": self.name,
                    "program": str(path),
                    "folder": str(folder),
                    "inputs": [unstructure(s) for s in inputs],
                    "outputs": [unstructure(s) for s in outputs],
                    "limits": limits,
                },
            )

    def convert(
        self,
        program: torch.export.ExportedProgram,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        limits: dict[str, Any],
        folder: Path,
    ) -> Lowered:
        """Writes the files; runs in a worker's child, may crash.

        Args:
            program: Flat inputs and outputs.
            inputs: In the program's order.
            outputs: ``binding`` is the position in the program's results.
            limits: ``opset`` and ``ir_version`` where the engine limits them.
            folder: Empty.
        """
        raise NotImplementedError

    def embed(self, model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], folder: Path) -> Lowered:
        """Writes files whose one operator is ``edgewright::Subgraph``; runs in a worker's child.

        Args:
            model: ONNX file for the native engine, weights in it.
            inputs: Bound to its inputs by their names, in its order.
            outputs: Likewise.
            folder: Empty.
        """
        raise NotImplementedError

    def gather(self, lowered: Lowered) -> Lowered:
        """Brings the files of all entries into the form in which they are sealed."""
        return lowered

    def _failure(
        self, outcome: Outcome, program: torch.export.ExportedProgram, captured: Captured, limits: dict[str, Any]
    ) -> LoweringError:
        error = outcome.error or {}
        log.debug("%s failed: %s\n%s", self.name, error.get("traceback"), outcome.log)
        head = f"the model cannot be lowered to {self.format} ({self.engine})"
        if error.get("mine"):
            found = [structure(Finding, f) for f in error["findings"]]
            return LoweringError(error["message"], found)
        is_of_the_disk = error.get("type") == "OSError"
        found = [] if is_of_the_disk else blame(program, lambda part, ins, outs: self._fails(part, ins, outs, limits))
        if not found:
            reason = self.explain(error)
            found = executing(error.get("traceback", ""), reason)
            return LoweringError(head if found else f"{head}: {reason}", found)
        return LoweringError(head, found)

    def _fails(self, program: Any, inputs: Any, outputs: Any, limits: dict[str, Any]) -> str | None:
        with tempfile.TemporaryDirectory(prefix="edgewright-blame-") as folder:
            outcome = self.convert_in_child(program, inputs, outputs, limits, Path(folder))
        if outcome.error is None:
            return None
        return self.explain(outcome.error)

    def unknown(self, error: dict[str, Any]) -> list[str]:
        """Operations that the converter says it does not know, for example ``aten.fmax``."""
        return []

    def explain(self, error: dict[str, Any]) -> str:
        """One line that says what the converter had against a single operation."""
        if error.get("findings"):
            return str(error["findings"][0]["reason"])
        if "error when deserializing the saved file" in error["message"]:
            return "it is a custom operation, which the converter's process does not know"
        return f"{error['type']}: {_first_line(error['message'])}" if error["type"] != "Died" else error["message"]


def unfit_values(program: torch.export.ExportedProgram) -> list[Finding]:
    """Inputs and results that no session takes or returns: sparse ones, and dtypes that numpy does not have."""
    nodes = {node.name: node for node in program.graph.nodes}
    signature = program.graph_signature
    found = []
    for kind, names in (("input", signature.user_inputs), ("result", signature.user_outputs)):
        for node in (nodes[name] for name in names if isinstance(name, str) and name in nodes):
            what, fix = _unfit(node.meta.get("val"))
            if what:
                reason = f"the {kind} {node.name} is {what}, which no session takes or returns"
                found.append(place.finding(node, reason, f"convert it inside forward, for example with {fix}"))
    return found


def _unfit(value: Any) -> tuple[str, str]:
    if not isinstance(value, torch.Tensor):
        return "", ""
    if value.layout != torch.strided:
        return "sparse", ".to_dense()"
    name = str(value.dtype).removeprefix("torch.")
    return ("", "") if value.dtype in _DTYPES else (name, "torch.view_as_real" if value.is_complex() else ".float()")


def executing(traceback: str, reason: str) -> list[Finding]:
    """The node that torch.fx says it was executing, as a finding; empty if it does not say."""
    node = re.search(r"While executing %\S+ : .*?target=torch\.ops\.([\w.]+)\]", traceback)
    if node is None:
        return []
    line = place.last_source_line(traceback.partition("Original traceback:")[2])
    return [Finding("", node[1], line, reason, _FIX)]


def _first_line(text: str) -> str:
    """The first line that says something; a heading that ends in a colon is followed by it."""
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    shown = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return shown[:160]


def _save(program: torch.export.ExportedProgram, path: Path) -> Outcome | None:
    from edgewright_runtime.quiet import quiet

    try:
        with quiet():
            torch.export.save(program, path)
    except Exception as error:
        return Outcome(None, {"type": type(error).__name__, "message": str(error), "traceback": ""}, "")
    return None


def limits_of(row: EngineRow) -> dict[str, Any]:
    """What the engine row limits, as plain data."""
    limits = {"opset": row.opset_max, "ir_version": row.ir_version_max}
    return {name: value for name, value in limits.items() if value is not None}
