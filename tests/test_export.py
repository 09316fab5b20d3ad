"""The headline call, end to end: small models of our own in every format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sdk
from edgewright_export.capture import capture
from edgewright_export.passes import run_passes
from edgewright_export.state import Example

from .models import SMALL, Block, GruTagger, MobileNetV1, TwoInputs, ViT, seeded

FORMATS = ("onnx", "executorch", "tflite")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", SMALL)
def test_small_models_match_in_every_format(name, format, tmp_path, capfd):
    kind, inputs = SMALL[name]
    model, args = seeded(kind), inputs()
    bundle = sdk.export(model, "host", format=format, example_inputs=args, output=tmp_path / "m.edge")
    printed = capfd.readouterr()
    assert printed.out == "" and 0 < len(printed.err.splitlines()) <= 8
    assert bundle.format == format and bundle.parity.snr_db >= 80 and bundle.latency[0].kind == "measured"
    with torch.no_grad():
        expected = model(*args)
    with sdk.load(bundle.path) as session:
        results = session.run(*(tensor.numpy() for tensor in args))
    wanted = expected if isinstance(expected, dict) else {"output": expected}
    assert list(results) == list(wanted)
    for key, tensor in wanted.items():
        np.testing.assert_allclose(results[key], tensor.numpy(), rtol=1e-4, atol=1e-5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", FORMATS)
def test_a_sequence_of_layers_without_names_of_their_own(format, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU6())
    example = (torch.randn(1, 3, 16, 16),)
    bundle = sdk.export(model.eval(), "host", format=format, example_inputs=example, output=tmp_path / "m.edge")
    assert bundle.parity.snr_db >= 80


@pytest.mark.parametrize("format", FORMATS)
def test_dynamic_batch_at_minimum_middle_and_maximum(format, tmp_path):
    model = seeded(MobileNetV1)
    batch = torch.export.Dim("batch", min=1, max=6)
    bundle = sdk.export(
        model,
        "host",
        format=format,
        example_inputs=(torch.randn(2, 3, 64, 64),),
        dynamic_shapes=({0: batch},),
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.cases == ("example", "minimum", "middle", "maximum")
    spec = bundle.manifest.entries["main"].inputs[0]
    assert spec.shape[0] == "batch" and (spec.bounds["batch"].min, spec.bounds["batch"].max) == (1, 6)
    with sdk.load(bundle.path) as session:
        for size in (1, 5, 6):
            x = torch.randn(size, 3, 64, 64)
            np.testing.assert_allclose(session.run(x.numpy())["output"], model(x).detach().numpy(), atol=1e-5)
        with pytest.raises(sdk.InputError, match=r"shape \(7, 3, 64, 64\)"):
            session.run(np.zeros((7, 3, 64, 64), np.float32))


@pytest.mark.parametrize(
    ("kind", "example", "reason"),
    [
        (ViT, torch.randn(2, 3, 32, 32), "BROADCAST_TO takes the batch as a constant"),
        (GruTagger, torch.zeros(2, 12, dtype=torch.int64), "the batch is part of a constant of shape"),
    ],
)
def test_tflite_says_why_a_batch_cannot_be_dynamic(kind, example, reason, tmp_path):
    batch = torch.export.Dim("batch", min=1, max=6)
    with pytest.raises(sdk.LoweringError, match=f"{reason}(.|\n)*export a fixed size for TFLite"):
        sdk.export(
            seeded(kind),
            "host:litert",
            example_inputs=(example,),
            dynamic_shapes=({0: batch},),
            output=tmp_path / "m.edge",
        )
    assert list(tmp_path.iterdir()) == []


def test_board_export_uses_what_the_board_runs(tmp_path, capsys):
    model = seeded(MobileNetV1)
    example = (torch.randn(1, 3, 64, 64),)
    for device, engine, opset, newest in (
        ("jetson-nano", "native", 18, None),
        ("jetson-nano:onnxruntime", "onnxruntime", 15, "1.10.0"),
    ):
        nano = sdk.export(model, device, example_inputs=example, output=tmp_path / "nano.edge")
        assert (nano.device, nano.format, nano.engine, nano.latency) == ("jetson-nano", "onnx", engine, ())
        need = nano.manifest.engine
        assert (need.requires["opset"], need.max_version) == (opset, newest)
        assert nano.parity.engine == engine
        text = capsys.readouterr().err
        assert "unknown for jetson-nano" in text and "Maxwell" in text and "edgewright deploy" in text
    assert need.requires["ir_version"] == 8
    pinned = sdk.export(model, "jetson-nano:tensorrt", example_inputs=example, output=tmp_path / "trt.edge")
    assert pinned.manifest.engine.requires["opset"] == 13
    assert "trtexec" in capsys.readouterr().err


def test_browser_export_is_for_our_own_engine(tmp_path, capsys):
    bundle = sdk.export(
        seeded(MobileNetV1), "browser-chromium", example_inputs=(torch.randn(1, 3, 64, 64),), output=tmp_path / "b.edge"
    )
    assert (bundle.format, bundle.engine, bundle.latency) == ("onnx", "native", ())
    assert "unknown for browser-chromium" in capsys.readouterr().err


@pytest.mark.parametrize("format", FORMATS)
def test_same_input_same_bundle(format, tmp_path):
    example = (torch.randn(1, 3, 64, 64),)
    hashes = {
        sdk.export(
            seeded(MobileNetV1), "raspberry-pi-5", format=format, example_inputs=example, output=tmp_path / "m.edge"
        ).sha256
        for _ in range(2)
    }
    assert len(hashes) == 1


def test_pt2_and_onnx_files_are_models(tmp_path):
    model, args = seeded(TwoInputs), (torch.randn(1, 3, 16, 16), torch.randn(1, 4))
    torch.export.save(torch.export.export(model, args), tmp_path / "two.pt2")
    first = sdk.export(tmp_path / "two.pt2", "host:onnxruntime", output=tmp_path / "a.edge")
    assert first.manifest.model.name == "two" and first.manifest.model.example == "the program's own example inputs"
    second = sdk.export(first.path / "model.onnx", "jetson-nano:onnxruntime", output=tmp_path / "b.edge")
    assert second.manifest.engine.requires == {"opset": 15, "ir_version": 8}
    assert second.parity.reference == "the given file, optimisations off"
    arrays = [tensor.numpy() for tensor in args]
    with sdk.load(first.path) as one, sdk.load(second.path) as two:
        a, b = one.run(*arrays), two.run(*arrays)
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-5)
    with pytest.raises(sdk.OptionError, match="can only become format 'onnx'"):
        sdk.export(first.path / "model.onnx", "host", format="tflite", output=tmp_path / "c.edge")


def test_evaluate_sees_the_module_and_the_files(tmp_path):
    model, x = seeded(TwoInputs), (torch.randn(1, 3, 16, 16), torch.randn(1, 4))
    seen = []

    def evaluate(predict):
        seen.append(predict(*x)["scores"])
        return float(seen[-1].mean())

    options = {"example_inputs": x, "evaluate": evaluate}
    bundle = sdk.export(model, "host:onnxruntime", output=tmp_path / "m.edge", max_quality_drop=0.01, **options)
    assert torch.allclose(seen[0], seen[1], atol=1e-5)
    assert bundle.quality.before == pytest.approx(bundle.quality.after, abs=1e-5)
    answers = iter([1.0, 0.5])
    with pytest.raises(sdk.BudgetError, match="quality fell from 1 to 0.5"):
        sdk.export(
            model,
            "host:onnxruntime",
            example_inputs=x,
            evaluate=lambda predict: next(answers),
            max_quality_drop=0.1,
            output=tmp_path / "n.edge",
        )
    assert not (tmp_path / "n.edge").exists()


def test_parity_error_names_the_first_module_that_differs(tmp_path):
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Conv2d(3, 8, 3)
            self.wrong = Drift()
            self.tail = torch.nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.tail(self.wrong(self.inner(x)))

    with pytest.raises(sdk.ParityError) as caught:
        sdk.export(
            Shifted().eval(), "host:onnxruntime", example_inputs=(torch.randn(1, 3, 8, 8),), output=tmp_path / "m.edge"
        )
    assert "the first module that differs: wrong" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Drift(torch.nn.Module):
    """Computes something else once it is captured: only a comparison of outputs can notice."""

    def forward(self, x):
        return x * 1.01 if torch.compiler.is_exporting() else x


def test_a_method_of_the_users_own_is_applied(tmp_path):
    from dataclasses import dataclass, replace

    @dataclass(frozen=True)
    class Halve:
        """Halves every weight of the head."""

        factor: float = 0.5
        name: str = "halve"
        needs: frozenset = frozenset()

        def check(self, state, ctx):
            return []

        def apply(self, state, ctx):
            import copy

            module = copy.deepcopy(state.module)
            module.head.weight.data *= self.factor
            return replace(state, module=module, changes=(*state.changes, f"halve: head x {self.factor}"))

    model, x = seeded(MobileNetV1), torch.randn(1, 3, 64, 64)
    bundle = sdk.export(model, "host:onnxruntime", example_inputs=(x,), methods=[Halve()], output=tmp_path / "m.edge")
    assert bundle.methods == ("halve",) and bundle.manifest.changes == ("halve: head x 0.5",)
    bias = model.head.bias.detach()
    with sdk.load(bundle.path) as session, torch.no_grad():
        got = session.run(x.numpy())["output"]
        np.testing.assert_allclose(got - bias.numpy(), ((model(x) - bias) * 0.5).numpy(), atol=1e-5)


class Shifted(torch.nn.Module):
    """Attention, and a constant that forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + torch.tensor([1.0, 2.0]).repeat(8)


