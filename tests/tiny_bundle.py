"""A sealed bundle of a few kilobytes, made without torch: a convolution, a mean and a linear layer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgewright_runtime.bundle import Entry, TensorSpec
from edgewright_runtime.bundle.manifest import (
    EngineNeed,
    Manifest,
    MemoryNeed,
    Model,
    OutputParity,
    Parity,
    Recipe,
)
from edgewright_runtime.bundle.seal import seal
from edgewright_runtime.preprocess import Classify, Image

SIDE, CHANNELS = 8, 6
OPSET, IR_VERSION = 15, 8
LABELS = ("cat", "dog", "fox", "owl")


def make_tiny_bundle(
    folder: Path,
    *,
    device: str = "host",
    engine: str = "onnxruntime",
    preprocess: bool = True,
    labels: Sequence[str] = LABELS,
) -> Path:
    """Seals ``tiny.edge`` in a folder.

    Args:
        folder: An existing folder.
        device: Device id in the manifest.
        engine: Name of the engine in it.
        preprocess: Whether it declares how a photo is prepared and ranked.
        labels: One a class; ``()``: the bundle has none and four classes.

    Returns:
        Path of the bundle: input ``image`` float32 (1, 3, 8, 8), output ``logits`` float32 (1, classes).
    """
    output = folder / "tiny.edge"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        unsealed = Path(temporary) / "unsealed"
        unsealed.mkdir()
        files = ["model.onnx"]
        (unsealed / "model.onnx").write_bytes(_onnx(len(labels) or len(LABELS)))
        if labels:
            files.append("labels.txt")
            (unsealed / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        seal(unsealed, _manifest(device, engine, preprocess, labels), files, output)
    return output


def _onnx(classes: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    noise = np.random.default_rng(7)
    weights = {
        "kernel": noise.standard_normal((CHANNELS, 3, 3, 3)),
        "offset": noise.standard_normal(CHANNELS),
        "matrix": 4 * noise.standard_normal((CHANNELS, classes)),
        "bias": noise.standard_normal(classes),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "offset"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "matrix", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def _manifest(device: str, engine: str, preprocess: bool, labels: Sequence[str]) -> Manifest:
    classes = len(labels) or len(LABELS)
    image = Image(size=SIDE, crop=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    inputs = (TensorSpec("image", "float32", (1, 3, SIDE, SIDE), {}, "image"),)
    outputs = (TensorSpec("logits", "float32", (1, classes), {}, "logits"),)
    version = {"native": "0.1.0"}.get(engine, "1.10.0")
    need = EngineNeed(engine, version, version, None, {"opset": OPSET, "ir_version": IR_VERSION}, ())
    outputs_parity = (OutputParity("logits", 0.0, None, 1.0),)
    return Manifest(
        schema="1.0",
        model=Model("tiny", 27 * CHANNELS + CHANNELS + (CHANNELS + 1) * classes, 0, "float32", "made by hand"),
        device=device,
        format="onnx",
        engine=need,
        engine_why="made by hand",
        entries={"main": Entry("model.onnx", inputs, outputs)},
        states=(),
        files={},
        segments=(),
        preprocess={"image": image} if preprocess else {},
        labels="labels.txt" if labels else None,
        postprocess=Classify() if preprocess else None,
        recipe=Recipe((), "onnxruntime", 1),
        changes=(),
        quantization=None,
        latency=(),
        memory=MemoryNeed(4096, 2048, 2048, "estimated", "made by hand"),
        parity=Parity("measured", 60.0, "onnxruntime", "1.10.0", "made by hand", ("example",), outputs_parity),
        quality=None,
        versions={},
    )
