"""What post-training quantization can do besides rounding to the nearest."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import sdk
from device_profiles.errors import MethodError, OptionError
from edgewright_export.methods.quantization import reconstruct
from edgewright_export.methods.quantization.begin import Options, begin, fewer_bits
from edgewright_export.methods.quantization.budget import _down, _Step, _up_again
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.equalize import equalized, pairs_in
from edgewright_export.methods.quantization.graph import float_graph, tensor_at
from edgewright_export.methods.quantization.grid import integers, spread, weight_scales
from edgewright_export.methods.quantization.groups import largest_group
from edgewright_export.methods.quantization.plan import Plan, learned, simulated, written
from edgewright_export.methods.quantization.sites import products
from edgewright_export.methods.quantization.walk import Walk, inputs_of
from edgewright_export.state import Example, State
from edgewright_runtime.bundle.manifest import QuantizedLayer
from sdk.cli.export import method_from

from .models import ViT, seeded
from .test_quantization import CONTEXT, drawn, plan_of, residual, state_of

pytestmark = pytest.mark.usefixtures("no_speed_asked")


class Chain(nn.Module):
    """Layers one after the other, depthwise and grouped ones among them, with channels of very different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.LeakyReLU(),
            nn.Conv2d(16, 24, 1), nn.MaxPool2d(2), nn.ZeroPad2d(1),
            nn.Conv2d(24, 8, 3, groups=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image))


def chain() -> nn.Module:
    """Its weights differ by three powers of ten."""
    module = seeded(Chain)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.mul_(
                    10 ** (3 * torch.rand(len(layer.weight), *[1] * (layer.weight.dim() - 1), generator=draw) - 2)
                )
        module.body[0].weight[3] = 0
    return module.eval()


def apart(found: Tensor, wanted: Tensor) -> float:
    """Squared error over what is wanted."""
    return float((found - wanted).square().sum() / wanted.square().sum())


def error_of(plan: Plan, given: list[tuple[Tensor, ...]], module: nn.Module) -> float:
    """Of the outputs."""
    with torch.no_grad():
        return apart(torch.cat([simulated(plan)(*one) for one in given]), torch.cat([module(*one) for one in given]))


def test_equal_channels_do_not_change_the_float_graph():
    module = chain()
    graph = float_graph(state_of(module, torch.randn(1, 3, 8, 8)))
    found = products(graph)
    assert len(pairs_in(graph, found)) == 5
    made = equalized(graph, found)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(made(x), graph(x), rtol=1e-4, atol=1e-6 * float(graph(x).abs().max()))
    first, second = (tensor_at(made, p.weight).flatten(1).abs().amax(1) for p in products(made)[:2])
    assert not torch.allclose(first, tensor_at(graph, found[0].weight).flatten(1).abs().amax(1))
    usable = (first > 0) & (first.log() - second.log()).abs().lt(0.05)
    assert int(usable.sum()) >= 8


def test_equal_channels_share_one_scale():
    given, module = drawn(1, 3, 8, 8, count=8), chain()
    plain, equal = (
        error_of(plan_of(module, given, per_channel=False, equalize=e), given, module) for e in (False, True)
    )
    assert equal < plain / 4


def test_only_what_scales_is_equalized():
    def pairs(module: nn.Module, *shape: int) -> int:
        graph = float_graph(state_of(module.eval(), torch.randn(*shape)))
        return len(pairs_in(graph, products(graph)))

    def convolutions(*between: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), *between, nn.Conv2d(4, 2, 1))

    assert pairs(convolutions(), 1, 3, 8, 8) == 1
    assert pairs(convolutions(nn.AvgPool2d(2), nn.ReLU()), 1, 3, 8, 8) == 1
    assert pairs(convolutions(nn.ReLU6()), 1, 3, 8, 8) == 0
    assert pairs(convolutions(nn.ConstantPad2d(1, 0.5)), 1, 3, 8, 8) == 0
    assert pairs(convolutions(nn.GELU()), 1, 3, 8, 8) == 0
    assert pairs(residual(), 1, 3, 8, 8) == 0
    assert pairs(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4)), 1, 3, 6, 6) == 0
    assert pairs(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 4)), 1, 3, 6, 6) == 0
    assert pairs(nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3, groups=2)), 1, 3, 9) == 1
    assert pairs(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), 2, 5, 3) == 1
    assert pairs(nn.Sequential(nn.Linear(3, 8), nn.MaxPool1d(2), nn.Linear(4, 4)), 2, 5, 3) == 0


