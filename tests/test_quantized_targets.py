"""Quantized programs in ExecuTorch and TFLite files: what runs in integers, and how far results are from PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sdk
from edgewright_export.flat import flatten
from edgewright_export.passes import run_passes
from edgewright_export.quantized_program import decomposed
from edgewright_export.registry import target_named
from edgewright_export.targets.executorch import unfit_quantization as unfit_executorch
from edgewright_export.targets.litert import unfit_quantization as unfit_litert
from edgewright_export.tasks import read_lowered
from edgewright_export.verify import run_files
from edgewright_runtime.quiet import quiet

pytestmark = pytest.mark.usefixtures("no_speed_asked")

UNFIT = {"executorch": unfit_executorch, "litert": unfit_litert}


def on_grid(x: Tensor, scale: float, zero: int, last: int = 127) -> Tensor:
    q = decomposed.quantize_per_tensor(x, scale, zero, -last - 1, last, torch.int8)
    return decomposed.dequantize_per_tensor(q, scale, zero, -last - 1, last, torch.int8)


def on_rows(x: Tensor) -> Tensor:
    """A grid for each row, as both engines choose it in each run."""
    scale, zero = decomposed.choose_qparams_per_token_asymmetric(x, torch.int8)
    q = decomposed.quantize_per_token(x, scale, zero, -128, 127, torch.int8)
    return decomposed.dequantize_per_token(q, scale, zero, -128, 127, torch.int8, torch.float32)


def on_one_grid(x: Tensor) -> Tensor:
    """One grid for all rows, chosen in each run."""
    scale, zero = decomposed.choose_qparams.tensor(x, -128, 127, 1e-10, torch.int8)
    q = decomposed.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
    return decomposed.dequantize_per_tensor.tensor(q, scale, zero, -128, 127, torch.int8)


class Weight(nn.Module):
    """Integers and scales; called, a float weight.  A group is a part of a row of a linear layer's weight."""

    def __init__(self, shape: tuple[int, ...], bits: int = 8, group: int = 0) -> None:
        super().__init__()
        self.group, self.most = group, 2 ** (bits - 1) - 1
        weight = torch.randn(shape) / np.sqrt(np.prod(shape[1:]))
        rows = weight.reshape(shape[0], -1, group) if group else weight.flatten(1)
        scales = rows.abs().amax(-1) / self.most
        self.register_buffer("values", torch.round(rows / scales[..., None]).to(torch.int8).reshape(shape))
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(scales.shape, dtype=torch.int64))

    def forward(self) -> Tensor:
        given = self.values, self.scales, self.zeros
        if self.group:
            return decomposed.dequantize_per_channel_group(
                *given, -self.most, self.most, torch.int8, self.group, torch.float32
            )
        return decomposed.dequantize_per_channel(*given, 0, -self.most, self.most, torch.int8)


class Conv(nn.Module):
    """A layer on static grids, its bias on the grid of its sums."""

    def __init__(self, shape: tuple[int, ...], scale: float, **options: Any) -> None:
        super().__init__()
        self.weight, self.options = Weight(shape), options
        grid = self.weight.scales * scale
        self.register_buffer("bias", torch.round(torch.randn(shape[0]) * 0.1 / grid) * grid)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight(), self.bias, **self.options)


class ConvNet(nn.Module):
    """Strides, a depthwise layer, a residual sum, a concatenation of two grids where asked for, and a mean."""

    def __init__(self, joins: bool = False) -> None:
        super().__init__()
        self.joins = joins
        self.first = Conv((16, 3, 3, 3), 0.03, stride=2, padding=1)
        self.depthwise = Conv((16, 1, 3, 3), 0.02, padding=1, groups=16)
        self.pointwise = Conv((16, 16, 1, 1), 0.015)
        self.linear, self.bias = Weight((10, 32 if joins else 16)), nn.Buffer(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        x = on_grid(self.first(on_grid(x, 0.03, -3)).relu(), 0.02, -128)
        y = on_grid(torch.nn.functional.relu6(self.depthwise(x)), 0.015, -128)
        y = on_grid(self.pointwise(y), 0.02, 3)
        z = on_grid(x + y, 0.03, -60)
        z = on_grid(torch.cat([z, x], 1), 0.03, -60) if self.joins else z
        mean = on_grid(z.mean((2, 3)), 0.01, -50)
        return on_grid(nn.functional.linear(mean, self.linear(), self.bias), 0.01, 0)


class Linear(nn.Module):
    """A linear layer behind a layer norm; activations as a function gives them."""

    def __init__(self, activations: Any, bits: int = 8, group: int = 0) -> None:
        super().__init__()
        self.activations, self.weight, self.norm = activations, Weight((48, 64), bits, group), nn.LayerNorm(64)
        self.bias = nn.Buffer(torch.randn(48))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.activations(self.norm(x)), self.weight(), self.bias)


