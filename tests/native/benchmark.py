"""The native engine against its peers, fp32: ``python -m tests.native.benchmark [NAME ...]``.

Every model is exported once for each engine on this machine (kept in a folder), then all are timed interleaved in one
run, on one thread.  One result file a model lies in ``results/``; ``table`` prints them.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import nn

import sdk
from apps import assets, models
from sdk.benchmark import bench_models, write_result
from tests.reference_models.mobilenet_v1_fmnist.model import Separable

RESULTS = Path(__file__).parent / "results"
ENGINES = ("native", "onnxruntime", "executorch", "litert")
Made = tuple[nn.Module, tuple[torch.Tensor, ...] | None]


def mobilenet_v1() -> Made:
    """1.0, 224 x 224 (Howard et al. 2017, table 1) with random weights: 569 million multiply-adds."""
    torch.manual_seed(0)
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    for inputs, (outputs, stride) in zip([32] + [outputs for outputs, _ in rows], rows, strict=False):
        layers.append(Separable(inputs, outputs, stride))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers).eval(), (torch.randn(1, 3, 224, 224),)


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


@click.group()
def main() -> None:
    """Times the native engine against its peers."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--threads", default=1, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each engine and model, at least.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "native-benchmark")
def run(names: tuple[str, ...], threads: int, seconds: float, folder: Path) -> None:
    """Times the named models, or all, and writes the result files."""
    folder.mkdir(parents=True, exist_ok=True)
    every = {name: bundles(name, folder) for name in names or MODELS}
    RESULTS.mkdir(exist_ok=True)
    for name, paths in every.items():
        write_result(bench_models(paths, threads, 50, seconds), RESULTS / f"fp32-{threads}-{name}.json")
    show()


@main.command("table")
def table() -> None:
    """Prints the result files."""
    show()


def show() -> None:
    """One line a model: median milliseconds of each engine, and ours over the fastest peer's."""
    ratios = []
    for path in sorted(RESULTS.glob("fp32-*.json")):
        medians = {row["measurement"]["engine"]: row["median_s"] * 1e3 for row in json.loads(path.read_text())["rows"]}
        ratios.append(medians["native"] / min(value for engine, value in medians.items() if engine != "native"))
        print(f"{path.stem:32s} " + "  ".join(f"{e} {v:8.3f}" for e, v in medians.items()) + f"  {ratios[-1]:.3f}")
    if ratios:
        print(
            f"geometric mean of ours over the fastest peer's: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.3f}"
        )


if __name__ == "__main__":
    main()
