"""Quantization: the grids, what lies on them, what is computed on them, and that files compute the same."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sdk
from device_profiles import Finding
from device_profiles.errors import LoweringError, MethodError, OptionError
from edgewright_export import calibration, parity
from edgewright_export.methods.by_name import is_named
from edgewright_export.methods.quantization.attention import Watched, apart, attention_sites
from edgewright_export.methods.quantization.begin import Options, begin
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.compensate import round_weights
from edgewright_export.methods.quantization.coverage import coverage, share_of_bytes, share_of_macs
from edgewright_export.methods.quantization.graph import float_graph
from edgewright_export.methods.quantization.grid import Grid, grid_over, integers, spread, weight_scales
from edgewright_export.methods.quantization.plan import Plan, learned, simulated, written
from edgewright_export.methods.quantization.ranges import RANGES, grid_of
from edgewright_export.methods.quantization.simulate import IntegerProduct, OnGrid, OnGridOfRun
from edgewright_export.methods.quantization.sites import products, sites
from edgewright_export.methods.quantization.steady import steadiness_db
from edgewright_export.state import Example, State

from .models import ViT, seeded

pytestmark = pytest.mark.usefixtures("no_speed_asked")

CONTEXT: Any = SimpleNamespace(engine=SimpleNamespace(weight_qmax=127, weight_bits=(8, 4)), target="native")


class Residual(nn.Module):
    """A convolution with a batch norm, a sum, a mean of pixels and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        x = torch.relu(x + self.second(x))
        return self.head(x.mean((2, 3)))


def state_of(module: nn.Module, *inputs: Tensor) -> State:
    """Before any method."""
    return State(module.eval(), Example(inputs, {}, "a test"), module)


def drawn(*shape: int, count: int = 4) -> list[tuple[Tensor, ...]]:
    """Calibration inputs."""
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(*shape, generator=draw),) for _ in range(count)]


def residual() -> nn.Module:
    """With statistics and weights that are not those of a new module."""
    module = seeded(Residual)
    module.first[1].running_var.uniform_(0.5, 2)
    module.first[1].running_mean.uniform_(-0.3, 0.3)
    return module.eval()


def plan_of(module: nn.Module, given: list[tuple[Tensor, ...]], **options: Any) -> Plan:
    """As PTQ makes it."""
    state = state_of(module, *given[0])
    return begin(state, Options.of(sdk.methods.PTQ(**options)), CONTEXT, calls(given, state.example))


@pytest.mark.parametrize(
    "ends", [(0, 0), (-1, 2), (0.5, 3), (-3, -0.5), (-1e-30, 1e-30), (0, 1e30), (-1e-45, 0)], ids=str
)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_grid_holds_zero_and_reaches_its_ends(ends, bits, symmetric):
    grid = grid_over(*ends, bits, symmetric=symmetric)
    assert grid.scale > 0 and math.isfinite(grid.scale) and grid.scale == float(np.float32(grid.scale))
    assert grid.low <= grid.zero_point <= grid.high
    assert grid.least <= min(ends[0], 0) + grid.scale and grid.most >= max(ends[1], 0) - grid.scale
    assert grid.high - grid.low == (1 << bits) - (2 if symmetric else 1)
    assert not symmetric or grid.zero_point == 0


@pytest.mark.parametrize("most", [127, 63, 7])
def test_scales_of_weights(most):
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    weight[2] = 0
    nearest, searched = weight_scales(weight, most), weight_scales(weight, most, search=True)
    assert nearest[2] == searched[2] == 1
    for scales in (nearest, searched):
        whole = integers(weight, scales, most)
        assert whole.abs().max() <= most and torch.equal(whole, whole.round())
    errors = [
        ((integers(weight, s, most) * s.view(-1, 1, 1, 1) - weight) ** 2).sum((1, 2, 3)) for s in (nearest, searched)
    ]
    assert (errors[1] <= errors[0] + 1e-6).all()


def test_groups_of_weights_have_their_own_scales():
    weight = torch.cat([torch.ones(2, 16), 100 * torch.ones(2, 16)], 1)
    scales = weight_scales(weight, 7, group=16)
    assert scales.shape == (2, 2) and torch.allclose(scales, torch.tensor([[1 / 7, 100 / 7]] * 2))
    assert torch.equal(integers(weight, scales, 7), torch.full_like(weight, 7))


