"""Sparse models in other runtimes, as one operator of ours, beside the same runtimes' dense ones: ``python -m tests.sparsity.inside``.

MobileNet-v1 (224 x 224, float32, random weights: nothing is said of quality), made sparse through ``sdk.export``; all
contenders are interleaved in one run on one thread.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path

import click
import torch

import sdk
from edgewright_export.registry import TARGETS, target_named
from edgewright_runtime.measure import Timing, measure
from tests.native import readme
from tests.native.benchmark import mobilenet_v1
from tests.sparsity import benchmark
from tests.sparsity.quality import Once

README = readme.ROOT / "runtime/shims/README.md"
NAME = "inside"
SHARES = (0.8, 0.9)
"""Of zeros, in blocks of four outputs and one input."""
HOSTS = tuple(name for name in TARGETS if target_named(name).subgraphs_from)


@click.command()
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
def main(seconds: float) -> None:
    """Times all and writes the result file and the table."""
    timings, sizes = _timed(seconds)
    benchmark.write(benchmark.here(NAME), timings, sizes, {host: timings[f"{host} dense"] for host in HOSTS}, benchmark.versions())
    readme.write_table(README, "inside", text())


def _timed(seconds: float) -> tuple[dict[str, Timing], dict[str, int]]:
    example = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    module, runs, sizes = mobilenet_v1()[0], {}, {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        for host in HOSTS:
            for share in (0.0, *SHARES):
                name = f"{host} (4, 1) {share:.0%}" if share else f"{host} dense"
                bundle = _bundle(module, host, share, example, Path(folder) / f"{len(runs)}.edge")
                session = stack.enter_context(sdk.load(bundle.path, threads=1))
                runs[name] = functools.partial(session.run, example.numpy())
                sizes[name] = bundle.file_bytes
        return measure(runs, min_samples=50, min_seconds=seconds), sizes


def _bundle(module: torch.nn.Module, host: str, share: float, example: torch.Tensor, output: Path) -> sdk.Bundle:
    methods = [Once(share, allocation="uniform", schedule="one-shot", steps=0, subgraph=True)] if share else []
    calibration = [(example,)] if share else None
    return sdk.export(
        module, f"host:{host}", example_inputs=(example,), methods=methods, calibration=calibration, output=output
    )


def text() -> str:
    """:func:`tests.sparsity.benchmark.table_within` of each kind of machine: beside the dense model in the same runtime."""
    table = functools.partial(benchmark.table_within, beside="of the same runtime's dense")
    return benchmark.each_machine(NAME, "MobileNet-v1", table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