@pytest.mark.parametrize("activations", ["auto", "dynamic", "float"])
def test_corrected_biases_keep_the_means(activations):
    """Also of layers without a bias, which get one."""
    given, module = drawn(1, 3, 8, 8, count=8), seeded(Chain).eval()
    plans = [
        plan_of(module, given, weight_bits=4, activations=activations, correct_bias=correct)
        for correct in (False, True)
    ]
    with torch.no_grad():
        wanted = torch.cat([module(*one) for one in given]).mean(0)
        moved = [(torch.cat([simulated(plan)(*one) for one in given]).mean(0) - wanted).abs().max() for plan in plans]
    assert moved[1] < moved[0] / 5
    assert set(plans[1].biases) == {p.name for p in plans[1].products}
    assert next(p for p in plans[1].products if p.path == "head.2").bias is None
    with torch.no_grad():
        ours, theirs = simulated(plans[1])(*given[0]), written(plans[1])(*given[0])
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02 * float(ours.abs().max()))


def test_a_grid_that_only_a_sum_reads_is_learned():
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(4)])

        def forward(self, x: Tensor) -> Tensor:
            first, second, third, last = self.parts
            return last((first(x) + second(x)) + third(x))

    given = drawn(1, 3, 8, 8)
    plan = plan_of(seeded(Sums).eval(), given)
    module = simulated(plan)
    (name, *_) = [name for name in plan.grids if name.startswith("add")]
    module.get_submodule(f"{name}__grid").scale.change.data.fill_(1.0)
    with torch.no_grad():
        torch.testing.assert_close(simulated(learned(plan, module))(*given[0]), module(*given[0]), rtol=0, atol=0)


def test_calls_are_walked_together():
    given = drawn(1, 3, 8, 8, count=40)
    plan = plan_of(residual(), given)
    inputs = inputs_of(plan, calls(given, state_of(residual(), *given[0]).example))
    assert [len(one["image"]) for one in inputs] == [32, 8]
    walk = Walk(plan.module, inputs)
    *_, result = plan.module.graph.nodes
    walk.before(result)
    with torch.no_grad():
        wanted = residual()(torch.cat([one[0] for one in given]))
    torch.testing.assert_close(torch.cat([next(iter(values.values())) for values in walk.values]), wanted)
    alone = plan_of(seeded(ViT).eval(), drawn(1, 3, 32, 32))
    assert len(inputs_of(alone, calls(drawn(1, 3, 32, 32), state_of(nn.Identity(), torch.ones(1)).example))) == 4


def test_odd_calls_are_walked():
    """Of different batches, and in a graph that takes one sample."""
    example = drawn(1, 3, 8, 8)[0]
    given = [*drawn(2, 3, 8, 8, count=3), *drawn(5, 3, 8, 8, count=2), *drawn(64, 3, 8, 8, count=1)]
    plan = plan_of(residual(), drawn(1, 3, 8, 8), correct_bias=True)
    inputs = inputs_of(plan, calls(given, state_of(residual(), *example).example))
    assert [len(one["image"]) for one in inputs] == [6, 10, 64]
    one = nn.Sequential(nn.Flatten(0), nn.Linear(12, 3)).eval()
    assert plan_of(one, drawn(1, 3, 2, 2, count=8), correct_bias=True).biases


