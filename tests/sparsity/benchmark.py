"""Sparse models beside dense ones: ``python -m tests.sparsity.benchmark run|sweep``.

``run`` times MobileNet-v1 (224 x 224, float32) with sparse weights in the native engine, the same model dense, and the dense
model in each peer, all interleaved in one run on one thread.  ``sweep`` times ours from no zeros to nothing else beside the
dense one.  Weights are random: what is pruned is pruned by size, and nothing is said of quality.
"""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import torch

import sdk
from edgewright_runtime import kernels
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import Timing, machine, measure, now, ratio
from sdk.benchmark import PACKAGES, current_commit
from tests.native import readme
from tests.native.benchmark import mobilenet_v1
from tests.sparsity.prune import pruned

RESULTS = Path(__file__).parent / "results"
PEERS = ("onnxruntime", "litert", "executorch")
PATTERNS = {"(4, 1)": 4, "unstructured": 1}
"""Outputs of a block."""
SHARES = {"(4, 1)": (0.5, 0.8, 0.9), "unstructured": (0.5, 0.8, 0.9)}
STEPS = 5
"""Of a sweep, in percent."""
MACHINES = {"avx2": "AVX2", "avx512vnni": "AVX-512"}
"""What tables call those that were measured, by the best instruction set of the native engine there."""
_EXAMPLE = (1, 3, 224, 224)


@click.group()
def main() -> None:
    """Times sparse models."""


@main.command()
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
def run(seconds: float) -> None:
    """The native engine's sparse model beside dense ones in every engine; writes the result file and the table."""
    dense = mobilenet_v1()[0]
    models = {f"{engine} dense": (dense, engine) for engine in ("native", *PEERS)}
    for pattern, shares in SHARES.items():
        models |= {f"{pattern} {share:.0%}": (pruned(dense, share, PATTERNS[pattern]), "native") for share in shares}
    timings, sizes = _timed(models, seconds)
    peer = min((timings[f"{engine} dense"] for engine in PEERS), key=lambda timing: timing.median_s)
    write(here("mobilenet_v1"), timings, sizes, {"fastest_peer": peer, "native_dense": timings["native dense"]}, versions())
    _show()


@main.command()
@click.option("--seconds", default=1.0, show_default=True, help="Of each contender, at least.")
def sweep(seconds: float) -> None:
    """From no zeros to nothing else in steps, beside the dense model in the native engine; writes a result file a pattern."""
    dense = mobilenet_v1()[0]
    for pattern, rows in PATTERNS.items():
        shares = [percent / 100 for percent in range(0, 101, STEPS)]
        models = {f"{pattern} {share:.0%}": (pruned(dense, share, rows), "native") for share in shares}
        timings, sizes = _timed({"native dense": (dense, "native"), **models}, seconds)
        write(here(f"sweep-{rows}x1"), timings, sizes, {"native_dense": timings["native dense"]}, versions())
    _show()


@main.command()
def table() -> None:
    """Writes the result files into the README of the engine."""
    _show()


def _timed(
    models: dict[str, tuple[torch.nn.Module, str]], seconds: float
) -> tuple[dict[str, Timing], dict[str, int]]:
    """Timings, and bytes of the bundles."""
    torch.manual_seed(1)
    example = torch.randn(_EXAMPLE)
    runs: dict[str, Callable[[], object]] = {}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        for number, (name, (model, engine)) in enumerate(models.items()):
            output = Path(folder) / f"{number}.edge"
            bundle = sdk.export(model, f"host:{engine}", example_inputs=(example,), output=output)
            session = stack.enter_context(sdk.load(bundle.path, threads=1))
            runs[name] = functools.partial(session.run, example.numpy())
            sizes[name] = bundle.file_bytes
        return measure(runs, min_samples=50, min_seconds=seconds), sizes


def versions() -> dict[str, str]:
    """Of what takes part."""
    return {package: installed(package) or "" for package in PACKAGES}


def here(name: str) -> str:
    """The name of a result file of machines like this one."""
    return f"{name}-{kernels.isas()[-1]}"


def write(
    name: str, timings: dict[str, Timing], sizes: dict[str, int], beside: dict[str, Timing], packages: dict[str, str], **more: Any
) -> None:
    """A result file: bytes and times of every contender, and how many times as fast as those beside it."""
    rows = [
        {
            "name": key,
            "median_s": timing.median_s,
            "file_bytes": sizes[key],
            **{f"faster_than_{other}": ratio(reference, timing) for other, reference in beside.items()},
            "samples_s": timing.samples_s,
        }
        for key, timing in timings.items()
    ]
    about = {"kind": "measured", "machine": machine(), "versions": packages, "commit": current_commit(), "date": now()}
    found = {"rows": rows, **about, **more}
    RESULTS.mkdir(exist_ok=True)
    write_file(RESULTS / f"{name}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def _show() -> None:
    readme.write_table(readme.NATIVE, "sparse", text())


def each_machine(name: str, title: str, table: Callable[[str, str], str]) -> str:
    """A table for each kind of machine on which something was measured; ``table`` takes a result file's name and a title."""
    measured = [isa for isa in MACHINES if (RESULTS / f"{name}-{isa}.json").exists()]
    return "\n\n".join(table(f"{name}-{isa}", f"{title}, {MACHINES[isa]}") for isa in measured)


def text(name: str = "mobilenet_v1", title: str = "MobileNet-v1") -> str:
    """:func:`table` of each kind of machine."""
    return each_machine(name, title, table_of)


def table_of(name: str, title: str) -> str:
    """One line a contender: bytes, milliseconds, and how many times as fast as the fastest dense peer and as our dense model."""
    lines = [f"| {title} | bytes | median ms | of the fastest dense peer | of our dense model |", "|---|---|---|---|---|"]
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
        figures = [
            "{:.2f} x ({:.2f} to {:.2f})".format(*row[f"faster_than_{other}"]) for other in ("fastest_peer", "native_dense")
        ]
        lines.append(f"| {row['name']} | {row['file_bytes']:,} | {1e3 * row['median_s']:.2f} | {' | '.join(figures)} |")
    return "\n".join(lines)


def table_within(name: str, title: str, beside: str) -> str:
    """One line a contender: bytes, milliseconds, and how many times as fast as the one that the first word of its name stands for.

    Args:
        beside: What that is, the head of the last column.
    """
    lines = [f"| {title} | bytes | median ms | {beside} |", "|---|---|---|---|"]
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
        faster = "{:.2f} x ({:.2f} to {:.2f})".format(*row[f"faster_than_{row['name'].split()[0]}"])
        lines.append(f"| {row['name']} | {row['file_bytes']:,} | {1e3 * row['median_s']:.2f} | {faster} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
