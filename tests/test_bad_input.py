"""Everything a user can get wrong: a clear error of ours and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

import sdk

from .models import DataDependent, MobileNetV1, Spectrum, TwoInputs, seeded

X = (torch.randn(1, 3, 64, 64),)


@pytest.fixture
def export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(model=None, device="host:onnxruntime", **options):
        return sdk.export(model if model is not None else seeded(MobileNetV1), device, **options)

    yield call
    assert not [p for p in tmp_path.rglob("*") if ".edge" in p.name and "keep" not in p.name], "something was left"


def fails(error, match):
    return pytest.raises(error, match=match)


@pytest.mark.parametrize(
    ("device", "match"),
    [
        ("jetson-nanoo", "did you mean 'jetson-nano'"),
        ("", "no device ''"),
        (7, "device must be a string"),
        ("jetson-nano:litert", "jetson-nano cannot use litert"),
        ("jetson-nano:npu", "has no engine 'npu'; it has: "),
        ("rock-5b:RK3588 NPU", "the vendor's tool for it is"),
    ],
)
def test_device(export, device, match):
    with fails(sdk.DeviceError, match):
        export(device=device, example_inputs=X)


def test_format(export):
    with fails(sdk.OptionError, "no format 'onx'; there are: executorch, onnx, tflite"):
        export(format="onx", example_inputs=X)
    with fails(sdk.DeviceError, "jetson-nano has no engine for format 'tflite'"):
        export(device="jetson-nano", format="tflite", example_inputs=X)


def test_methods(export):
    with fails(sdk.MethodError, "no edge method 'qatt'"):
        export(methods=["qatt"], example_inputs=X)
    with fails(sdk.MethodError, "expected a sequence"):
        export(methods="qat", example_inputs=X)
    with fails(sdk.MethodError, "no attention was seen"):
        export(methods=["token-dropping"], example_inputs=X)
    with fails(sdk.MethodError, r"make one: add \(\)"):
        export(methods=[sdk.methods.TokenDropping], example_inputs=X)


def test_example_inputs(export):
    with fails(sdk.CaptureError, r"example_inputs=\(torch.randn\(1, 3, 224, 224\),\)"):
        export()
    with fails(sdk.OptionError, "example_inputs is a int"):
        export(example_inputs=3)
    with fails(sdk.CaptureError, "does not run on the inputs"):
        export(example_inputs=(torch.randn(1, 4, 64, 64),))
    with fails(sdk.CaptureError, "does not run on the inputs"):
        export(example_inputs={"y": X[0]})
    with fails(sdk.OptionError, "no edge format has complex tensors"):
        export(example_inputs=(torch.randn(1, 3, 64, 64, dtype=torch.complex64),))


def test_failing_example_names_the_module(export):
    with pytest.raises(sdk.CaptureError) as caught:
        export(seeded(TwoInputs), example_inputs=(torch.randn(1, 3, 16, 16), torch.randn(1, 5)))
    assert caught.value.findings[0].module_path == "extra"
    assert "models.py" in caught.value.findings[0].source_line


def test_output(export, tmp_path):
    with fails(sdk.OutputError, "must end in .edge"):
        export(output="model.onnx", example_inputs=X)
    (tmp_path / "keep.edge").write_text("mine")
    with fails(sdk.OutputError, "exists and is not a bundle folder"):
        export(output="keep.edge", example_inputs=X)
    (tmp_path / "keep2.edge").mkdir()
    (tmp_path / "keep2.edge" / "mine.txt").write_text("mine")
    with fails(sdk.OutputError, "a folder that holds other files"):
        export(output="keep2.edge", example_inputs=X)
    with fails(sdk.OutputError, "does not exist; create it first"):
        export(output="no/such/m.edge", example_inputs=X)
    assert (tmp_path / "keep2.edge" / "mine.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0 or os.name != "posix", reason="mounting a small file system needs root")
def test_disk_full_and_read_only(export, tmp_path, monkeypatch):
    monkeypatch.setattr("edgewright_export.targets.blame", lambda *_: pytest.fail("no operation is to blame"))
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mount is not permitted here")
    try:
        with fails(sdk.EdgewrightError, "No space left|cannot write"):
            export(output=small / "m.edge", example_inputs=X)
        assert list(small.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        with fails(sdk.OutputError, "cannot write|not writable"):
            export(output=small / "m.edge", example_inputs=X)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_unfit_models(export):
    with fails(sdk.CaptureError, r"training mode\n.*call model.eval\(\)"):
        export(MobileNetV1(), example_inputs=X)
    partly = seeded(MobileNetV1)
    partly.features[0][1].train()
    with fails(sdk.CaptureError, r"features.0.1: this BatchNorm2d is in training mode"):
        export(partly, example_inputs=X)
    with torch.device("meta"):
        meta = MobileNetV1().eval()
    with fails(sdk.CaptureError, "meta device"):
        export(meta, example_inputs=X)
    nan = seeded(MobileNetV1)
    nan.head.weight.data[0, 0] = float("nan")
    with fails(sdk.CaptureError, r"head.weight: 1 of \d+ values are NaN"):
        export(nan, example_inputs=X)
    with fails(sdk.CaptureError, "head.weight: the dtype torch.complex64 is complex"):
        broken = seeded(MobileNetV1)
        broken.head.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
        export(broken, example_inputs=X)
    with fails(sdk.CaptureError, "TorchScript"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            scripted = torch.jit.script(torch.nn.Linear(2, 2).eval())
        export(scripted)
    with fails(sdk.CaptureError, "the inputs of Identity are not known"):
        export(torch.nn.Identity().eval())
    with fails(sdk.OptionError, "pass an instance, not the class"):
        export(MobileNetV1, example_inputs=X)
    with fails(sdk.OptionError, "no model file"):
        export("missing.pt2")
    for name in ("model.bin", "bad.pt2", "bad.onnx"):
        Path(name).write_text("no")
    with fails(sdk.OptionError, "neither .pt2"):
        export("model.bin")
    with fails(sdk.CaptureError, "not a program that torch"):
        export("bad.pt2")
    with fails(sdk.CaptureError, "not a valid ONNX file"):
        export("bad.onnx")


def test_limits(export):
    with fails(sdk.OptionError, "max_quality_drop needs evaluate="):
        export(max_quality_drop=0.1, example_inputs=X)
    with fails(sdk.BudgetError, "no latency price for jetson-nano"):
        export(device="jetson-nano", max_latency_s=0.1, example_inputs=X)
    with fails(sdk.BudgetError, "max_memory_bytes is 10"):
        export(max_memory_bytes=10, example_inputs=X)
    with fails(sdk.BudgetError, "max_latency_s is"):
        export(max_latency_s=1e-9, example_inputs=X)
    with fails(sdk.OptionError, "max_latency_s is -1"):
        export(max_latency_s=-1, example_inputs=X)
    with fails(sdk.OptionError, "evaluate is a int"):
        export(evaluate=3, example_inputs=X)


def test_declarations(export):
    with fails(sdk.OptionError, "preprocess is a str"):
        export(preprocess="imagenet", example_inputs=X)
    with fails(sdk.OptionError, "labels names no file"):
        export(labels="labels.txt", example_inputs=X)
    with fails(sdk.OptionError, "labels must be strings"):
        export(labels=["a\nb"], example_inputs=X)
    with fails(sdk.OptionError, "preprocess names photo; the model's inputs are x"):
        export(preprocess={"photo": sdk.Image(size=64)}, example_inputs=X)
    with fails(sdk.OptionError, "postprocess names output 'logits'; the model's outputs are output"):
        export(preprocess=sdk.Image(size=64), postprocess=sdk.Classify("logits"), example_inputs=X)


def test_data_dependent_control_flow_names_every_place(export):
    with pytest.raises(sdk.CaptureError) as caught:
        export(seeded(DataDependent), example_inputs=(torch.randn(2, 4),))
    assert [f.module_path for f in caught.value.findings] == ["first.1", "last"]
    text = str(caught.value)
    assert len(text.splitlines()) <= 10
    assert "if x.sum() > 0" in text and "torch.where" in text


@pytest.mark.parametrize("format", ["onnx", "executorch", "tflite"])
def test_an_operation_that_no_target_has_is_named(export, format):
    with pytest.raises(sdk.LoweringError) as caught:
        export(seeded(Spectrum), device="host", format=format, example_inputs=(torch.randn(2, 8),))
    found = caught.value.findings[0]
    assert found.module_path == "stage" and "linalg_eig" in found.op and "linalg.eigvalsh" in found.source_line
    assert len(str(caught.value).splitlines()) <= 10
    assert sdk.check(seeded(Spectrum), "host", format=format, example_inputs=(torch.randn(2, 8),))[0] == found


def test_dynamic_shapes_that_do_not_fit(export):
    batch = torch.export.Dim("batch", min=1, max=4)
    with fails(sdk.CaptureError, "dynamic_shapes do not fit the model"):
        export(example_inputs=X, dynamic_shapes=({1: batch},))


def test_buffers_that_forward_changes(export):
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(1)
            return x + self.count

    with fails(sdk.CaptureError, "forward changes the buffer count"):
        export(Counter().eval(), example_inputs=(torch.randn(2),))