@pytest.mark.parametrize("how", RANGES)
def test_ranges_lie_inside_of_what_was_seen(how):
    seen = torch.randn(20_000, generator=torch.Generator().manual_seed(2))
    seen[0] = 60
    grid = grid_of(seen, float(seen.min()), 60.0, how, 8, symmetric=False)
    assert grid.most <= 60.1 and grid.least >= float(seen.min()) - grid.scale
    assert how in ("min-max", "mse") or grid.most < 55
    errors = [(OnGrid(g)(seen) - seen).square().sum() for g in (grid, grid_over(float(seen.min()), 60.0, 8))]
    assert how != "mse" or errors[0] <= errors[1]


@pytest.mark.parametrize("how", RANGES)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_ranges_of_a_constant(how, value):
    grid = grid_of(torch.full((100,), value), value, value, how, 8, symmetric=False)
    assert abs(float(OnGrid(grid)(torch.tensor(value))) - value) <= grid.scale


def test_batch_norms_are_folded_and_the_batch_is_open():
    module = residual()
    graph = float_graph(state_of(module, torch.randn(1, 3, 6, 6)))
    assert not [node for node in graph.graph.nodes if "batch_norm" in str(node.target)]
    x = torch.randn(5, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), module(x))


def test_what_lies_on_a_grid():
    graph = float_graph(state_of(residual(), torch.randn(1, 3, 6, 6)))
    found = products(graph)
    assert [p.path for p in found] == ["first.0", "second", "head"]
    assert [(p.low, p.high) for p in found] == [(0, 6), (-math.inf, math.inf), (-math.inf, math.inf)]
    assert [p.macs // found[0].macs for p in found] == [1, 0, 0]
    places = sites(graph, found)
    kinds = {name.rstrip("_0123456789") for name in places.delivered} - {"hardtanh", "relu6"}
    assert kinds == {"conv2d", "relu", "mean"}
    assert set(places.roots) - places.delivered == {"image"}


def test_a_sum_that_floats_read_stays_float():
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.a(x) + self.b(x)).sigmoid()

    graph = float_graph(state_of(Ends(), torch.randn(1, 4)))
    places = sites(graph, products(graph))
    assert places.roots == ("x",) and not places.delivered


def test_sums_are_exact():
    """Beside 64-bit integers, where float32 sums would lose their last bits."""
    draw = torch.Generator().manual_seed(3)
    for depth in (3, 900):
        weight = torch.randn(5, depth, generator=draw)
        scales = weight_scales(weight, 127)
        x, y = OnGrid(Grid(0.05, 7)), OnGrid(Grid(0.9, -3))
        bias = torch.randn(5, generator=draw)
        part = IntegerProduct(functional.linear, weight, bias, scales, 127, x, y, (0.0, math.inf))
        values = x(3 * torch.randn(40, depth, generator=draw))
        whole = ((values / 0.05).round().to(torch.int64).numpy(), integers(weight, scales, 127).to(torch.int64).numpy())
        unit = scales.double().numpy() * float(x.scale())
        sums = whole[0] @ whole[1].T + np.rint(bias.double().numpy() / unit).astype(np.int64)
        factor = (unit / float(y.scale())).astype(np.float32)
        wanted = np.clip(np.rint(sums.astype(np.float32) * factor), 0, 127 + 3).astype(np.float32) * np.float32(0.9)
        with torch.no_grad():
            np.testing.assert_array_equal(part(values).numpy(), wanted)


def test_a_grid_of_each_run_is_that_of_onnx():
    import onnxruntime as ort
    from onnx import TensorProto, helper

    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    outputs = [("q", TensorProto.UINT8), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8)]
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for x in (torch.randn(500), torch.rand(99) + 3, -torch.rand(99) - 3, torch.zeros(4), 1e-20 * torch.randn(50)):
        q, scale, zero = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            steps, ours = OnGridOfRun(rows=False).split(x)
        if float(scale):
            assert float(ours) == float(scale)
        np.testing.assert_array_equal(steps.numpy(), q.astype(np.float32) - float(zero))


@pytest.mark.parametrize("activations", ["auto", "static", "dynamic", "float"])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_written_graph_computes_what_is_simulated(activations, bits):
    given = drawn(1, 3, 10, 10)
    plan = plan_of(residual(), given, activations=activations, weight_bits=bits)
    with torch.no_grad():
        ours, theirs, exact = simulated(plan)(*given[0]), written(plan)(*given[0]), residual()(*given[0])
    assert torch.allclose(ours, theirs, atol=0.02 * float(ours.abs().max()))
    assert float((ours - exact).square().sum() / exact.square().sum()) < (0.01 if bits == 8 else 0.3)


