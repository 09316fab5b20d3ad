"""A transformer with sparse linear layers beside dense ones: ``python -m tests.sparsity.transformer make|run|table``.

ViT-S/16 (197 tokens, 384 wide, 12 layers, float32) with random weights, pruned by size: nothing is said of quality.  All
contenders are interleaved in one run on one thread.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import torch
from torch import nn

import sdk
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import measure
from sdk.benchmark import PACKAGES
from tests.native import readme
from tests.native.benchmark import Logits
from tests.sparsity import benchmark
from tests.sparsity.benchmark import PEERS
from tests.sparsity.prune import pruned

NAME, TITLE = "vit_small", "ViT-S/16"
SHARES = (0.5, 0.8, 0.9)
"""Of zeros, in blocks of four outputs and one input."""


def vit_small() -> nn.Module:
    """ViT-S/16 (Touvron et al. 2021, table 1), random weights."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
    return Logits(ViTForImageClassification(config)).eval()


def example() -> torch.Tensor:
    """An image."""
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def contenders() -> dict[str, tuple[str, float]]:
    """By name the engine and the share of zeros."""
    dense = {f"{engine} dense": (engine, 0.0) for engine in ("native", *PEERS)}
    return dense | {f"(4, 1) {share:.0%}": ("native", share) for share in SHARES}


@click.group()
def main() -> None:
    """Times a sparse transformer."""


def _bundle(folder: Path, engine: str, share: float) -> sdk.Bundle:
    path = folder / f"{engine}-{share:.0%}.edge"
    if not path.exists():
        model = pruned(vit_small(), share) if share else vit_small()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sdk.export(model, f"host:{engine}", example_inputs=(example(),), output=path)
    return sdk.Bundle.open(path)


_folder = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Bundles, made when they are not there."
)


@main.command()
@_folder
def make(folder: Path) -> None:
    """Exports every contender."""
    folder.mkdir(parents=True, exist_ok=True)
    for engine, share in contenders().values():
        _bundle(folder, engine, share)


@main.command()
@_folder
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
def run(folder: Path, seconds: float) -> None:
    """Times every contender; writes the result file and the table."""
    runs: dict[str, Callable[[], object]] = {}
    sizes: dict[str, int] = {}
    with ExitStack() as stack:
        for name, (engine, share) in contenders().items():
            bundle = _bundle(folder, engine, share)
            session = stack.enter_context(sdk.load(bundle.path, threads=1))
            runs[name], sizes[name] = functools.partial(session.run, example().numpy()), bundle.file_bytes
        timings = measure(runs, min_samples=50, min_seconds=seconds)
    peer = min((timings[f"{engine} dense"] for engine in PEERS), key=lambda timing: timing.median_s)
    versions = {package: installed(package) or "" for package in PACKAGES}
    benchmark.write(benchmark.here(NAME), timings, sizes, {"fastest_peer": peer, "native_dense": timings["native dense"]}, versions)
    readme.write_table(readme.NATIVE, "sparse_transformer", text())


@main.command()
def table() -> None:
    """Writes the result file into the README of the engine."""
    readme.write_table(readme.NATIVE, "sparse_transformer", text())


def text() -> str:
    """As :func:`tests.sparsity.benchmark.text`."""
    return benchmark.text(NAME, TITLE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