@pytest.mark.parametrize("activations", ["auto", "float"])
@pytest.mark.parametrize("make", [residual, lambda: seeded(Chain).eval()], ids=["residual", "chain"])
def test_reconstructed_blocks_are_nearer_to_float(make, activations):
    given, module = drawn(1, 3, 8, 8, count=32), make()
    plain, twice, again = (
        plan_of(module, given, weight_bits=4, activations=activations, reconstruct=steps) for steps in (0, 60, 60)
    )
    assert error_of(twice, given, module) < 0.6 * error_of(plain, given, module)
    assert all(torch.equal(twice.rounded[name], again.rounded[name]) for name in twice.rounded)
    assert twice.module.state_dict().keys() == plain.module.state_dict().keys()
    assert not any(p.requires_grad and p.grad is not None for p in module.parameters())
    with torch.no_grad():
        ours, theirs = simulated(twice)(*given[0]), written(twice)(*given[0])
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02 * float(ours.abs().max()))


def test_a_block_that_became_worse_stays_what_it_was(monkeypatch):
    given = drawn(1, 3, 8, 8, count=8)
    plain = plan_of(residual(), given, weight_bits=4)
    monkeypatch.setattr(reconstruct, "_WEIGHT_RATE", 1e3)
    same = plan_of(residual(), given, weight_bits=4, reconstruct=3)
    assert same.grids == plain.grids
    with torch.no_grad():
        assert torch.equal(simulated(same)(*given[0]), simulated(plain)(*given[0]))


def test_a_gradient_that_is_no_number_ends_training():
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).relu().sqrt()

    given = drawn(1, 6, count=8)
    plan = plan_of(seeded(Root).eval(), given, weight_bits=4, reconstruct=3)
    with torch.no_grad():
        assert simulated(plan)(*given[0]).isfinite().all()


def test_blocks_end_where_one_value_goes_on():
    def products_of(module: nn.Module, *shape: int) -> list[list[str]]:
        plan = plan_of(module.eval(), drawn(*shape))
        paths = {f"{p.name}__integer": p.path for p in plan.products}
        found = reconstruct.blocks(simulated(plan))
        return [[paths[n.target] for n in block.nodes if n.target in paths] for block in found]

    assert products_of(residual(), 1, 3, 8, 8) == [["first.0", "second"], ["head"]]
    assert products_of(seeded(ViT), 1, 3, 32, 32) == [
        ["patch", "blocks.0.qkv", "blocks.0.out"], ["blocks.0.mlp.0", "blocks.0.mlp.2"],
        ["blocks.1.qkv", "blocks.1.out"], ["blocks.1.mlp.0", "blocks.1.mlp.2"], ["head"],
    ]  # fmt: skip


def test_several_outputs_are_reconstructed():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.left, self.right = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Tensor]:
            x = self.body(x).relu_() * scale
            x += 1
            left = self.left(x)
            return {"left": left, "right": self.right(x).sigmoid(), "best": left.argmax(-1), "x": x}

    module = seeded(Two).eval()
    given = [((torch.randn(2, 6),), {"scale": torch.rand(2, 1)}) for _ in range(8)]
    state = State(module, Example(*given[0], "a test"), module)
    errors = []
    for steps in (0, 40):
        plan = begin(
            state,
            Options.of(sdk.methods.PTQ(weight_bits=4, reconstruct=steps, correct_bias=True)),
            CONTEXT,
            calls(given, state.example),
        )
        with torch.no_grad():
            both = [(simulated(plan)(*args, **kwargs), module(*args, **kwargs)) for args, kwargs in given]
        errors.append(sum(apart(a[key], b[key]) for a, b in both for key in ("left", "right")))
    assert errors[1] < errors[0]


def test_what_has_no_gradient_is_left():
    """Behind a choice, and where nothing but a choice is returned."""

    class Chosen(nn.Module):
        def __init__(self, classes: bool) -> None:
            super().__init__()
            self.first, self.second, self.table = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 2)
            self.classes = classes

        def forward(self, x: Tensor) -> Tensor:
            best = self.second(self.first(x).relu()).argmax(-1)
            return best if self.classes else self.table(nn.functional.one_hot(best, 5).float()) * (best[:, None] + 1)

    given = drawn(2, 6, count=8)
    for classes in (True, False):
        options = {"weight_bits": 4, "reconstruct": 3, "correct_bias": True}
        assert plan_of(seeded(lambda: Chosen(classes)).eval(), given, **options).biases  # noqa: B023
    assert plan_of(seeded(lambda: Chosen(True)).eval(), given, max_bytes=200).most