def test_what_was_not_trained_is_learned_unchanged():
    plan = plan_of(residual(), drawn(1, 3, 10, 10))
    same = learned(plan, simulated(plan))
    assert same.grids == plan.grids
    assert all(torch.equal(same.scales[name], plan.scales[name]) for name in plan.scales)
    x = torch.randn(2, 3, 10, 10)
    with torch.no_grad():
        torch.testing.assert_close(simulated(same)(x), simulated(plan)(x), rtol=0, atol=0)


def test_gradients_of_a_grid():
    grid = OnGrid(Grid(0.1, 0, -8, 7))
    grid.scale.change.requires_grad_()
    x = torch.tensor([0.33, -5.0, 0.9], requires_grad=True)
    grid(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == pytest.approx([1, 0, 0])
    wanted = (3 - 3.3) + -8 + 7
    assert float(grid.scale.change.grad) == pytest.approx(0.1 * wanted, abs=1e-5)


def test_rows_say_what_became_integers():
    given = drawn(1, 3, 10, 10)
    plan = plan_of(residual(), given, exclude="head", weight_bits=4)
    example = Example(given[0], {}, "")
    rows = coverage(plan, calls(given, example), example)
    assert [row.macs for row in rows] == [10 * 10 * 8 * 27, 10 * 10 * 8 * 9, 8 * 5]
    assert [(row.path, row.weights, row.activations) for row in rows] == [
        ("first.0", "int4", "int8"), ("second", "int4", "int8"), ("head", "float32", "float32")
    ]  # fmt: skip
    assert rows[0].sqnr_db is not None and 10 < rows[0].sqnr_db < 40 and rows[2].sqnr_db is None
    assert rows[0].bytes_before == 8 * 27 * 4 and rows[0].bytes_after == 8 * 27 // 2 + 8 * 4
    assert 0.9 < share_of_macs(rows) < 1 and 0.5 < share_of_bytes(rows) < 1


def test_smooth_inputs_do_not_change_the_float_graph():
    from edgewright_export.methods.quantization.smooth import smoothed

    module = seeded(ViT).eval()
    x = torch.randn(2, 3, 32, 32)
    graph = float_graph(state_of(module, x[:1]))
    found = products(graph)
    given = calls([(x[:1],), (x[1:],)], Example((x[:1],), {}, ""))
    made = smoothed(graph, found, given, {p.name: 7 for p in found})
    with torch.no_grad():
        torch.testing.assert_close(made(x), graph(x), rtol=1e-3, atol=1e-4)
    assert len(products(made)) == len(found)


@pytest.mark.parametrize("group", [None, 16])
def test_later_weights_make_up_for_the_error_of_earlier_ones(group):
    draw = torch.Generator().manual_seed(4)
    weight = torch.randn(20, 64, generator=draw)
    x = torch.randn(300, 8, generator=draw) @ torch.randn(8, 64, generator=draw) + 0.1 * torch.randn(
        300, 64, generator=draw
    )
    scales = weight_scales(weight, 7, group=group)
    nearest = integers(weight, scales, 7) * spread(scales, weight)
    found = round_weights(weight[None], spread(scales, weight).expand(1, 20, 64), 7, (x.T @ x).double()[None])[0]
    assert torch.equal(integers(found, scales, 7) * spread(scales, weight), found)
    errors = [float((x @ (rounded - weight).T).square().sum()) for rounded in (nearest, found)]
    assert errors[1] < errors[0] / 4


def test_inputs_that_are_always_zero_do_not_matter():
    weight, x = torch.randn(4, 8), torch.zeros(10, 8)
    scales = weight_scales(weight, 7)
    found = round_weights(weight[None], scales[:, None].expand(1, 4, 8), 7, (x.T @ x).double()[None])[0]
    torch.testing.assert_close(found, integers(weight, scales, 7) * spread(scales, weight))


def test_compensated_weights_reach_the_file(tmp_path):
    given = drawn(1, 3, 10, 10, count=8)
    bundle = sdk.export(
        residual(),
        "host:native",
        example_inputs=given[0],
        methods=[sdk.methods.PTQ(weight_bits=4, compensate=True)],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > 100
    assert {row.weights for row in bundle.manifest.quantized} == {"int4"}


def test_the_fewest_layers_stay_float(tmp_path):
    given, module = drawn(1, 3, 10, 10, count=8), residual()
    with torch.no_grad():
        wanted = [module(*one) for one in given]

    def evaluate(predict: Any) -> float:
        return -sum(float((predict(*one) - want).square().sum()) for one, want in zip(given, wanted, strict=True))

    def drop(limit: float | None) -> Any:
        return sdk.export(
            module,
            "host:native",
            example_inputs=given[0],
            methods=[sdk.methods.PTQ(weight_bits=4)],
            calibration=given,
            evaluate=evaluate,
            max_quality_drop=limit,
            output=tmp_path / f"{limit}.edge",
        )

    whole = drop(None)
    all_quantized = whole.quality.before - whole.quality.after
    some = drop(all_quantized / 2)
    rows = [row.weights for row in some.manifest.quantized]
    assert some.quality.before - some.quality.after <= all_quantized / 2
    assert 1 <= rows.count("float32") < 3 and "for max_quality_drop float32 stay" in some.manifest.changes[0]
    assert "float32" not in [row.weights for row in drop(2 * all_quantized).manifest.quantized]


def test_equal_attention_costs_nothing():
    module = seeded(ViT).eval()
    x = torch.randn(1, 3, 32, 32)
    graph = float_graph(state_of(module, x))
    places = attention_sites(graph)
    assert len(places) == 2
    watched = Watched(graph, places)
    with torch.no_grad():
        watched.module(x)
    assert float(apart(places[0], watched.values, watched.values)) == pytest.approx(0, abs=1e-5)
    other = {name: value + torch.randn_like(value) for name, value in watched.values.items()}
    assert float(apart(places[0], other, watched.values)) > 0.01


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
@pytest.mark.parametrize("activations", ["auto", "static", "dynamic", "float"])
def test_files_compute_what_is_simulated(engine, activations, tmp_path):
    given = drawn(1, 3, 32, 32)
    bundle = sdk.export(
        residual(),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[sdk.methods.PTQ(activations=activations)],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > (100 if engine == "native" or activations != "float" else 80)
    assert len(bundle.manifest.quantized) == 3
    assert bundle.manifest.quantization is not None


def wrong(module: nn.Module, given: Any, example: Any = None, **options: Any) -> str:
    """What an export says."""
    with pytest.raises((MethodError, OptionError, LoweringError)) as caught:
        sdk.export(
            module,
            "host:native",
            example_inputs=given[0] if example is None else example,
            methods=[sdk.methods.PTQ(**options)],
            calibration=given if example is None else None,
            output="never.edge",
        )
    assert not Path("never.edge").exists()
    return str(caught.value)


def test_bad_input():
    good = drawn(1, 3, 10, 10)
    assert "3 layers need calibrated inputs" in wrong(residual(), [], good[0])
    nan = [*good, (torch.full((1, 3, 10, 10), math.nan),)]
    assert "calibration[4] has NaN in input 0" in wrong(residual(), nan)
    assert "an infinity" in wrong(residual(), [*good, (torch.full((1, 3, 10, 10), math.inf),)])
    assert "holds 1 sample" in wrong(residual(), good[:1])
    assert "'hed' matches no layer" in wrong(residual(), good, exclude=("hed",))
    assert "leave none of 3 layers" in wrong(residual(), good, exclude="*")
    assert "no convolution and no linear layer" in wrong(nn.ReLU().eval(), good)
    assert "calibration[1] has 2 tensors; the model takes 1" in wrong(
        residual(), [good[0], (*good[0], *good[0]), *good]
    )
    assert "calibration[1] does not fit the model" in wrong(residual(), [good[0], (torch.randn(1, 4, 10, 10),), *good])


def test_calibration_is_checked_before_anything_is_made():
    with pytest.raises(OptionError, match="empty"):
        calibration.read([])
    with pytest.raises(OptionError, match="is a Tensor"):
        calibration.read(torch.randn(3))
    assert calibration.read(iter([torch.ones(1)])) == ((torch.ones(1),),)
    assert calibration.samples(((torch.ones(8, 3),), (torch.ones(8, 3),)), (torch.ones(1, 3),)) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 5}, "weight_bits 5 is neither 8 nor 4"),
        ({"activation_bits": 4}, 'needs activations="static"'),
        ({"activations": "none"}, "'none' is none of"),
        ({"group_size": 32}, 'group_size needs activations="float"'),
        ({"group_size": 7, "activations": "float"}, "group_size 7 is none of"),
        ({"ranges": "best"}, "'best' is none of min-max"),
        ({"exclude": (3.5,)}, "no tuple of module names"),
    ],
    ids=str,
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match="sdk.methods.PTQ") as caught:
        sdk.methods.PTQ(**options)
    assert message in str(caught.value)


