"""Runs the unsealed files on the host and compares every output with the module's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from device_profiles import EngineRow
from device_profiles.errors import LoweringError, ParityError, RuntimeFailure
from edgewright_runtime.bundle import Bounds, Lowered
from edgewright_runtime.bundle.manifest import OutputParity, Parity
from edgewright_runtime.quiet import quiet

from . import parity, place
from .flat import Captured, tensor_spec, with_outputs
from .passes import run_passes
from .state import State
from .targets import Target, limits_of
from .tasks import plain_lowered
from .worker import worker_with

_MOST_ELEMENTS = 1 << 26
_PROBES = 96


@dataclass(frozen=True)
class Case:
    """One set of inputs in the program's order, and what the module returns for it."""

    label: str
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def verify(state: State, target: Target, row: EngineRow, lowered: Lowered, *, threads: int) -> Parity:
    """Compares the files with the module at the example and at the bounds of dynamic dimensions.

    Raises:
        ParityError: An output is below the dtype's threshold; names the first module that differs.
        LoweringError: The engine refuses the files.
    """
    assert state.captured is not None
    cases = list(cases_of(state.module, state.captured, state))
    found, version = _compare(target, lowered, cases, threads)
    dtypes = {str(p.dtype).removeprefix("torch.") for p in _tensors(state)}
    limit = parity.threshold_db(dtypes) if state.steady_db is None else parity.quantized_db(state.steady_db)
    failed = [o for o in found if o.snr_db is not None and o.snr_db < limit]
    if failed:
        where = first_difference(state, target, row, limit, threads)
        raise ParityError(_what_differs(lowered, failed, limit, where))
    labels = tuple(case.label for case in cases)
    reference = "the quantized module in PyTorch" if state.quantized else "the module in PyTorch"
    return Parity("measured", limit, lowered.engine, version, reference, labels, tuple(found))


def _what_differs(lowered: Lowered, failed: list[OutputParity], limit: float, where: str) -> str:
    rows = [f"  {o.name}: {_distance(o)}" for o in failed[:4]]
    first = f"the first module that differs: {where}" if where else "no single module differs by itself"
    return "\n".join(
        [f"{lowered.format} ({lowered.engine}) does not match the module: below {limit:g} dB", *rows, first]
    )


def _distance(output: OutputParity) -> str:
    if output.snr_db == parity.NOT_COMPARABLE_DB:
        return "another shape or dtype, NaN or infinity at other places, or not zero where the module returns zeros"
    return f"SNR {output.snr_db:.1f} dB, max abs {output.max_abs:.3g}"


def _tensors(state: State) -> list[torch.Tensor]:
    tensors = pytree.tree_leaves((state.example.args, state.example.kwargs))
    return [t for t in (*state.module.parameters(), *tensors) if isinstance(t, torch.Tensor)]


def _compare(target: Target, lowered: Lowered, cases: list[Case], threads: int) -> tuple[list[OutputParity], str]:
    results, version = run_files(target, lowered, [case.inputs for case in cases], threads)
    rows = []
    for i, spec in enumerate(lowered.outputs):
        pairs = zip(cases, results, strict=True)
        rows.append(parity.worst_of([parity.compare(spec.name, c.outputs[i], r[i]) for c, r in pairs]))
    return rows, version