def exported(module: nn.Module, *inputs: Tensor, dynamic: Any = None) -> Any:
    with quiet():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)


def lowered(name: str, module: nn.Module, x: Tensor, folder: Path, dynamic: Any = None) -> tuple[Any, list[np.ndarray]]:
    """Files of a target, and what they return for ``x``."""
    target = target_named(name)
    captured = flatten(exported(module, x, dynamic=dynamic), dynamic)
    assert not UNFIT[name](captured.program)
    program = run_passes(target.passes, captured.program)
    outcome = target.convert_in_child(program, captured.inputs, captured.outputs, {}, folder)
    assert outcome.error is None, outcome.error
    files = read_lowered(outcome.result, folder)
    answers, _ = run_files(target, files, [[x.numpy()]], 1)
    return files, answers[0]


def operators(path: Path) -> list[tuple[str, str]]:
    """Names of the operators of a TFLite file with the dtype of their first input, or of the weight."""
    from ai_edge_litert import schema_py_generated as schema

    from edgewright_export.targets.tflite_file import TFLite

    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    file, found = TFLite.read(path), []
    for op in file.graph.operators:
        name = kinds[file.kind(op)]
        found.append((name, types[file.graph.tensors[op.inputs[int(name == "FULLY_CONNECTED")]].type]))
    return found


def decibels(exact: np.ndarray, found: np.ndarray) -> float:
    noise = float(((exact.astype(np.float64) - found) ** 2).sum())
    return float(10 * np.log10(float((exact.astype(np.float64) ** 2).sum()) / max(noise, 1e-300)))


_TWO_PARTS = "ExecuTorch 1.4.1 makes two delegates of this graph, and the joined channels are wrong"