def test_a_quantized_model_is_not_quantized_again():
    given = drawn(1, 3, 10, 10)
    state = state_of(residual(), *given[0])
    quantized = dataclasses.replace(state, module=written(plan_of(residual(), given)))
    found = sdk.methods.PTQ().check(
        quantized, SimpleNamespace(engine=SimpleNamespace(weight_bits=(8,)), calibration=None, target="native")
    )
    assert [f.reason for f in found if isinstance(f, Finding)] == ["the model holds integer weights already"]


def test_bits_that_a_board_does_not_store():
    given = drawn(1, 3, 10, 10)
    with pytest.raises(
        MethodError, match="weight_bits=4: onnxruntime on coral-dev-board stores weights of 8, 16, 32 bits"
    ):
        sdk.export(
            residual(), "coral-dev-board:onnxruntime", example_inputs=given[0], calibration=given,
            methods=[sdk.methods.PTQ(weight_bits=4)], output="never.edge",
        )  # fmt: skip


def test_patterns_name_modules_and_what_is_inside():
    assert is_named("blocks.1.mlp.0", ("blocks.*.mlp",)) and is_named("head", ("head",))
    assert not is_named("blocks.1.mlp2", ("blocks.*.mlp",)) and not is_named("ahead", ("head",))


def test_training_on_the_grids(tmp_path):
    given = drawn(1, 3, 10, 10)
    teacher = residual()
    batches = [(torch.randn(16, 3, 10, 10), torch.randint(0, 5, (16,))) for _ in range(4)]
    bundle = sdk.export(
        teacher,
        "host:native",
        example_inputs=given[0],
        methods=[sdk.methods.QAT(weight_bits=4, steps=60, learning_rate=2e-3)],
        calibration=given,
        train=(batches, None),
        output=tmp_path / "m.edge",
    )
    change = bundle.manifest.changes[0]
    first, last = (float(text) for text in change.rpartition("loss ")[2].split(" -> "))
    assert last < first
    assert bundle.parity.snr_db > 100
    assert not any(p.requires_grad and p.grad is not None for p in teacher.parameters())