def run_files(
    target: Target, lowered: Lowered, cases: list[list[np.ndarray]], threads: int
) -> tuple[list[list[np.ndarray]], str]:
    """Runs files in the engine's own session, in a child process.

    Raises:
        LoweringError: The engine refuses them or dies.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-run-") as folder:
        job = Path(folder)
        arrays = {f"{c}_{i}": a for c, given in enumerate(cases) for i, a in enumerate(given)}
        np.savez(job / "cases.npz", allow_pickle=False, **arrays)
        outcome = worker_with(target.preload).run(
            "run",
            job,
            {
                "lowered": plain_lowered(lowered),
                "folder": str(lowered.folder),
                "cases": str(job / "cases.npz"),
                "results": str(job / "results.npz"),
                "count": len(cases),
                "threads": threads,
            },
        )
        if outcome.error is not None:
            raise LoweringError(
                f"the {lowered.format} file was written, but {lowered.engine} cannot run it: "
                f"{outcome.error['message'].strip()[:400]}"
            )
        with np.load(job / "results.npz") as answers:
            count = len(lowered.outputs)
            results = [[answers[f"{c}_{i}"] for i in range(count)] for c in range(len(cases))]
    return results, outcome.result["engine_version"]


def cases_of(module: torch.nn.Module, captured: Captured, state: State) -> Iterator[Case]:
    """The example, then every dynamic dimension at its minimum, middle and maximum."""
    example = state.example
    base = captured.select(example.args, example.kwargs)
    yield _case("example", module, captured, state, base)
    bounds = {name: b for spec in captured.inputs for name, b in spec.bounds.items()}
    if not bounds:
        return
    for label, pick in (("minimum", _minimum), ("middle", _middle), ("maximum", _maximum)):
        sizes = {name: pick(b) for name, b in bounds.items()}
        tensors = [_resized(t, s.shape, sizes) for t, s in zip(base, captured.inputs, strict=True)]
        if sum(t.numel() for t in tensors) <= _MOST_ELEMENTS:
            yield _case(label, module, captured, state, tensors)


def _minimum(bounds: Bounds) -> int:
    return max(1, bounds.min)


def _middle(bounds: Bounds) -> int:
    return (_minimum(bounds) + _maximum(bounds)) // 2


def _maximum(bounds: Bounds) -> int:
    return min(bounds.max, max(64, 4 * bounds.min))


def _resized(tensor: torch.Tensor, shape: tuple[int | str, ...], sizes: dict[str, int]) -> torch.Tensor:
    for axis, size in enumerate(shape):
        if isinstance(size, str) and size in sizes:
            index = torch.arange(sizes[size]) % tensor.shape[axis]
            tensor = tensor.index_select(axis, index)
    return tensor


def _case(label: str, module: torch.nn.Module, captured: Captured, state: State, tensors: list[torch.Tensor]) -> Case:
    args, kwargs = captured.place(tensors, state.example.args, state.example.kwargs)
    with torch.no_grad(), quiet():
        result = module(*pytree.tree_map_only(torch.Tensor, torch.clone, args), **kwargs)
    outputs = [as_array(t) for t in captured.collect(result)]
    return Case(label, [as_array(t) for t in tensors], outputs)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a contiguous numpy array."""
    return np.ascontiguousarray(tensor.detach().resolve_conj().resolve_neg().cpu().numpy()).reshape(tuple(tensor.shape))


def first_difference(state: State, target: Target, row: EngineRow, limit: float, threads: int) -> str:
    """Path of the first module whose result differs when the files return every module's result."""
    assert state.captured is not None
    program = run_passes(target.passes, state.captured.program)
    probes = _probes(program)
    if not probes:
        return ""
    kept = list(range(len(state.captured.inputs)))
    probed = with_outputs(program, kept, [node.name for node in probes])
    specs = _probe_specs(state.captured, probes)
    inputs = state.captured.select(state.example.args, state.example.kwargs)
    with tempfile.TemporaryDirectory(prefix="edgewright-probe-") as folder:
        outcome = target.convert_in_child(probed, state.captured.inputs, specs, limits_of(row), Path(folder))
        if outcome.error is not None:
            return ""
        from .tasks import read_lowered

        lowered = read_lowered(outcome.result, Path(folder))
        try:
            results, _ = run_files(target, lowered, [[as_array(t) for t in inputs]], threads)
        except (LoweringError, RuntimeFailure):
            return ""
    wanted = _expected(state, probed, probes, inputs)
    for node, want, got in zip(probes, wanted, results[0], strict=True):
        snr = parity.compare("", want, got).snr_db
        if snr is not None and snr < limit:
            line = place.source_line(node)
            return f"{place.module_path(node) or 'the model itself'} ({place.operation(node)})" + (
                f" at {line}" if line else ""
            )
    return ""


def _expected(state: State, probed: Any, probes: list[torch.fx.Node], inputs: list[torch.Tensor]) -> list[np.ndarray]:
    """What each probe should be: the module's own result where it is one tensor, else the graph's."""
    results: dict[str, list[Any]] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, path=path: results.setdefault(path, []).append(out))
        for path, module in state.module.named_modules()
    ]
    args, kwargs = (
        state.captured.place(inputs, state.example.args, state.example.kwargs) if state.captured else ((), {})
    )
    try:
        with torch.no_grad(), quiet():
            state.module(*args, **kwargs)
            graph = probed.module(check_guards=False)(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    expected = []
    for node, value in zip(probes, graph, strict=True):
        own = results.get(place.module_path(node), [])
        tensor = own[0] if len(own) == 1 and isinstance(own[0], torch.Tensor) else value
        expected.append(as_array(tensor if tensor.shape == value.shape else value))
    return expected


def _probes(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    """The last node of each module in order; thinned out evenly if there are many."""
    last: dict[str, torch.fx.Node] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            path = place.module_path(node)
            last.pop(path, None)
            last[path] = node
    probes = list(last.values())
    step = -(-len(probes) // _PROBES)
    return probes[step - 1 :: step] if step > 1 else probes


def _probe_specs(captured: Captured, probes: list[torch.fx.Node]) -> list[Any]:
    return [tensor_spec(f"probe_{i}", node.meta["val"], {}, str(i)) for i, node in enumerate(probes)]
