"""Photos and classes through ``runtime/web`` in Node: the golden vectors of the Python path, bit for bit."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import sdk
from edgewright_runtime.bundle import TensorSpec
from edgewright_runtime.bundle.seal import seal
from edgewright_runtime.preprocess import Image
from sdk import Bundle
from tests import tiny_bundle
from tests.native import web_setup
from tests.native.test_preprocess import decoded
from tests.test_preprocess import FOLDER, VECTORS, image_of
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.slow
PIXELS = {"L": "gray", "LA": "gray-alpha", "RGB": "rgb", "RGBA": "rgba", "CMYK": "cmyk"}
PHOTO = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
SCRIPT = """
import { readFileSync } from "node:fs";
import { load } from "%s";
const jobs = JSON.parse(readFileSync(process.argv[2]));
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const found = [];
for (const { bundle, photo, call, options } of jobs) {
  const session = await load(new URL(bundle), { worker: false, build: "simd" });
  const given = photo.data === undefined ? photo : { ...photo, data: bytes(photo.data) };
  const answer = await session[call](given, options).catch(({ code, message }) => ({ code, message }));
  found.push(answer.data ? { shape: answer.shape, data: Buffer.from(answer.data.buffer).toString("base64") } : answer);
  session.close();
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def node():
    web_setup.modules()
    return web_setup.node()


def in_node(node: str, folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    script, asked = folder / "photos.mjs", folder / "jobs.json"
    script.write_text(SCRIPT % (web_setup.WEB / "index.js").as_uri())
    asked.write_text(json.dumps(jobs))
    done = subprocess.run([node, str(script), str(asked)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def sent(pixels: np.ndarray, mode: str = "RGB", orientation: int = 1) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
    height, width = pixels.shape[:2]
    return {"data": data, "width": width, "height": height, "pixel": PIXELS[mode], "orientation": orientation}


def bundle_with(folder: Path, image: Image) -> str:
    """A packed bundle whose model gives its input back, and which says that much of photos."""
    spec = TensorSpec("image", "float32", image.shape, {}, "image")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logits"])], "same", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    manifest = tiny_bundle._manifest("host", "onnxruntime", True, ())
    entry = dataclasses.replace(manifest.entries["main"], inputs=(spec,), outputs=(dataclasses.replace(spec, name="logits", binding="logits"),))
    manifest = dataclasses.replace(manifest, preprocess={"image": image}, entries={"main": entry})
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (Path(work) / "model.onnx").write_bytes(model.SerializeToString())
        seal(Path(work), manifest, ["model.onnx"], folder / "same.edge")
    return packed(folder / "same.edge", folder / "same.edgez")


def packed(bundle: Path, archive: Path) -> str:
    Bundle.open(bundle).pack(archive)
    return archive.as_uri()


def test_golden_tensors(node, tmp_path):
    jobs = []
    for number, case in enumerate(VECTORS["cases"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        photo = sent(*decoded(FOLDER / "photos" / case["photo"]))
        jobs.append({"bundle": bundle_with(folder, image_of(case)), "photo": photo, "call": "preprocess"})
    for case, found in zip(VECTORS["cases"], in_node(node, tmp_path, jobs), strict=True):
        image = image_of(case)
        values = np.frombuffer(base64.b64decode(found["data"]), np.float32).reshape(found["shape"])
        assert np.array_equal(values, image.load(FOLDER / "photos" / case["photo"])), case


def test_classes_are_those_of_python(node, tmp_path):
    bundle = make_tiny_bundle(tmp_path)
    archive = packed(bundle, tmp_path / "tiny.edgez")
    options = [{}, {"topK": 1}, {"topK": 2}, {"topK": 99}]
    jobs = [{"bundle": archive, "photo": sent(PHOTO), "call": "classify", "options": option} for option in options]
    with sdk.load(bundle) as session:
        for option, found in zip(options, in_node(node, tmp_path, jobs), strict=True):
            wanted = session.classify(PHOTO, top_k=option.get("topK"))
            assert [(row["index"], row["label"]) for row in found["classes"]] == [(row.index, row.label) for row in wanted]
            np.testing.assert_allclose([row["score"] for row in found["classes"]], [row.score for row in wanted], atol=1e-6)
            assert found["milliseconds"] > 0


def test_without_labels_a_class_is_its_number(node, tmp_path):
    archive = packed(make_tiny_bundle(tmp_path, labels=()), tmp_path / "tiny.edgez")
    (found,) = in_node(node, tmp_path, [{"bundle": archive, "photo": sent(PHOTO), "call": "classify"}])
    assert [row["label"] for row in found["classes"]] == [str(row["index"]) for row in found["classes"]]


@pytest.mark.parametrize(
    ("photo", "options", "words"),
    [
        ({"data": "AAAA", "width": 2, "height": 1}, {}, "does not have 3 bytes"),
        ({"data": "AAAA", "width": 1, "height": 1, "pixel": "hsv"}, {}, "gray-alpha"),
        ({"data": "", "width": 0, "height": 0}, {}, "0 x 0"),
        ({"data": "AAAA", "width": 1, "height": 1}, {"topK": 0}, "topK is 0"),
        ({"data": "AAAA", "width": 1, "height": 1}, {"topK": 1.5}, "topK is 1.5"),
        ({"width": 1}, {}, "only a browser decodes"),
    ],
)
def test_what_is_no_photo(node, tmp_path, photo, options, words):
    archive = packed(make_tiny_bundle(tmp_path), tmp_path / "tiny.edgez")
    (found,) = in_node(node, tmp_path, [{"bundle": archive, "photo": photo, "call": "classify", "options": options}])
    assert found["code"] == "INVALID_ARGUMENT" and words in found["message"]


def test_a_bundle_that_says_nothing_of_photos(node, tmp_path):
    archive = packed(make_tiny_bundle(tmp_path, preprocess=False), tmp_path / "tiny.edgez")
    jobs = [{"bundle": archive, "photo": sent(PHOTO), "call": call} for call in ("classify", "preprocess")]
    for found in in_node(node, tmp_path, jobs):
        assert found["code"] == "INVALID_ARGUMENT" and "preprocess=sdk.Image" in found["message"]


