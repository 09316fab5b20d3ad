"""Linear layers of BERT-base with sparse weights of 8 bits beside dense ones: ``python -m tests.sparsity.linear_s8 run|web|table``.

The six of one layer, one after the other, for 32 tokens: query, key, value and output (768 to 768), up (to 3072) and down, with
random weights, pruned by size and quantized through ``sdk.export``: nothing is said of quality.  Contenders are interleaved in one
run on one thread: ``run`` in the engines of this machine, ``web`` in both builds of the WebAssembly engine in headless Chromium.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import torch
from torch import nn

import sdk
from apps import assets
from edgewright_runtime.measure import Timing, measure
from tests.native import readme, web_benchmark
from tests.native.web_benchmark import OURS, Contender
from tests.sparsity import benchmark
from tests.sparsity.benchmark import PEERS
from tests.sparsity.prune import pruned

NAME, WEB, TITLE = "bert_linear_s8", "web-bert_linear_s8", "Linear layers of BERT-base, int8"
TOKENS, WIDTH, INNER = 32, 768, 3072
SHARES = (0.5, 0.8, 0.9)
"""Of zeros, in blocks of four outputs and four inputs."""
ACTIVATIONS = ("static", "dynamic")
"""Peers are as fast as the better of both."""


def layers() -> nn.Module:
    """Random weights."""
    torch.manual_seed(0)
    widths = [WIDTH] * 5 + [INNER, WIDTH]
    return nn.Sequential(*(nn.Linear(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))).eval()


def made(folder: Path, engine: str, share: float, activations: str) -> sdk.Bundle:
    """The bundle of a contender."""
    draw = torch.Generator().manual_seed(1)
    inputs = [(torch.randn(TOKENS, WIDTH, generator=draw),) for _ in range(4)]
    module = pruned(layers(), share, 4, 4) if share else layers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sdk.export(
            module, f"host:{engine}", example_inputs=inputs[0], calibration=inputs,
            methods=[sdk.methods.PTQ(activations=activations, even_if_slower=True)],
            output=folder / f"{engine}-{activations}-{share:.0%}.edge",
        )  # fmt: skip


@click.group()
def main() -> None:
    """Times sparse linear layers of 8 bits."""


@main.command()
@click.option("--seconds", default=1.0, show_default=True, help="Of each contender, at least.")
def run(seconds: float) -> None:
    """Ours beside every engine of this machine; writes the result file and the table."""
    runs: dict[str, Callable[[], object]] = {}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name, contender in _contenders().items():
            bundle = made(Path(folder), *contender)
            session = stack.enter_context(sdk.load(bundle.path, threads=1))
            runs[name] = functools.partial(session.run, *session.sample_inputs(seed=1).values())
            sizes[name] = bundle.file_bytes
        timings = measure(runs, min_samples=50, min_seconds=seconds)
    beside = {"fastest_peer": _fastest(timings, PEERS), "native_dense": _fastest(timings, ("native",))}
    benchmark.write(benchmark.here(NAME), timings, sizes, beside, benchmark.versions())
    _show()


def _contenders() -> dict[str, tuple[str, float, str]]:
    found = {f"{engine} dense, {kind}": (engine, 0.0, kind) for engine in ("native", *PEERS) for kind in ACTIVATIONS}
    return found | {f"(4, 4) {share:.0%}, {kind}": ("native", share, kind) for share in SHARES for kind in ACTIVATIONS}


def _fastest(timings: dict[str, Timing], engines: tuple[str, ...]) -> Timing:
    """Of dense contenders of these engines, whatever their activations."""
    found = [timings[f"{engine} dense, {kind}"] for engine in engines for kind in ACTIVATIONS]
    return min(found, key=lambda timing: timing.median_s)


@main.command()
@click.option("--samples", default=50, show_default=True, help="Of each contender, at least.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each contender, at least.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "web-benchmark")
def web(samples: int, seconds: float, folder: Path) -> None:
    """Ours in the browser, beside our dense layers there; writes the result file and the table."""
    folder.mkdir(parents=True, exist_ok=True)
    contenders: dict[str, Contender] = {}
    sizes: dict[str, int] = {}
    for share in (0.0, *SHARES):
        label, file = (f"(4, 4) {share:.0%}", f"{NAME}-{100 * share:.0f}") if share else ("dense", f"{NAME}-dense")
        with tempfile.TemporaryDirectory() as work:
            made(Path(work), "native", share, "static").pack(folder / f"{file}.edgez")
        for engine in OURS:
            contenders[f"{engine} {label}"] = {"engine": engine, "model": file}
            sizes[f"{engine} {label}"] = (folder / f"{file}.edgez").stat().st_size
    found = web_benchmark.measure(folder / f"{NAME}-dense.edgez", contenders, samples, seconds)
    if found["notes"]:
        raise click.ClickException(f"not all could run: {found['notes']}")
    timings = {contender: Timing(tuple(times)) for contender, times in found["times"].items()}
    beside = {engine: timings[f"{engine} dense"] for engine in OURS}
    more = {"browser": found["agent"], "threads": 1}
    benchmark.write(WEB, timings, sizes, beside, web_benchmark.versions(), **more)
    _show()


@main.command()
def table() -> None:
    """Writes the result files into the README of the engine and that of its package for browsers."""
    _show()


def _show() -> None:
    readme.write_table(readme.NATIVE, "sparse_linear_s8", text())
    readme.write_table(readme.WEB, "sparse_linear_s8", web_text())


def text() -> str:
    """As :func:`tests.sparsity.benchmark.text`."""
    return benchmark.text(NAME, TITLE)


def web_text() -> str:
    """As :func:`tests.sparsity.benchmark.table_within`: beside our dense layers in the same build."""
    return benchmark.table_within(WEB, TITLE, "of our dense ones, same build")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
