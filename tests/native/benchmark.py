"""The native engine against its peers: ``python -m tests.native.benchmark run [--dtype int8] [NAME ...]``.

Every model is exported once for each engine on this machine (kept in a folder), then all are timed interleaved in one
run, on one thread.  In 8 bits each engine's own quantizer makes its file (:mod:`tests.native.int8_models`).  One result
file a model lies in ``results/``; ``table`` prints them.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

import sdk
from apps import assets, models
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, measure, now, ratio
from sdk.benchmark import PACKAGES, bench_models, current_commit, write_result
from tests.native import int8_models, readme
from tests.reference_models.mobilenet_v1_fmnist.model import Separable

RESULTS = Path(__file__).parent / "results"
ENGINES = ("native", "onnxruntime", "executorch", "litert")
Made = tuple[nn.Module, tuple[torch.Tensor, ...] | None]


def mobilenet_v1() -> Made:
    """1.0, 224 x 224 (Howard et al. 2017, table 1): 569 million multiply-adds.

    Random weights, and normalizations that have seen random images: else the signal fades from layer to layer.
    """
    torch.manual_seed(0)
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    for inputs, (outputs, stride) in zip([32] + [outputs for outputs, _ in rows], rows, strict=False):
        layers.append(Separable(inputs, outputs, stride))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)]
    model = nn.Sequential(*layers)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model(torch.randn(4, 3, 224, 224))
    return model.eval(), (torch.randn(1, 3, 224, 224),)


def efficientnet_lite0() -> Made:
    """224 x 224 with its ImageNet weights."""
    return models.efficientnet_lite0(), (torch.randn(1, 3, 224, 224),)


class Logits(nn.Module):
    """A classifier of transformers that gives its scores alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(image).logits


def vit_tiny() -> Made:
    """ViT-Ti/16 (Touvron et al. 2021, table 1): 197 tokens, 192 wide, 12 layers, random weights."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000)
    return Logits(ViTForImageClassification(config)).eval(), (torch.randn(1, 3, 224, 224),)


def minilm() -> Made:
    """all-MiniLM-L6-v2 with its weights, 128 tokens."""
    return models.minilm(), None


MODELS: dict[str, Callable[[], Made]] = {
    "mobilenet_v1": mobilenet_v1,
    "efficientnet_lite0": efficientnet_lite0,
    "vit_tiny": vit_tiny,
    "minilm": minilm,
}


def bundles(name: str, folder: Path) -> list[Path]:
    """One bundle for each engine, exported when it is not in the folder yet."""
    paths = [folder / f"{name}-{engine}.edge" for engine in ENGINES]
    for engine, path in zip(ENGINES, paths, strict=True):
        if path.exists():
            continue
        model, inputs = MODELS[name]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sdk.export(model, f"host:{engine}", example_inputs=inputs, output=path)
    return paths


def exact(module: nn.Module, inputs: list[int8_models.Inputs]) -> list[np.ndarray]:
    """First outputs of the float module."""
    with torch.no_grad():
        results = [module(*map(torch.from_numpy, one)) for one in inputs]
    return [(r if isinstance(r, torch.Tensor) else r[0]).numpy() for r in results]


def bench_int8(name: str, threads: int, seconds: float, folder: Path) -> dict[str, object]:
    """Times one model in 8 bits; each row also says how far its outputs are from those of the float module."""
    kinds = {"onnxruntime": ".onnx", "litert": ".tflite"}
    made = dict(zip(ENGINES, bundles(name, folder), strict=True))
    fp32 = {engine: next(p for p in made[engine].iterdir() if p.suffix == kind) for engine, kind in kinds.items()}
    files = int8_models.make(name, lambda: MODELS[name]()[0], fp32, folder)
    inputs = int8_models.draw_inputs(name, 20)[8:]
    wanted = exact(MODELS[name]()[0], inputs)
    runs = {engine: int8_models.ENGINES[engine](path, threads) for engine, path in files.items()}
    quality = {engine: int8_models.decibels(wanted, [run(one).copy() for one in inputs]) for engine, run in runs.items()}
    found = machine()
    calls = {engine: lambda run=run: run(inputs[0]) for engine, run in runs.items()}
    timings = measure(calls, min_samples=50, min_seconds=seconds)
    rows = [
        {
            "engine": engine,
            "version": installed({"litert": "ai-edge-litert", "native": "edgewright"}.get(engine, engine)),
            "file_sha256": hashlib.sha256(files[engine].read_bytes()).hexdigest(),
            "file_bytes": files[engine].stat().st_size,
            "snr_db": quality[engine],
            "median_s": timing.median_s,
            "ratio": ratio(timing, timings["native"]),
            "samples_s": timing.samples_s,
        }
        for engine, timing in timings.items()
    ]
    versions = {package: installed(package) or "" for package in (*PACKAGES, "ai-edge-quantizer", "torchao")}
    return {
        "rows": rows, "threads": threads, "kind": "measured", "machine": found, "versions": versions,
        "commit": current_commit(), "date": now(),
    }  # fmt: skip


@click.group()
def main() -> None:
    """Times the native engine against its peers."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--dtype", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each engine and model, at least.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "native-benchmark")
def run(names: tuple[str, ...], dtype: str, threads: int, seconds: float, folder: Path) -> None:
    """Times the named models, or all, and writes the result files."""
    folder.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    for name in names or MODELS:
        path = RESULTS / f"{dtype}-{threads}-{name}.json"
        if dtype == "int8":
            found = bench_int8(name, threads, seconds, folder)
            write_file(path, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
        else:
            result = bench_models(bundles(name, folder), threads, 50, seconds)
            write_result(replace(result, rows=tuple(replace(row, path=row.name) for row in result.rows)), path)
    show()


@main.command("table")
def table() -> None:
    """Prints the result files, and writes the ratios into the README of the engine."""
    show()


def show() -> None:
    """One line a model: median milliseconds of each engine; then the table of ratios."""
    for path in sorted([*RESULTS.glob("fp32-*.json"), *RESULTS.glob("int8-*.json")]):
        figures = "  ".join(f"{engine} {value * 1e3:8.3f}" for engine, value in medians(path).items())
        rows = json.loads(path.read_text())["rows"]
        quality = "".join(f"  {row['engine']} {row['snr_db']:.1f} dB" for row in rows if "snr_db" in row)
        print(f"{path.stem:32s} {figures}{quality}")
    readme.write_table(readme.NATIVE, "speed", text())


def medians(path: Path) -> dict[str, float]:
    """Of a result file, seconds by engine."""
    rows = json.loads(path.read_text())["rows"]
    return {row.get("engine") or row["measurement"]["engine"]: row["median_s"] for row in rows}


def text() -> str:
    """Our median over the fastest peer's, one thread."""
    lines = ["| | fp32 | int8 |", "|---|---|---|"]
    ratios: dict[str, list[float]] = {"fp32": [], "int8": []}
    for name in MODELS:
        for dtype, column in ratios.items():
            found = medians(RESULTS / f"{dtype}-1-{name}.json")
            column.append(found["native"] / min(value for engine, value in found.items() if engine != "native"))
        lines.append(f"| {name} | " + " | ".join(f"{column[-1]:.2f}" for column in ratios.values()) + " |")
    means = (math.exp(sum(map(math.log, column)) / len(column)) for column in ratios.values())
    return "\n".join([*lines, "| geometric mean | " + " | ".join(f"{mean:.2f}" for mean in means) + " |"])


if __name__ == "__main__":
    main()