@pytest.mark.parametrize(
    ("name", "joins"),
    [
        ("litert", True),
        pytest.param("executorch", False, marks=pytest.mark.slow),
        pytest.param("executorch", True, marks=[pytest.mark.slow, pytest.mark.xfail(strict=True, reason=_TWO_PARTS)]),
    ],
)
def test_static_convolutions_run_in_integers(name: str, joins: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = ConvNet(joins), torch.randn(2, 3, 32, 32)
    wanted = module(x).numpy()
    files, (got,) = lowered(name, module, x, tmp_path)
    steps = np.rint(np.abs(got - wanted) / 0.01)
    assert got.dtype == np.float32 and wanted.std() > 0.05
    assert steps.max() <= 1 and (steps > 0).mean() < 0.15
    if name == "litert":
        float_ones = {kind for kind, dtype in operators(files.path()) if dtype == "FLOAT32"}
        assert float_ones == {"QUANTIZE"}
    else:
        assert undelegated(files.path()) == []


def undelegated(path: Path) -> list[str]:
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

        plan = deserialize_pte_binary(path.read_bytes()).program.execution_plan[0]
    return [op.name for op in plan.operators]


@pytest.mark.parametrize("name", ["litert", "executorch"])
@pytest.mark.parametrize("bits", [8, 4])
def test_dynamic_activations_have_a_grid_for_each_row(name: str, bits: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, x = Linear(on_rows, bits), torch.randn(5, 64) * torch.logspace(-2, 1, 5)[:, None]
    files, (got,) = lowered(name, module, x, tmp_path)
    assert decibels(module(x).numpy(), got) > 100
    if name == "litert":
        assert ("FULLY_CONNECTED", f"INT{bits}") in operators(files.path())
    else:
        assert "quantized_decomposed" not in "".join(undelegated(files.path()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_one_grid_for_all_rows_is_taken_as_one_for_each(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    module, x = Linear(on_one_grid), torch.randn(5, 64)
    files, (got,) = lowered(name, module, x, tmp_path)
    assert decibels(module(x).numpy(), got) > 35


@pytest.mark.parametrize(("bits", "group"), [(8, 0), (4, 32)])
def test_litert_stores_integer_weights(bits: int, group: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module, x = Linear(lambda x: x, bits, group), torch.randn(5, 64)
    files, (got,) = lowered("litert", module, x, tmp_path)
    assert decibels(module(x).numpy(), got) > 100
    assert ("DEQUANTIZE", f"INT{bits}") in operators(files.path())


class ClassToken(nn.Module):
    """A constant beside what a convolution delivers on a grid that ends long before it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.first = nn.Parameter(torch.linspace(-30, 30, 16).view(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(x.shape[0], -1, -1), tokens, self.first], 1)


@pytest.mark.parametrize("engine", ["litert", "executorch", "onnxruntime", "native"])
def test_a_constant_beside_integers_stays_what_it_is(engine: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = [(torch.randn(1, 3, 32, 32),) for _ in range(3)]
    bundle = sdk.export(
        ClassToken().eval(),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[sdk.methods.PTQ()],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > 60


@pytest.mark.slow
def test_litert_keeps_an_open_batch(tmp_path: Path) -> None:
    torch.manual_seed(4)
    module, x = ConvNet(), torch.randn(2, 3, 32, 32)
    batch = ({0: torch.export.Dim("batch", min=1, max=8)},)
    _, (got,) = lowered("litert", module, x, tmp_path, batch)
    assert np.rint(np.abs(got - module(x).numpy()) / 0.01).max() <= 1


def unfit(name: str, module: nn.Module, x: Tensor) -> list[str]:
    return [finding.reason for finding in UNFIT[name](exported(module, x))]


def test_executorch_takes_an_input_that_python_knows_by_its_name(tmp_path: Path) -> None:
    """``nn.Sequential`` calls its argument ``input``, which torch.fx renames in every copy."""
    torch.manual_seed(0)
    inputs = [(torch.randn(3, 16),) for _ in range(2)]
    bundle = sdk.export(
        nn.Sequential(nn.Linear(16, 8)).eval(), "host:executorch", example_inputs=inputs[0], calibration=inputs,
        methods=[sdk.methods.PTQ(activations="dynamic")], output=tmp_path / "model.edge",
    )  # fmt: skip
    assert [tensor.name for tensor in bundle.manifest.entries["main"].inputs] == ["input"]


@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_unfit_layers_are_named_before_any_work(name: str) -> None:
    x = torch.randn(2, 64)
    image = torch.randn(1, 3, 8, 8)
    (reason,) = unfit(name, Linear(lambda x: on_grid(x, 0.03, 0, 7)), x)
    assert "4 bits" in reason
    assert unfit(name, Conv((4, 3, 3, 3), 0.03), image)
    assert not unfit(name, nn.Linear(64, 4), x)
    (finding,) = UNFIT[name](exported(nn.Sequential(Linear(on_rows, 8, 32)), x))
    assert finding.module_path == "0" and "scale" in finding.fix


def test_executorch_has_no_integer_weights_alone() -> None:
    x = torch.randn(2, 64)
    assert unfit("executorch", Linear(lambda x: x), x) and not unfit("litert", Linear(lambda x: x), x)
    assert unfit("litert", Linear(on_rows, 4, 32), x) and not unfit("executorch", Linear(on_rows, 4, 32), x)


def test_onnxruntime_is_told_of_weights_whose_products_it_would_cut_off(tmp_path):
    """On x86 without VNNI it adds pairs of products in 16 bits; a board of another kind gets the whole range."""
    module = nn.Sequential(nn.Conv2d(32, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    with torch.no_grad():
        module[0].weight.copy_(module[0].weight.sign() * 0.02)
    given = torch.full((1, 32, 8, 8), 3.0)
    bundle = sdk.export(
        module,
        "raspberry-pi-5:onnxruntime",
        example_inputs=given,
        methods=[sdk.methods.PTQ()],
        calibration=[given, -given],
        output=tmp_path / "m.edge",
    )
    assert bundle.manifest.engine.requires["weight_qmax"] == 127
    assert bundle.parity.snr_db > 60


def test_onnxruntime_opens_layers_of_one_shape_when_asked_for_precision(tmp_path):
    """It makes their weights u8 then, and fails where two of them share zero points."""
    onnxruntime = pytest.importorskip("onnxruntime")
    given = torch.randn(4, 24)
    bundle = sdk.export(
        nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24)).eval(),
        "raspberry-pi-5:onnxruntime",
        example_inputs=given,
        methods=[sdk.methods.PTQ()],
        calibration=[given, -given],
        output=tmp_path / "m.edge",
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(next(bundle.path.rglob("*.onnx"))), options)
    found = session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]
    with sdk.load(bundle.path) as ours:
        np.testing.assert_allclose(found, next(iter(ours.run(given.numpy()).values())), atol=1e-6)
