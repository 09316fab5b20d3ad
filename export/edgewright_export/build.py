"""The only assembler: a state and a target in, a sealed bundle out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from device_profiles import DeviceProfile, EngineRow
from device_profiles.errors import OptionError
from device_profiles.record import unstructure
from edgewright_runtime.bundle import Lowered, TensorSpec, Workload
from edgewright_runtime.bundle.manifest import (
    MAJOR,
    MINOR,
    EngineNeed,
    Manifest,
    MemoryNeed,
    Model,
    Parity,
    Quality,
    Segment,
    StateSpec,
    Tried,
)
from edgewright_runtime.bundle.manifest import Recipe as PlainRecipe
from edgewright_runtime.bundle.paths import partial_folder
from edgewright_runtime.bundle.seal import seal
from edgewright_runtime.preprocess import Classify, Image

from .decided import decided
from .state import Recipe, State
from .targets import Target
from .tried import with_qualities
from .verify import verify

progress = logging.getLogger("edgewright.progress")
LABELS = "labels.txt"


@dataclass(frozen=True)
class Job:
    """Everything that is decided before the files are written.

    Args:
        name: Name of the model.
        device: The board.
        row: Its engine row.
        why: Why this engine, one phrase.
        target: Writes the files.
        recipe: What was asked for.
        output: Where the bundle goes.
        preprocess: By input name; ``""`` stands for the only input.
        labels: One per class, or None.
        postprocess: What ``classify`` does, or None.
        versions: Versions of what takes part, added to the target's own.
    """

    name: str
    device: DeviceProfile
    row: EngineRow
    why: str
    target: Target
    recipe: Recipe
    output: Path
    preprocess: Mapping[str, Image]
    labels: tuple[str, ...] | None
    postprocess: Classify | None
    versions: Mapping[str, str]


def build(
    job: Job,
    state: State,
    finish: Callable[[Lowered, Manifest], Manifest] | None = None,
    *,
    more: Mapping[str, State] | None = None,
    states: Sequence[StateSpec] = (),
) -> Manifest:
    """Lowers, verifies and seals a captured state.

    Args:
        job: What was decided.
        state: Captured; the entry ``main``.
        finish: Called with the verified files and the manifest before sealing, for what needs a
            session: quality, latency on the host, limits.
        more: Further entries by name, captured too.
        states: Which outputs become inputs of the next run, of any entry.

    Raises:
        LoweringError, ParityError: Nothing is left behind.
        OutputError: The bundle cannot be written.
    """
    captured = state.captured
    assert captured is not None
    job = with_names(job, captured.inputs, captured.outputs)
    with partial_folder(job.output) as folder:
        progress.info("lowering to %s", job.target.format)
        others = more or {}
        lowered = job.target.lower(state, job.row, folder)
        for name, other in others.items():
            lowered = _with_entry(job, lowered, name, other)
        lowered = job.target.gather(lowered)
        progress.info("comparing with the module in %s", job.target.engine)
        parity = verify(state, job.target, job.row, lowered, threads=job.recipe.threads)
        workload = job.target.workload(captured.program, state.annotations)
        for name, other in others.items():
            parity = _with_outputs(parity, name, _verified(job, lowered, name, other))
            workload = _with_ops(workload, _workload(job, other))
        model = Model(job.name, _parameters(state), workload.macs, _dtype(state), state.example.source)
        manifest = manifest_of(job, model, lowered, parity, workload, (*state.changes, *captured.dropped))
        manifest = replace(
            manifest,
            states=tuple(states),
            layers=state.layers,
            quantized=state.quantized,
            sparse=decided(state.sparse, lowered, job.device),
            quantization=None if state.quantization is None else dict(state.quantization),
        )
        return seal_job(job, folder, lowered, finish(lowered, manifest) if finish else manifest)


def _with_entry(job: Job, lowered: Lowered, name: str, state: State) -> Lowered:
    """One entry more, in a folder of its own."""
    folder = lowered.folder / name
    folder.mkdir()
    made = job.target.lower(state, job.row, folder)
    entry = replace(made.entries["main"], file=f"{name}/{made.entries['main'].file}")
    files = (*lowered.files, *(f"{name}/{file}" for file in made.files))
    return replace(lowered, files=files, entries={**lowered.entries, name: entry})


def _verified(job: Job, lowered: Lowered, name: str, state: State) -> Parity:
    progress.info("comparing %s with the module in %s", name, job.target.engine)
    alone = replace(lowered, entries={"main": lowered.entries[name]})
    return verify(state, job.target, job.row, alone, threads=job.recipe.threads)


def _workload(job: Job, state: State) -> Workload:
    assert state.captured is not None
    return job.target.workload(state.captured.program, state.annotations)


def _with_outputs(parity: Parity, entry: str, own: Parity) -> Parity:
    """The comparison of another entry behind that of ``main``, its outputs as ``entry:output``."""
    outputs = tuple(replace(output, name=f"{entry}:{output.name}") for output in own.outputs)
    return replace(parity, outputs=(*parity.outputs, *outputs))


def _with_ops(workload: Workload, own: Workload) -> Workload:
    """What all entries need; one of them runs at a time."""
    return replace(
        workload,
        ops=(*workload.ops, *own.ops),
        weight_bytes=workload.weight_bytes + own.weight_bytes,
        activation_bytes=max(workload.activation_bytes, own.activation_bytes),
    )


def seal_job(job: Job, folder: Path, lowered: Lowered, manifest: Manifest) -> Manifest:
    """Adds the labels and seals the folder."""
    files = list(lowered.files)
    if job.labels:
        (folder / LABELS).write_text("".join(f"{label}\n" for label in job.labels), encoding="utf-8")
        files.append(LABELS)
    segments = tuple(
        Segment(name, 0, (folder / name).stat().st_size, "bytes", lowered.format, None, None, "mapped")
        for name in lowered.files
    )
    return seal(folder, replace(manifest, segments=segments), files, job.output)


def manifest_of(
    job: Job, model: Model, lowered: Lowered, parity: Parity, workload: Workload, changes: tuple[str, ...]
) -> Manifest:
    """The manifest of verified files."""
    need = workload.weight_bytes + workload.activation_bytes
    return Manifest(
        schema=f"{MAJOR}.{MINOR}",
        model=model,
        device=job.device.id,
        format=lowered.format,
        engine=EngineNeed(
            job.target.engine,
            parity.engine_version,
            job.target.subgraphs_from if lowered.requires.get("subgraph") else _MINIMUM[job.target.engine],
            job.row.max_version,
            lowered.requires,
            (),
        ),
        engine_why=job.why,
        entries=lowered.entries,
        states=(),
        files={},
        segments=(),
        preprocess=dict(job.preprocess),
        labels=LABELS if job.labels else None,
        postprocess=job.postprocess,
        recipe=PlainRecipe(tuple(map(plain_method, job.recipe.methods)), job.recipe.target, job.recipe.threads),
        changes=changes,
        quantization=None,
        latency=(),
        memory=MemoryNeed(
            need,
            workload.weight_bytes,
            workload.activation_bytes,
            "estimated",
            "weights plus the largest set of results alive at once, from the captured graph",
        ),
        parity=parity,
        quality=None,
        versions={**job.versions, **lowered.versions},
    )


_MINIMUM = {"native": "0.1", "onnxruntime": "1.10", "executorch": "1.4", "litert": "2.3"}
"""Oldest version of each engine that read our files in a test."""


def with_quality(manifest: Manifest, tried: Sequence[Tried], before: float, after: float) -> Manifest:
    """Records what ``evaluate`` returned, and what was tried."""
    quality = Quality(before, after, "measured", "evaluate= on the module and on the session")
    return replace(manifest, quality=quality, tried=with_qualities(tried, before, after))


def plain_method(method: Any) -> dict[str, Any]:
    """A method as plain data: its name and its options."""
    return {"name": str(method.name), **unstructure(method)}


def _parameters(state: State) -> int:
    return sum(p.numel() for p in state.module.parameters())


def _dtype(state: State) -> str:
    dtypes = [p.dtype for p in state.module.parameters()]
    most = max(set(dtypes), key=dtypes.count) if dtypes else torch.float32
    return str(most).removeprefix("torch.")


def with_names(job: Job, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Job:
    """The job with its declarations bound to inputs and outputs; ``""`` stands for the only input.

    Raises:
        OptionError: They name an input or output that the model does not have.
    """
    takes, returns = [spec.name for spec in inputs], [spec.name for spec in outputs]
    if "" in job.preprocess and len(takes) != 1:
        raise OptionError(f"preprocess=sdk.Image(...) needs one input, the model has {', '.join(takes)}; pass a dict")
    images = {name or takes[0]: image for name, image in job.preprocess.items()}
    unknown = [name for name in images if name not in takes]
    if unknown:
        raise OptionError(f"preprocess names {', '.join(unknown)}; the model's inputs are {', '.join(takes)}")
    if job.postprocess and job.postprocess.output and job.postprocess.output not in returns:
        raise OptionError(
            f"postprocess names output {job.postprocess.output!r}; the model's outputs are {', '.join(returns)}"
        )
    return replace(job, preprocess=images)
