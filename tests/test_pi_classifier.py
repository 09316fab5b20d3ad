"""The Raspberry Pi's classifier: photos and a stand-in for the camera, where nothing of the ahead-of-time half exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as pil

import sdk
from tests.tiny_bundle import LABELS, make_tiny_bundle

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "tests" / "golden" / "preprocess" / "photos"
ABSENT = ("torch", "torchvision", "onnx", "onnxscript", "transformers", "edgewright_export", "cv2", "matplotlib")
CAMERA = f"""
from PIL import Image

class Picamera2:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        print("closed")

    def start(self):
        self.started = True

    def capture_image(self):
        assert self.started
        return Image.open({str(PHOTOS / "rgba.png")!r})
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The program as the board starts it, in a Python that lacks what the board lacks."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")

    def call(*arguments: object, camera: str | None = None) -> subprocess.CompletedProcess[str]:
        if camera is not None:
            (site / "picamera2.py").write_text(camera)
        paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(ROOT / "apps" / "pi_classifier" / "classify.py"), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": paths}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return call


def rows(text: str) -> list[tuple[int, float, str]]:
    return [
        (int(place), float(score), label)
        for place, score, label in re.findall(r"^ ?(\d+)  (-?\d\.\d{4})  (.*)$", text, re.MULTILINE)
    ]


def test_a_bundle_exported_for_the_board_says_what_the_session_says(run: Run, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exports a PyTorch model")
    from tests.models import MobileNetV1

    torch.manual_seed(0)
    labels = [f"class {letter}" for letter in "abcdefghij"]
    bundle = sdk.export(
        MobileNetV1().eval(),
        device="raspberry-pi-4",
        example_inputs=(torch.randn(1, 3, 64, 64),),
        preprocess=sdk.Image(size=64),
        labels=labels,
        output=tmp_path / "model.edge",
    )
    photos = [PHOTOS / "rgb.png", PHOTOS / "turned-6.jpg"]
    done = run(bundle.path, *photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^(.*): \d+\.\d ms, measured$", done.stdout, re.MULTILINE) == list(map(str, photos))
    with sdk.load(bundle.path) as session:
        want = [row for photo in photos for row in enumerate(session.classify(photo), 1)]
    assert [(place, label) for place, _, label in rows(done.stdout)] == [(place, row.label) for place, row in want]
    assert [score for _, score, _ in rows(done.stdout)] == pytest.approx([row.score for _, row in want], abs=6e-5)


def test_the_camera(run: Run, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path)
    done = run(bundle, "--camera", "--count", 2, "--top-k", 1, camera=CAMERA)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("closed\n")
    assert re.findall(r"^(frame \d): ", done.stdout, re.MULTILINE) == ["frame 1", "frame 2"]
    with sdk.load(bundle) as session, pil.open(PHOTOS / "rgba.png") as photo:
        best = session.classify(photo)[0].label
    assert [(place, label) for place, _, label in rows(done.stdout)] == [(1, best)] * 2 and best in LABELS


def test_without_a_camera_the_next_step_is_said(run: Run, tmp_path: Path) -> None:
    done = run(make_tiny_bundle(tmp_path), "--camera", camera="raise ImportError('no camera here')")
    assert done.returncode == 1 and "no camera here; sudo apt-get install python3-picamera2" in done.stderr


def test_wrong_arguments(run: Run, tmp_path: Path) -> None:
    bundle, plain = make_tiny_bundle(tmp_path), tmp_path / "plain"
    plain.mkdir()
    for arguments in ((), ("--camera", "photo.jpg"), ("--count", "two")):
        assert run(bundle, *arguments).returncode == 2
    for arguments, said in (
        ((bundle, tmp_path / "none.jpg"), "cannot read a photo"),
        ((tmp_path / "none.edge", PHOTOS / "rgb.png"), "none.edge"),
        ((bundle, PHOTOS / "rgb.png", "--top-k", 0), "top_k 0 is not a positive integer"),
        ((make_tiny_bundle(plain, preprocess=False, labels=()), PHOTOS / "rgb.png"), "preprocess=sdk.Image"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