def test_a_constant_made_in_forward_leaves_attention_whole():
    model, x = seeded(Shifted), torch.randn(1, 5, 16)
    program = capture(model, Example((x,), {}, "")).program
    assert not any("detach_" in str(node.target) for node in program.graph.nodes)
    written = run_passes(["explicit_attention"], program).module(check_guards=False)
    torch.testing.assert_close(written(x)[0], model(x))


class Largest(torch.nn.Module):
    """The largest values and, for a second output, the smallest, without their places."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.topk(3).values + 1, torch.topk(x, 2, dim=-1, largest=False)[0]


def test_values_of_topk_alone(tmp_path):
    model, x = Largest().eval(), torch.randn(4, 9)
    captured = capture(model, Example((x,), {}, "")).program
    written = run_passes(["topk_values"], captured)
    assert all({user.args[1] for user in node.users} == {0} for node in captured.graph.nodes if "topk" in node.name)
    for got, wanted in zip(written.module(check_guards=False)(x), model(x), strict=True):
        assert torch.equal(got, wanted)
    bundle = sdk.export(model, "host:litert", example_inputs=(x,), output=tmp_path / "m.edge")
    assert bundle.parity.snr_db >= 80


class Namesake(torch.nn.Module):
    """A result has the name of the input."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": 2 * x + 1, "y": x.exp()}


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
def test_a_result_has_the_name_of_an_input(engine, tmp_path):
    x = torch.randn(2, 3)
    bundle = sdk.export(Namesake().eval(), f"host:{engine}", example_inputs=(x,), output=tmp_path / "m.edge")
    with sdk.load(bundle.path) as session:
        found = session.run(x.numpy())
    assert list(found) == ["x", "y"]
    np.testing.assert_allclose(found["x"], 2 * x.numpy() + 1, rtol=1e-6)