def test_what_a_target_cannot_carry_is_said_before_training(tmp_path):
    given = drawn(1, 3, 10, 10)

    def never() -> Any:
        raise AssertionError("a batch was read")

    with pytest.raises(MethodError, match="executorch cannot carry this quantization") as caught:
        sdk.export(
            residual(),
            "host:executorch",
            example_inputs=given[0],
            methods=[sdk.methods.QAT(activations="float")],
            calibration=given,
            train=(never, None),
            output=tmp_path / "m.edge",
        )
    assert [finding.module_path for finding in caught.value.findings] == ["first.0", "second", "head"]


def test_a_new_user_on_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def net():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)).eval()\n"
        "def data():\n"
        "    return [(torch.randn(1, 3, 8, 8),) for _ in range(8)]\n"
    )
    command = [
        sys.executable,
        "-c",
        "from sdk.cli import main; main()",
        "export",
        "mine:net",
        "--device",
        "host:native",
    ]
    command += [
        "--input-shape",
        "1,3,8,8",
        "--method",
        "ptq:exclude=2,ranges=min-max,even_if_slower=true",
        "--calibration",
        "mine:data",
        "--json",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert '"weights": "int8"' in run.stdout and '"weights": "float32"' in run.stdout


def test_values_between_two_steps_make_a_module_unsteady():
    class Halves(nn.Module):
        def __init__(self, offset: float) -> None:
            super().__init__()
            self.offset, self.layer = offset, nn.Linear(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.sin(x) * 0 + x.round() + self.offset)

    given = [(torch.cat([torch.tensor([[-127.0, 127.0]]), x.clamp(-3, 3) * 40], 1),) for (x,) in drawn(1, 62)]
    found = []
    for offset in (0.0, 0.5):
        module = seeded(lambda offset=offset: Halves(offset))
        plan = plan_of(module, given, activations="static", ranges="min-max", symmetric=True)
        grids = {name: Grid(1.0, 0) for name in plan.grids}
        plan = dataclasses.replace(plan, grids=grids)
        found.append(steadiness_db(plan, simulated(plan), calls(given, Example(given[0], {}, "a test"))))
    assert found[0] > 100 > 60 > found[1] > 20
    assert (parity.quantized_db(found[0]), parity.quantized_db(math.inf)) == (30.0, 30.0)
    assert parity.quantized_db(20.0) == 14.0