def test_reconstruction_needs_calibration_and_steps():
    with pytest.raises(OptionError, match="reconstruct -1 is no number of steps"):
        sdk.methods.PTQ(reconstruct=-1)
    with pytest.raises(OptionError, match="reconstruct True is not a whole number"):
        sdk.methods.PTQ(reconstruct=True)
    for options, message in (({"reconstruct": 9}, "reconstruct=9"), ({"correct_bias": True}, "correct_bias=True")):
        with pytest.raises(MethodError, match=f"{message} needs to see activations"):
            sdk.export(
                residual(),
                "host:native",
                example_inputs=drawn(1, 3, 8, 8)[0],
                methods=[sdk.methods.PTQ(activations="float", **options)],
                output="never.edge",
            )


@pytest.mark.parametrize(
    ("engine", "make"),
    [
        ("native", lambda: seeded(Chain).eval()),
        ("onnxruntime", lambda: seeded(Chain).eval()),
        ("executorch", residual),
        ("litert", residual),
    ],
    ids=["native", "onnxruntime", "executorch", "litert"],
)
def test_what_was_learned_reaches_the_file(engine, make, tmp_path):
    given = drawn(1, 3, 8, 8, count=16)
    method = method_from("ptq:weight_bits=4,equalize=true,correct_bias=true,reconstruct=20")
    assert method == sdk.methods.PTQ(weight_bits=4, equalize=True, correct_bias=True, reconstruct=20)
    bundle = sdk.export(
        make(),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[method],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > 80
    assert all(row.sqnr_db > 5 for row in bundle.manifest.quantized)


def test_groups_are_as_large_as_the_weights_allow():
    draw = torch.Generator().manual_seed(6)
    even = torch.randint(0, 2, (8, 256), generator=draw) * 2.0 - 1
    uneven = even * torch.logspace(-3, 0, 16).repeat_interleave(16)
    assert largest_group(even, 7, search=True) is None
    assert largest_group(torch.zeros(8, 256), 7, search=True) is None
    assert largest_group(uneven, 7, search=True) == 16
    assert largest_group(torch.randn(8, 20, generator=draw), 7, search=True) is None
    assert largest_group(torch.randn(8, 16, generator=draw), 7, search=True) is None
    normal = torch.randn(64, 512, generator=draw)
    size = largest_group(normal, 7, search=True)
    assert size == 32
    errors = [
        float((integers(normal, s, 7) * spread(s, normal) - normal).square().sum())
        for s in (weight_scales(normal, 7, group=g, search=True) for g in (16, size, 2 * size))
    ]
    assert errors[1] <= 1.5 * errors[0] < errors[2]


def test_groups_of_each_layer_reach_the_file(tmp_path):
    module = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)).eval()
    with torch.no_grad():
        module[0].weight.mul_(torch.logspace(-3, 0, 4).repeat_interleave(16))
        module[2].weight.sign_()
    bundle = sdk.export(
        module,
        "host:native",
        example_inputs=(torch.randn(2, 64),),
        methods=[method_from("ptq:weight_bits=4,activations=float,group_size=auto")],
        output=tmp_path / "m.edge",
    )
    assert [row.bytes_after for row in bundle.manifest.quantized] == [128 * (32 + 4 * 4), 64 * (64 + 4)]
    assert bundle.parity.snr_db > 80
    with pytest.raises(OptionError, match="group_size 'most' is none of auto, 16"):
        sdk.methods.PTQ(group_size="most", activations="float")
    with pytest.raises(OptionError, match='group_size needs activations="float"'):
        sdk.methods.PTQ(group_size="auto")


