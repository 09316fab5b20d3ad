"""Sparse models beside dense ones in one page of headless Chromium: ``python -m tests.sparsity.web_benchmark run``.

MobileNet-v1 (224 x 224, float32) with sparse weights in both builds of the WebAssembly engine, the same model dense, and the
dense model in each peer, all interleaved on one thread.  ``make web`` builds the modules first.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import click
import torch

import sdk
from apps import assets
from edgewright_runtime.measure import Timing
from tests.native import readme, web_benchmark
from tests.native.benchmark import mobilenet_v1
from tests.native.web_benchmark import OTHERS, OURS, Contender
from tests.sparsity import benchmark
from tests.sparsity.prune import pruned

NAME, RESULT = "mobilenet_v1", "web-mobilenet_v1"
SUFFIXES = {"litertjs": ("tflite",), "onnxruntime-web": ("onnx",), "tfjs": ("tfjs.json", "tfjs.bin")}
"""Of the files that a peer fetches."""


@click.group()
def main() -> None:
    """Times sparse models in a browser."""


@main.command()
@click.option("--samples", default=50, show_default=True, help="Of each contender, at least.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "web-benchmark")
def run(samples: int, seconds: float, folder: Path) -> None:
    """The sparse models beside dense ones in every engine; writes the result file and the table."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = web_benchmark.export(NAME, lambda engine: mobilenet_v1(), folder)
    contenders: dict[str, Contender] = {f"{other} dense": {"engine": other, "model": NAME} for other in OTHERS}
    for label, model in {"dense": NAME, **_sparse(folder)}.items():
        contenders |= {f"{engine} {label}": {"engine": engine, "model": model} for engine in OURS}
    found = web_benchmark.measure(bundle, contenders, samples, seconds)
    if found["notes"]:
        raise click.ClickException(f"not all could run: {found['notes']}")
    timings = {contender: Timing(tuple(times)) for contender, times in found["times"].items()}
    peer = min((timings[f"{other} dense"] for other in OTHERS), key=lambda timing: timing.median_s)
    beside = {"fastest_peer": peer, "native_dense": timings[f"{OURS[0]} dense"]}
    sizes = {contender: _bytes_of(folder, **contenders[contender]) for contender in timings}
    more = {"browser": found["agent"], "largest_difference": found["apart"], "threads": 1}
    benchmark.write(RESULT, timings, sizes, beside, web_benchmark.versions(), **more)
    readme.write_table(readme.WEB, "sparse", text())


@main.command()
def table() -> None:
    """Writes the result file into the README of the package."""
    readme.write_table(readme.WEB, "sparse", text())


def _sparse(folder: Path) -> dict[str, str]:
    """Names of bundles, made when they are not in the folder yet."""
    dense, example = mobilenet_v1()
    found = {}
    for pattern, shares in benchmark.SHARES.items():
        for share in shares:
            rows = benchmark.PATTERNS[pattern]
            name = found[f"{pattern} {share:.0%}"] = f"{NAME}-{rows}x1-{100 * share:.0f}"
            if (folder / f"{name}.edgez").exists():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = sdk.export(
                    pruned(dense, share, rows), "host:native", example_inputs=example, output=folder / f"{name}.edge"
                )
            made.pack(folder / f"{name}.edgez")
    return found


def _bytes_of(folder: Path, engine: str, model: str) -> int:
    return sum((folder / f"{model}.{suffix}").stat().st_size for suffix in SUFFIXES.get(engine, ("edgez",)))


def text() -> str:
    """One line a contender."""
    return benchmark.table_of(RESULT, "MobileNet-v1")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
