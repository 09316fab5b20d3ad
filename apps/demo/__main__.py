"""Exports EfficientNet-Lite0, runs every bundle on 20 real photos, prints the table, writes the report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import sdk
from sdk.benchmark import bench_models, save_measurements

from ..models import EFFICIENTNET_IMAGE, efficientnet_lite0, photos

FOLDER = Path("demo")
ROWS = (
    ("jetson-nano", "onnx"),
    ("raspberry-pi-5", "onnx"),
    ("raspberry-pi-5", "tflite"),
    ("host", "onnx"),
    ("host", "executorch"),
    ("host", "tflite"),
)


@dataclass(frozen=True)
class Score:
    """Right answers of one bundle on the photos."""

    top1: int
    top5: int
    same_as_torch: int


def main() -> None:
    """Runs the demo in the working directory."""
    FOLDER.mkdir(exist_ok=True)
    model, pictures = efficientnet_lite0(), photos()
    torch_answers = [int(_scores(model, path).argmax()) for path, _ in pictures]
    bundles = [_export(model, device, format) for device, format in ROWS]
    scores = [_score(bundle, pictures, torch_answers) for bundle in bundles]
    timed = bench_models([bundle.path for bundle in bundles], 1, 50, 1.0)
    save_measurements(timed)
    for bundle in bundles:
        bundle.report(bundle.path / "report.html")
    _print(bundles, scores, timed, len(pictures))
    if any(score.same_as_torch != len(pictures) for score in scores):
        sys.exit("a bundle disagrees with PyTorch on a photo")


def _export(model: torch.nn.Module, device: str, format: str) -> sdk.Bundle:
    return sdk.export(
        model,
        device,
        format=format,
        example_inputs=(torch.from_numpy(EFFICIENTNET_IMAGE.load(photos()[0][0])),),
        preprocess=EFFICIENTNET_IMAGE,
        output=FOLDER / f"efficientnet-lite0-{device}-{format}.edge",
    )


def _scores(model: torch.nn.Module, photo: Path) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(EFFICIENTNET_IMAGE.load(photo)))


def _score(bundle: sdk.Bundle, pictures: list[tuple[Path, int]], torch_answers: list[int]) -> Score:
    with sdk.load(bundle.path) as session:
        answers = [[row.index for row in session.classify(path)] for path, _ in pictures]
    labels = [label for _, label in pictures]
    return Score(
        sum(a[0] == label for a, label in zip(answers, labels, strict=True)),
        sum(label in a for a, label in zip(answers, labels, strict=True)),
        sum(a[0] == t for a, t in zip(answers, torch_answers, strict=True)),
    )


def _print(bundles: list[sdk.Bundle], scores: list[Score], timed, count: int) -> None:
    table = Table(title=f"EfficientNet-Lite0, ImageNet weights, {count} photos", title_justify="left")
    for name in ("device", "format", "engine"):
        table.add_column(name)
    for name in ("size", "parity", "top-1", "top-5", "as torch", "this host, measured", "the board"):
        table.add_column(name, justify="right")
    for bundle, score, row in zip(bundles, scores, timed.rows, strict=True):
        table.add_row(
            bundle.device,
            bundle.format,
            bundle.engine,
            f"{bundle.file_bytes / 1e6:.1f} MB",
            f"{bundle.parity.snr_db:.0f} dB",
            *(f"{n}/{count}" for n in (score.top1, score.top5, score.same_as_torch)),
            f"{row.median_s * 1e3:.1f} ms",
            "-" if bundle.device == "host" else "unknown",
        )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print("host latency: one thread, median, all bundles interleaved in one run; boards: no predictor yet")
    console.print(f"reports: {FOLDER}/*/report.html", highlight=False)


if __name__ == "__main__":
    main()