def test_layers_go_down_until_the_bytes_fit(tmp_path):
    given, module = drawn(1, 3, 8, 8, count=16), seeded(Chain).eval()

    def rows(limit: int) -> list[QuantizedLayer]:
        bundle = sdk.export(
            module,
            "host:native",
            example_inputs=given[0],
            methods=[sdk.methods.PTQ(max_bytes=limit, exclude=("body.0",), compensate=True)],
            calibration=given,
            output=tmp_path / f"{limit}.edge",
        )
        assert bundle.parity.snr_db > 100 and sum(row.bytes_after for row in bundle.manifest.quantized) <= limit
        counts = Counter(row.weights for row in bundle.manifest.quantized)
        assert f"for max_bytes {counts['int4']} of them have 4 bits" in bundle.manifest.changes[0]
        assert all(
            f"{counts[f'int{bits}']} of them have {bits} bits" in bundle.manifest.changes[0]
            for bits in (3, 2)
            if counts[f"int{bits}"]
        )
        return list(bundle.manifest.quantized)

    most = sum(row.bytes_after for row in rows(1 << 20))
    assert {row.weights for row in rows(most)} == {"int8", "float32"}
    some = rows(most - 200)
    assert {"int8", "float32"} < {row.weights for row in some} <= {"int2", "int3", "int4", "int8", "float32"}
    least = most - sum(row.bytes_before // 4 - math.ceil(row.bytes_before / 16) for row in some[1:])
    assert {row.weights for row in rows(least)} == {"int2", "float32"}
    with pytest.raises(MethodError, match=f"2 bits in 5 of 6 layers, and all weights then take {least} bytes"):
        rows(least - 1)


def test_the_layer_that_loses_least_goes_down_first():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loud, self.faint = nn.Linear(32, 8), nn.Linear(32, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.loud(x) + 1e-3 * self.faint(x)

    given = drawn(1, 32, count=8)
    plan = plan_of(seeded(Two).eval(), given, max_bytes=8 * 32 + 8 * 32 // 2 + 64, activations="float")
    assert [p.path for p in plan.products if plan.most[p.name] == 7] == ["faint"]


def three_layers() -> nn.Module:
    """Linear layers, the last with a long tail of weights on one side."""
    module = seeded(lambda: nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64), nn.GELU(), nn.Linear(64, 33)))
    with torch.no_grad():
        module[4].weight.copy_(module[4].weight.abs() ** 3 * 50)
    return module.eval()


def exported_within(limit: int, path: Path, device: str = "host:native", **options: Any) -> sdk.Bundle:
    given = drawn(2, 64, count=8)
    return sdk.export(
        three_layers(),
        device,
        example_inputs=given[0],
        methods=[sdk.methods.PTQ(max_bytes=limit, **{"activations": "float", **options})],
        calibration=given,
        output=path,
    )


@pytest.mark.parametrize(
    ("limit", "options", "bits"),
    [
        (7800, {}, {"int3", "int4"}),
        (5600, {"compensate": True}, {"int2", "int3"}),
        (5420, {"group_size": 32, "correct_bias": True}, {"int2"}),
        (4400, {"per_channel": False}, {"int2"}),
    ],
)
def test_floats_go_down_to_two_bits_in_the_native_engine(limit, options, bits, tmp_path):
    bundle = exported_within(limit, tmp_path / "m.edge", **options)
    rows = bundle.manifest.quantized
    assert {row.weights for row in rows} == bits and sum(row.bytes_after for row in rows) <= limit
    assert bundle.parity.snr_db > 100
    assert all(f"have {kind[3]} bits" in bundle.manifest.changes[0] for kind in bits)
    model = onnx.load(str(bundle.path / "model.onnx"))
    onnx.checker.check_model(model)
    assert any(node.op_type == "UnpackInt3" for node in model.graph.node) == ("int3" in bits)
    assert any(t.data_type == onnx.TensorProto.INT2 for t in model.graph.initializer) == ("int2" in bits)
    weights = bundle.manifest.files["weights.bin"].bytes
    assert weights <= limit + 4 * (96 + 64 + 33) + 64 * 20


def test_other_engines_stop_at_4_bits(tmp_path):
    least = 4 * (64 * 96 * 2 + 64 * 33) // 8 + 4 * (96 + 64 + 33)
    bundle = exported_within(least, tmp_path / "m.edge", "host:litert")
    assert {row.weights for row in bundle.manifest.quantized} == {"int4"}
    with pytest.raises(MethodError, match=rf"litert on [\w-]+ stores 4 bits in 3 of 3 layers, .* then take {least} bytes"):
        exported_within(least - 1, tmp_path / "n.edge", "host:litert")
    least -= 2 * (64 * 96 * 2 + 64 * 33) // 8
    with pytest.raises(MethodError, match=rf"native on [\w-]+ stores 2 bits in 3 of 3 layers, .* then take {least} bytes"):
        exported_within(least - 1, tmp_path / "n.edge")


def test_a_device_may_store_fewer_kinds_of_bits():
    modes: dict[str, Any] = {"a": "float", "b": "static"}
    ends = {"a": 127, "b": 63}

    def ladder(target: str, *bits: int) -> list[dict[str, int]]:
        context: Any = SimpleNamespace(target=target, engine=SimpleNamespace(weight_bits=bits))
        return list(fewer_bits(ends, modes, context))

    static = [7, 3, 1]
    assert [most["a"] for most in ladder("native", 8, 4, 3, 2)] == [7, 3, 1]
    assert [most["b"] for most in ladder("native", 8, 4, 3, 2)] == static
    assert ladder("native", 8, 4) == [{"a": 7, "b": 7}]
    assert ladder("native", 8) == []
    assert ladder("litert", 8, 4, 3, 2) == [{"a": 7, "b": 63}]
    assert ladder("onnxruntime", 32, 16, 8, 4, 3, 2) == [ends]


def test_as_many_bits_as_go_into_the_bytes():
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        sizes, errors = torch.rand(6, 4, generator=draw), torch.rand(6, 4, generator=draw)
        steps = {
            str(i): [
                _Step(1, torch.ones(1), int(size), float(error) if size < 1000 else 0.0)
                for size, error in zip([1000, *(1 + 900 * own.sort(descending=True)[0])], [0.0, *other], strict=True)
            ]
            for i, (own, other) in enumerate(zip(sizes, errors, strict=True))
        }
        least, most = sum(several[-1].size for several in steps.values()), 6000
        for limit in (least, (least + most) // 2, most - 1):
            at = _up_again(steps, _down(steps, most - limit), limit - most)
            room = limit - sum(steps[name][i].size for name, i in at.items())
            assert room >= 0
            for name, now in at.items():
                better = [step for step in steps[name][:now] if step.error < steps[name][now].error]
                assert all(step.size - steps[name][now].size > room for step in better)


@pytest.mark.parametrize("most", [1, 3])
def test_the_longer_tail_has_the_longer_side(most):
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(16, 64, generator=draw).abs() ** 2
    weight[::2] *= -1
    weight[3] = 0
    for group in (None, 16):
        scales = weight_scales(weight, most, group=group, search=True)
        whole = integers(weight, scales, most)
        assert whole.min() == -most - 1 and whole.max() <= most and bool((scales != 0).all())
        signs = scales.reshape(16, -1).sign().sum(1)
        if group is None:
            assert bool((signs[::2] > 0).all()) and bool((signs[1::2][torch.arange(8) != 1] < 0).all())
        assert not whole[3].any()
        mirrored = weight_scales(-weight, most, group=group, search=True)
        assert torch.equal(integers(-weight, mirrored, most) * spread(mirrored, weight), -whole * spread(scales, weight))


def test_bits_that_are_no_option_are_refused():
    for bits in (2, 3):
        with pytest.raises(OptionError, match=f"weight_bits {bits} is neither 8 nor 4: .*max_bytes"):
            sdk.methods.PTQ(weight_bits=bits)


def test_no_bytes_are_saved_where_4_bits_are_not_stored():
    given = drawn(1, 3, 8, 8)
    for device in ("host:onnxruntime", "coral-dev-board:onnxruntime"):
        with pytest.raises(MethodError, match=r"max_bytes=300: onnxruntime on [\w-]+ stores 4 bits in 0 of 3 layers"):
            sdk.export(
                residual(),
                device,
                example_inputs=given[0],
                methods=[sdk.methods.PTQ(max_bytes=300)],
                calibration=given,
                output="never.edge",
            )
    with pytest.raises(OptionError, match="max_bytes 0 is no number of bytes") as caught:
        sdk.methods.PTQ(max_bytes=0, weight_bits=4)
    assert "max_bytes needs weight_bits=8" in str(caught.value)