class OpenDict(torch.nn.Module):
    """Two inputs of one open size, in a dict."""

    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat((x, more["a"], more["b"])).relu() + more["a"].shape[0]


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
def test_nested_inputs_of_open_sizes(engine, tmp_path):
    size = torch.export.Dim("size", min=1, max=20)
    more = {"a": torch.randn(5, 3), "b": torch.randn(5, 3)}
    bundle = sdk.export(
        OpenDict().eval(),
        f"host:{engine}",
        example_inputs=(torch.randn(2, 3), more),
        dynamic_shapes=({}, {"a": {0: size}, "b": {0: size}}),
        output=tmp_path / "d.edge",
    )
    with sdk.load(bundle.path) as session:
        given = [np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32) for n in (2, 9, 9)]
        (found,) = session.run(*given).values()
    np.testing.assert_allclose(found, np.maximum(np.concatenate(given), 0) + 9, rtol=1e-6)


def test_a_bundle_says_nothing_of_the_sources_that_it_comes_from(tmp_path):
    bundle = sdk.export(OpenDict().eval(), "host:onnxruntime", example_inputs=(torch.ones(2, 3), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}), output=tmp_path / "d.edge")
    content = b"".join(path.read_bytes() for path in bundle.path.iterdir() if path.is_file())
    assert b"test_export" not in content and str(tmp_path).encode() not in content
