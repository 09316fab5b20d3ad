"""How long the native engine takes to open bundles: ``python -m tests.native.benchmark_open run [NAME ...]``.

A model is exported once, and once more with packed weights for this machine (both kept in a folder); opening with and
without hashes, with and without a first session, and a second session are timed interleaved in one run.  The files are
in the page cache.  A sample ends when everything that was opened is closed again.  One result file a model lies in
``results/``; ``table`` prints them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import nn

import sdk
from apps import assets
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, measure, now
from edgewright_runtime.native_library import Model
from sdk.benchmark import PACKAGES, current_commit
from tests.native import benchmark, readme
from tests.native.benchmark import RESULTS
from tests.native.random_models import MobileNetV3Small


def mobilenet_v3_small() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """Random weights: a bundle of 20 MB with its packed weights."""
    return MobileNetV3Small().eval(), (torch.zeros(1, 3, 224, 224),)


MODELS = {**benchmark.MODELS, "mobilenet_v3_small": mobilenet_v3_small}


def bundles(name: str, folder: Path) -> dict[str, sdk.Bundle]:
    """The bundle as exported and with packed weights, made when they are not in the folder yet."""
    plain, packed = folder / f"{name}-native.edge", folder / f"{name}-packed.edge"
    if not plain.exists():
        model, inputs = MODELS[name]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sdk.export(model, "host:native", example_inputs=inputs, output=plain)
    if not packed.exists():
        sdk.Bundle.open(plain).pack_weights(output=packed)
    return {"plain": sdk.Bundle.open(plain), "packed": sdk.Bundle.open(packed)}


def calls_of(path: Path, opened: Model) -> dict[str, Callable[[], object]]:
    """What is timed of one bundle."""
    return {
        "open": lambda: Model(path, check=False),
        "open, hashes": lambda: Model(path),
        "open and session": lambda: Model(path, check=False).session(),
        "open and session, hashes": lambda: Model(path).session(),
        "second session": lambda: opened.session(),
    }


def bench(name: str, seconds: float, folder: Path) -> dict[str, object]:
    """Times one model."""
    made = bundles(name, folder)
    opened = {kind: Model(bundle.path, check=False) for kind, bundle in made.items()}
    sessions = {kind: model.session() for kind, model in opened.items()}
    found = machine()
    calls = {
        (kind, what): call
        for kind, bundle in made.items()
        for what, call in calls_of(bundle.path, opened[kind]).items()
    }
    timings = measure({": ".join(key): call for key, call in calls.items()}, min_samples=20, min_seconds=seconds)
    rows = [
        {"bundle": kind, "what": what, "min_s": timing.min_s, "median_s": timing.median_s, "samples_s": timing.samples_s}
        for (kind, what), timing in zip(calls, timings.values(), strict=True)
    ]
    sizes = {
        kind: {
            "file_bytes": bundle.file_bytes,
            "sha256": bundle.sha256,
            "model_memory_bytes": opened[kind].memory_bytes,
            "session_memory_bytes": sessions[kind].memory_bytes,
        }
        for kind, bundle in made.items()
    }
    return {
        "rows": rows, "bundles": sizes, "kind": "measured", "machine": found, "commit": current_commit(), "date": now(),
        "versions": {package: installed(package) or "" for package in PACKAGES},
    }  # fmt: skip


@click.group()
def main() -> None:
    """Times the opening of bundles."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--seconds", default=0.5, show_default=True, help="Of each call, at least.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "native-benchmark")
def run(names: tuple[str, ...], seconds: float, folder: Path) -> None:
    """Times the named models, or all, and writes the result files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        content = json.dumps(bench(name, seconds, folder), indent=1, sort_keys=True).encode() + b"\n"
        write_file(RESULTS / f"open-{name}.json", content)
    readme.write_table(readme.NATIVE, "opening", text())


@main.command("table")
def table() -> None:
    """Writes the result files into the README of the engine."""
    readme.write_table(readme.NATIVE, "opening", text())


def text() -> str:
    """One line a model and bundle: median milliseconds."""
    lines = []
    for path in sorted(RESULTS.glob("open-*.json")):
        found = json.loads(path.read_text())
        for kind, size in sorted(found["bundles"].items()):
            medians = {row["what"]: row["median_s"] * 1e3 for row in found["rows"] if row["bundle"] == kind}
            head = f"| {path.stem.removeprefix('open-')}, {kind} | {size['file_bytes'] / 1e6:.1f} |"
            lines.append(head + "".join(f" {value:.2f} |" for value in medians.values()))
    names = "".join(f" {what} |" for what in medians)
    return "\n".join([f"| bundle | MB |{names}", "|---" * (len(medians) + 2) + "|", *lines])


if __name__ == "__main__":
    main()
