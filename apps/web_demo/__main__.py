"""Exports EfficientNet-Lite0 for browsers and lays out the page: ``python -m apps.web_demo FOLDER``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import sdk
from sdk.deploy.folder import deploy_folder

from ..models import EFFICIENTNET_IMAGE, efficientnet_lite0, imagenet_labels


def export(output: Path) -> sdk.Bundle:
    """The bundle of the page."""
    return sdk.export(
        efficientnet_lite0(),
        "browser-chromium",
        example_inputs=(torch.zeros(1, 3, 224, 224),),
        preprocess=EFFICIENTNET_IMAGE,
        labels=imagenet_labels(),
        output=output,
    )


def main(folder: Path) -> None:
    """Writes page, engine and model into a folder that any web server serves."""
    with tempfile.TemporaryDirectory() as work:
        done = deploy_folder(export(Path(work) / "efficientnet-lite0.edge").path, folder)
    print(f"{folder}: {done.bytes} bytes; python3 -m http.server --directory {folder} 8000")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m apps.web_demo FOLDER")
    main(Path(sys.argv[1]))
