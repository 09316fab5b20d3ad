"""Weight sparsity: which weights become zero, that the others make up for them, and that zeros stay zeros down to the file."""

from __future__ import annotations

import copy
import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sdk
from device_profiles.errors import MethodError, OptionError
from edgewright_export import prepare
from edgewright_export.build import plain_method
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.graph import open_graph, tensor_at
from edgewright_export.methods.sparsity.allocate import LEVELS, cheapest, measured, of_sizes
from edgewright_export.methods.sparsity.importance import looked_at
from edgewright_export.methods.sparsity.layers import Choice, Layers, layers
from edgewright_export.methods.sparsity.learn import cubic
from edgewright_export.methods.sparsity.make_up import solve
from edgewright_export.methods.sparsity.masks import Masks
from edgewright_export.methods.sparsity.pattern import Pattern
from edgewright_export.state import Budget, Context, State
from edgewright_export.training.batches import Train
from edgewright_export.training.square_head import blocks, outputs_of, square_head
from edgewright_export.workload import workload_of
from edgewright_runtime.native_library import Model
from sdk.cli.export import method_from

from .models import MobileNetV1, ViT, seeded
from .test_quantization import drawn, state_of

pytestmark = pytest.mark.usefixtures("no_speed_asked")
IMAGE = (1, 3, 32, 32)
WeightSparsity = sdk.methods.WeightSparsity


def mobilenet() -> nn.Module:
    """With statistics and weights that are not those of a new module."""
    module = seeded(MobileNetV1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.2, 2)
    return module.eval()


def labelled(count: int = 6, batch: int = 8) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(batch, *IMAGE[1:], generator=draw), torch.randint(10, (batch,), generator=draw)) for _ in range(count)]


def made(module: nn.Module, method: Any, calibration: Any = None, train: Any = None, example: Tensor | None = None) -> State:
    state = state_of(module, torch.randn(IMAGE) if example is None else example)
    ctx = context(calibration, None if train is None else Train(*train))
    assert method.check(state, ctx) == []
    return method.apply(state, ctx)


def context(calibration: Any = None, train: Any = None) -> Any:
    engine: Any = SimpleNamespace(weight_qmax=127, weight_bits=(8, 4))
    device: Any = None
    return Context("native", device, engine, lambda _: None, lambda _: None, lambda _: None, calibration, train, None, Budget())


def zeros_of(module: nn.Module) -> dict[str, float]:
    return {name: float((p == 0).float().mean()) for name, p in module.named_parameters() if p.dim() > 1}


# Patterns.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("given", ["unstructured", (4, 1), (1, 4), (4, 4), (16, 1)], ids=str)
@pytest.mark.parametrize("shape", [(16, 8), (32, 12, 3, 3), (16, 4, 5)], ids=str)
def test_the_least_blocks_become_zero(given, shape, share):
    pattern, importance = Pattern.read(given), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    kept = pattern.mask(importance, share)
    assert kept.shape == shape and kept.dtype == torch.bool
    taps = math.prod(shape[2:])
    cut = kept.reshape(shape[0] // pattern.rows, pattern.rows, shape[1] // pattern.columns, pattern.columns, taps)
    blocks = cut.permute(0, 2, 4, 1, 3).flatten(3)
    assert torch.equal(blocks.any(3), blocks.all(3))
    count = blocks[..., 0].numel()
    assert int(blocks.all(3).sum()) == count - math.floor(share * count + 0.5)
    sums = pattern.sums(importance)
    if 0 < share < 1:
        assert sums[blocks.all(3)].min() >= sums[~blocks.all(3)].max()


@pytest.mark.parametrize(("given", "kept", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("3:8", 3, 8)])
def test_of_successive_inputs_so_many_stay(given, kept, of):
    pattern = Pattern.read(given)
    mask = pattern.mask(torch.rand(5, 16, 3, generator=torch.Generator().manual_seed(0)), 1 - kept / of)
    assert (mask.reshape(5, 16 // of, of, 3).sum(2) == kept).all()
    assert pattern.sparsity == 1 - kept / of


def test_equal_importance_still_makes_the_share():
    assert int(Pattern.read("unstructured").mask(torch.zeros(10, 10), 0.73).sum()) == 27


@pytest.mark.parametrize(
    "given", ["2:2", "4:2", "0:4", "half", (0, 4), (4,), (4, 1, 1), (4.0, 1), (True, 4), 4, None, "2:4:8", (128, 1)], ids=str
)
def test_patterns_that_are_none(given):
    with pytest.raises(ValueError, match=re.escape(repr(given))):
        Pattern.read(given)


# What a zero costs.


def test_the_cost_of_a_zero_is_what_the_result_changes_by():
    """Of one weight alone, against the change of the squared error when the others are solved for anew."""
    draw = torch.Generator().manual_seed(0)
    layer, given = nn.Linear(6, 1, bias=False), [(torch.randn(50, 6, generator=draw),)]
    graph = open_graph(state_of(layer, given[0][0]))
    (product,) = layers(graph, {"weight"}, Choice(Pattern(), ("*",), ())).sparse
    known = looked_at(graph, [product], calls(given, state_of(layer, given[0][0]).example))[product.weight]
    x, wanted = given[0][0].double(), (given[0][0] @ layer.weight.detach().T).double()
    for i in range(6):
        others = [j for j in range(6) if j != i]
        solved = torch.linalg.lstsq(x[:, others], wanted).solution
        error = float((x[:, others] @ solved - wanted).square().mean())
        assert float(layer.weight[0, i].detach().square() * known[0, i]) == pytest.approx(error, rel=0.2)


def test_rows_are_solved_for_as_least_squares():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=draw).double() @ torch.randn(8, 32, generator=draw).double()
    x += torch.randn(200, 32, generator=draw)
    weight = torch.randn(8, 32, generator=draw).double()
    mask = Pattern.read((4, 1)).mask(weight.square(), 0.5)
    normal = x.T @ x
    found = solve(weight * mask, weight @ normal, normal, mask)
    for row, own, kept in zip(found, weight, mask, strict=True):
        solved = torch.linalg.lstsq(x[:, kept], x @ own[:, None]).solution[:, 0]
        torch.testing.assert_close(row[kept], solved, rtol=1e-3, atol=1e-3)
        assert not row[~kept].any()
    zero = torch.zeros(8, 32).double()
    assert torch.equal(solve(zero, zero, normal, mask), zero)
    for nothing in (torch.zeros(32, 32).double(), -1e-9 * torch.eye(32).double()):
        assert torch.equal(solve(weight * mask, weight @ nothing, nothing, mask), weight * mask)


@pytest.mark.parametrize("kind", ["bias", "norm", "neither"])
def test_later_layers_make_up_for_earlier_ones(kind):
    def layer() -> nn.Module:
        conv = nn.Conv2d(16, 16, 1, bias=kind == "bias")
        return nn.Sequential(conv, nn.BatchNorm2d(16) if kind == "norm" else nn.Identity(), nn.ReLU())

    torch.manual_seed(0)
    module, mixed = nn.Sequential(layer(), layer(), layer()).eval(), torch.randn(16, 6)
    given = [(torch.einsum("nchw,dc->ndhw", x, mixed),) for (x,) in drawn(2, 6, 6, 6, count=16)]
    method = WeightSparsity(0.5, steps=0)
    graph = open_graph(state_of(module, given[0][0]))
    own = layers(graph, dict(module.named_parameters()), Choice(Pattern(4, 1), (), ())).sparse
    state = made(module, method, given, example=given[0][0])
    alone = copy.deepcopy(module)
    for name, kept in {p.weight: tensor_at(state.module, p.weight) != 0 for p in own}.items():
        tensor_at(alone, name).data.mul_(kept)
    with torch.no_grad():
        errors = [sum(float((net(*one) - module(*one)).square().mean()) for one in given) for net in (state.module, alone)]
        means = [(state.module[:2](*one) - module[:2](*one)).mean((0, 2, 3)) for one in given]
    assert errors[0] < errors[1] / 2
    if kind != "neither":
        assert torch.stack(means).mean(0).abs().max() < 0.05


def test_a_norm_behind_makes_its_channels_dear():
    norm = nn.BatchNorm2d(8)
    norm.weight.data[:4] = 10.0
    module = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), norm).eval()
    found = made(module, WeightSparsity(0.5, steps=0), drawn(1, 16, 4, 4, count=8), example=torch.randn(1, 16, 4, 4))
    zeros = (found.module[0].weight == 0).flatten(1).float().mean(1)
    assert zeros[:4].max() < zeros[4:].min()


def test_what_inputs_do_not_tell_stays_what_it_was():
    """Fewer inputs than a layer has weights of an output: solved for them alone, weights would fit these and nothing else."""
    torch.manual_seed(0)
    layer, given = nn.Linear(64, 16), drawn(1, 64, count=16)
    state = made(layer, WeightSparsity(0.0, steps=0), given, example=given[0][0])
    torch.testing.assert_close(state.module.weight, layer.weight)
    sparse, fresh = made(layer, WeightSparsity(0.25, steps=0), given, example=given[0][0]).module, torch.randn(512, 64)
    masked = copy.deepcopy(layer)
    masked.weight.data.mul_(sparse.weight != 0)
    with torch.no_grad():
        errors = [float((one(fresh) - layer(fresh)).square().mean()) for one in (sparse, masked)]
    assert errors[0] < 2 * errors[1]


class LoudAndQuiet(nn.Module):
    """Two layers, of which one is next to nothing of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.quiet = nn.Linear(16, 32), nn.Linear(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.loud(x) + 0.01 * self.quiet(x)


def test_layers_share_zeros_by_what_they_cost():
    module, given = LoudAndQuiet(), drawn(4, 16, count=24)
    state = state_of(module, given[0][0])
    graph = open_graph(state)
    before = copy.deepcopy(graph.state_dict())
    found = layers(graph, dict(module.named_parameters()), Choice(Pattern(4, 1), (), ())).sparse
    ran = calls(given, state.example)
    costs = measured(graph, found, looked_at(graph, found, ran), Pattern(4, 1), ran)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert all(len(curve) == len(LEVELS) and curve[0] == 0 for curve in costs.values())
    assert costs["quiet.weight"][-1] < costs["loud.weight"][1]
    for sizes in ({"loud.weight": 512.0, "quiet.weight": 512.0}, {"loud.weight": 3.0, "quiet.weight": 1.0}):
        shares = cheapest(costs, of_sizes(sizes), 0.5 * sum(sizes.values()))
        assert sum(shares[name] * size for name, size in sizes.items()) == pytest.approx(0.5 * sum(sizes.values()))
        assert shares["quiet.weight"] == pytest.approx(1)


@pytest.mark.parametrize(("allocation", "zeros"), [("auto", [0.2, 1.0]), ("macs", [0.2, 1.0]), ("uniform", [0.6, 0.6])])
def test_inputs_alone_share_zeros_among_layers(allocation, zeros):
    given = drawn(4, 16, count=12)
    found = made(LoudAndQuiet(), WeightSparsity(0.6, allocation=allocation, steps=0), given, example=given[0][0])
    assert [row.zeros for row in found.sparse] == pytest.approx(zeros, abs=0.01)


def test_a_layer_behind_one_that_is_all_zeros(tmp_path):
    module, given = mobilenet(), drawn(*IMAGE, count=4)
    state = made(module, WeightSparsity(1.0, steps=2), given)
    assert all(bool(value.isfinite().all()) for value in state.module.state_dict().values())
    assert all(row.zeros == 1 for row in state.sparse if row.why_dense is None)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_the_cheapest_shares_are_as_good_as_the_best_of_all(share):
    """Against every pair of shares in steps of a hundredth, with costs between levels on lines."""
    costs = {"a": [0.0, 0.1, 0.3, 0.9, 2.0, 5.0], "b": [0.0, 0.3, 0.4, 0.5, 3.0, 3.5]}
    sizes = {"a": 100.0, "b": 50.0}

    def total(shares: dict[str, float]) -> float:
        return sum(float(np.interp(shares[name], LEVELS, hull)) for name, hull in hulls.items())

    hulls = {"a": costs["a"], "b": [0.0, 0.5 / 3, 1 / 3, 0.5, 0.5 + 3 * 0.6, 3.5]}
    found = cheapest(costs, of_sizes(sizes), 150 * share)
    assert sum(found[name] * size for name, size in sizes.items()) == pytest.approx(150 * share)
    others = [(i / 100, (150 * share - i) / 50) for i in range(101)]
    best = min(total({"a": a, "b": b}) for a, b in others if -1e-9 <= b <= 1 + 1e-9)
    assert total(found) <= best + 1e-9


# Which layers.


class Tied(nn.Module):
    """An embedding whose table is the last layer's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(32, 16), nn.Linear(16, 16), nn.Linear(16, 32, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.inner(self.table(tokens)))


def found_in(module: nn.Module, x: Tensor, pattern: Any = (4, 1), only: Any = (), exclude: Any = ()) -> Layers:
    graph = open_graph(state_of(module, x))
    return layers(graph, dict(module.named_parameters(remove_duplicate=False)), Choice(Pattern.read(pattern), only, exclude))


def reasons(found: Layers) -> dict[str, str | None]:
    return {product.path: found.dense.get(product.name) for product in found.all}


def test_which_layers_become_sparse():
    told = reasons(found_in(mobilenet(), torch.randn(IMAGE)))
    assert told["features.1.0"] == "its channels are in groups" and told["features.2.0"] == "fewer than 16 inputs"
    assert told["features.6.0"] is None and told["head"] == "10 outputs are no multiple of 4"
    told = reasons(found_in(Tied().eval(), torch.zeros(1, 4, dtype=torch.long)))
    assert told == {"inner": None, "head": "its weights are read by something else too"}
    told = reasons(found_in(mobilenet(), torch.randn(IMAGE), "2:4", ("features.*", "head"), ("features.6",)))
    assert told["features.6.0"] == "excluded" and told["head"] is None
    assert reasons(found_in(mobilenet(), torch.randn(IMAGE), only=("head",)))["features.6.0"] == "not among only"


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.relu(self.inner(x)))


class Return(nn.Module):
    """A function multiplies by a layer's weights once more, with another layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.second(self.first(x).relu()).relu(), self.first.weight)


def test_weights_that_are_multiplied_again_later_become_sparse():
    given = drawn(4, 32, count=8)
    module = made(seeded(Return), WeightSparsity(0.5, steps=0), given, example=given[0][0]).module
    assert sum(zeros_of(module).values()) == 1.0


def test_a_layer_that_is_called_twice_is_one():
    given = drawn(4, 16, count=8)
    state = made(Twice(), WeightSparsity(0.75, steps=0), given, example=given[0][0])
    assert zeros_of(state.module) == {"inner.weight": 0.75}
    assert [row.path for row in state.sparse] == ["inner", "inner"]


# Learning.


@pytest.mark.parametrize("schedule", ["one-shot", "gradual", "regrow"])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_all_zeros_are_there_whatever_the_schedule(schedule, steps):
    module = mobilenet()
    before = copy.deepcopy(module.state_dict())
    method = WeightSparsity(0.75, schedule=schedule, steps=steps)
    state = made(module, method, train=(labelled(), functional.cross_entropy))
    sparse = {row.path: row for row in state.sparse if row.why_dense is None}
    assert set(sparse) == {"features.6.0", "features.8.0", "features.10.0"}
    assert all(row.zeros == pytest.approx(0.75, abs=0.01) for row in sparse.values())
    assert not any(part.training for part in state.module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items()), "the user's module"
    assert all(p.grad is None for p in (*module.parameters(), *state.module.parameters()))


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8"])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_learned_masks_keep_n_of_m(pattern, steps):
    method = WeightSparsity(pattern=pattern, schedule="learned", steps=steps)
    module = made(mobilenet(), method, train=(labelled(), functional.cross_entropy)).module
    kept, of = map(int, pattern.split(":"))
    for name in ("features.6.0.weight", "features.10.0.weight"):
        weight = module.get_parameter(name)
        assert ((weight != 0).flatten(1).view(len(weight), -1, of).sum(2) == kept).all()


def test_learned_masks_find_what_the_loss_needs():
    """Small weights that matter and large ones that do not: targets depend on the small ones alone."""
    torch.manual_seed(0)
    layer = nn.Linear(16, 8, bias=False)
    needed = torch.arange(16) % 4 < 2
    layer.weight.data = torch.where(needed, 0.3, 1.0) * torch.randn(8, 16).sign()
    x = torch.randn(64, 32, 16)
    batches = [(part, part[:, needed] @ layer.weight.detach()[:, needed].T) for part in x]
    options = {"pattern": "2:4", "only": ("*",), "steps": 400, "learning_rate": 1e-3, "distill": False}
    found = {
        schedule: made(layer, WeightSparsity(schedule=schedule, **options), train=(batches, functional.mse_loss), example=x[0, :1])
        for schedule in ("gradual", "learned")
    }
    right = {schedule: float((state.module.weight[:, needed] != 0).float().mean()) for schedule, state in found.items()}
    assert right["learned"] > 0.95 and right["learned"] > right["gradual"]


def test_without_steps_nothing_is_learned():
    module = mobilenet()
    state = made(module, WeightSparsity(0.5, steps=0, distill=False), train=(labelled(), functional.cross_entropy))
    assert torch.equal(state.module.head.weight, module.head.weight) and "one-shot, not trained" in state.changes[0]
    assert zeros_of(state.module)["features.10.0.weight"] == 0.5


def test_a_program_becomes_sparse(tmp_path):
    given = drawn(*IMAGE, count=4)
    program = torch.export.export(mobilenet(), given[0])
    method = WeightSparsity(0.5, allocation="uniform", steps=2)
    bundle = sdk.export(program, "host", methods=[method], calibration=given, output=tmp_path / "m.edge")
    assert [row.zeros for row in bundle.manifest.sparse if row.why_dense is None] == [0.5] * 3


def test_the_same_seed_gives_the_same_bits():
    found = [made(mobilenet(), WeightSparsity(steps=5), train=(labelled(), None)).module.state_dict() for _ in range(2)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_is_learned_is_nearer_to_the_dense_model():
    given = drawn(8, 32, count=256)
    module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)).eval()

    def error(steps: int) -> float:
        sparse = made(module, WeightSparsity(0.5, steps=steps), given, example=given[0][0]).module
        with torch.no_grad():
            pairs = [(sparse(*one), module(*one)) for one in given]
        return float(torch.stack([(a - b).square().mean() for a, b in pairs]).mean())

    assert error(100) < error(0)


def test_a_regrown_zero_was_the_fastest():
    layer = nn.Linear(8, 4, bias=False)
    layer.weight.data = torch.arange(1.0, 33).view(4, 8)
    masks = Masks(layer, Pattern(), {"weight": 0.5}, {"weight": torch.ones(4, 8)})
    layer.weight.grad = torch.zeros(4, 8)
    layer.weight.grad[0, 0] = 1.0
    masks.choose(1.0, regrown=1 / 16)
    assert masks.kept["weight"].sum() == 16 and masks.kept["weight"][0, 0] and not masks.kept["weight"][2, 0]
    layer.weight.grad = None
    layer.weight.data = torch.arange(1.0, 33).view(4, 8)
    masks.choose(1.0)
    assert not masks.kept["weight"][0, 0], "without gradients only size counts"


def test_a_cubic_way():
    assert [cubic(part) for part in (0.0, 0.5, 1.0)] == [0.0, 0.875, 1.0]


def test_blocks_are_the_outermost_elements():
    vit, net = seeded(ViT), mobilenet()
    assert blocks(vit, ["blocks.0.qkv", "blocks.1.mlp.0", "head"]) == ["blocks.0", "blocks.1"]
    assert blocks(net, ["features.4.0"]) == ["features.4"]
    assert blocks(nn.Linear(2, 2), [""]) == []


def test_square_head_is_an_error_over_what_is_wanted():
    assert float(square_head([[torch.ones(2, 2)]], [[torch.full((2, 2), 2.0)]])) == 0.25
    assert float(square_head([], [])) == 0.0
    assert float(square_head([[torch.ones(2)]], [[torch.ones(3)]])) == 0.0
    with outputs_of(seeded(ViT).eval(), ["blocks.1", "blocks.0"]) as seen:
        assert seen == [[], []]


# Through the whole export.


@pytest.mark.parametrize(
    ("engine", "pattern"), [("native", (4, 1)), ("native", "2:4"), ("onnxruntime", "unstructured")], ids=str
)
def test_zeros_are_in_the_file(tmp_path, engine, pattern):
    method = WeightSparsity(0.5, pattern=pattern, allocation="uniform", steps=2, subgraph=False)
    given = drawn(*IMAGE, count=8)
    bundle = sdk.export(mobilenet(), f"host:{engine}", methods=[method], example_inputs=given[0], calibration=given, output=tmp_path / "m.edge")
    rows = {row.path: row for row in bundle.manifest.sparse}
    assert rows["features.10.0"].zeros == 0.5 and rows["features.10.0"].pattern == str(pattern)
    assert rows["features.1.0"].pattern == "dense" and rows["features.1.0"].why_dense == "its channels are in groups"
    (line,) = [change for change in bundle.manifest.changes if change.startswith("weight-sparsity")]
    assert "50.0% zeros" in line and "one-shot, trained on 2 batches" in line
    assert (f"{engine} multiplies zeros as it does other numbers" in line) == (engine == "onnxruntime")
    page = bundle.report(tmp_path / "r.html").read_text()
    assert "Zeros in layers" in page and "its channels are in groups" in page and "50.0 %" in page
    with sdk.load(bundle.path) as session:
        assert np.isfinite(next(iter(session.run(given[0][0].numpy()).values()))).all()


@pytest.mark.parametrize("quantize", [sdk.methods.PTQ(), sdk.methods.PTQ(compensate=True, reconstruct=4), sdk.methods.QAT(steps=4)], ids=lambda q: str(plain_method(q)["name"]))
def test_zeros_stay_zeros_when_the_rest_becomes_integers(tmp_path, quantize):
    given = drawn(*IMAGE, count=8)
    state = prepare.first_state(mobilenet(), given[0], None)
    ctx = context(given, Train(labelled(), functional.cross_entropy))
    sparse = WeightSparsity(0.75, steps=2).apply(state, ctx)
    found = quantize.apply(sparse, ctx)
    weights = {name.removesuffix(".weight"): p for name, p in found.module.named_parameters() if name.endswith("__integer.weight")}
    shares = [float((found.module.get_submodule(name).integers() == 0).float().mean()) for name in weights]
    assert sum(share >= 0.75 for share in shares) == 3
    assert found.sparse == sparse.sparse and found.quantized


def test_the_native_engine_leaves_zeros_out_of_integers_too(tmp_path):
    """Files have no zeros, kernels of blocks multiply, and results are those of the module bit for bit."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
    module, given = nn.Sequential(*layers, nn.Linear(1024, 256)).eval(), drawn(2, 64, 9, 9, count=8)
    sizes = {}
    for share in (0.0, 0.8):
        methods = [WeightSparsity(share, pattern=(4, 4), allocation="uniform", steps=0), sdk.methods.PTQ(activations="static")]
        bundle = sdk.export(
            module, "host:native", methods=methods, example_inputs=given[0], calibration=given, output=tmp_path / f"{share}.edge"
        )
        assert bundle.parity.snr_db == math.inf
        sizes[share] = bundle.file_bytes
        ran = [step.kernel for step in Model(bundle.path).session().steps() if step.kernel and "gemm" in step.kernel]
        assert ["_4x4_" in kernel for kernel in ran] == [share > 0] * 3
    assert sizes[0.8] < 0.35 * sizes[0.0]


def test_a_workload_says_what_is_zero():
    state = made(mobilenet(), WeightSparsity(0.5, allocation="uniform", steps=0), drawn(*IMAGE, count=4))
    captured = prepare.captured(state, [], context()).captured
    assert captured is not None
    found = {op.module_path: op.sparsity for op in workload_of(captured.program).ops if op.kind in ("conv", "linear")}
    assert found["features.10.0"] == 0.5 and found["features.0.0"] == 0.0
    assert all(op.sparsity == 0.5 for op in WeightSparsity(0.5).effect(workload_of(captured.program), context()).ops if op.kind == "conv")


@pytest.mark.parametrize(
    ("device", "share", "engine", "why"),
    [
        ("host", 0.8, "native", "rule: the engine of host that gains from weight-sparsity"),
        ("host", 0.5, "onnxruntime", "rule: first engine"),
        ("host:onnxruntime", 0.8, "onnxruntime", "pinned"),
    ],
)
def test_the_engine_that_leaves_zeros_out_comes_first(tmp_path, device, share, engine, why):
    given = drawn(*IMAGE, count=2)
    method = WeightSparsity(share, steps=0)
    bundle = sdk.export(mobilenet(), device, methods=[method], example_inputs=given[0], calibration=given, output=tmp_path / "m.edge")
    assert bundle.engine == engine and bundle.manifest.engine_why.startswith(why)


def test_variants():
    assert [v.sparsity for v in WeightSparsity().variants(None, None)] == [0.5, 0.7, 0.8, 0.9]
    assert list(WeightSparsity(pattern="2:4").variants(None, None)) == [WeightSparsity(pattern="2:4")]


def test_options_on_the_command_line():
    assert method_from("weight-sparsity:sparsity=0.9,pattern=4+1") == WeightSparsity(0.9, pattern=(4, 1))
    assert method_from("weight-sparsity:pattern=2:4,steps=10") == WeightSparsity(pattern="2:4", steps=10)
    assert plain_method(WeightSparsity(0.9))["pattern"] == [4, 1]


# Bad input.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sparsity": 1.5}, "sparsity 1.5"),
        ({"sparsity": -0.1}, "sparsity -0.1"),
        ({"sparsity": math.nan}, "sparsity nan"),
        ({"pattern": "4:2"}, "keeps 4 of 2"),
        ({"pattern": (0, 1)}, "pattern (0, 1)"),
        ({"sparsity": 0.8, "pattern": "2:4"}, "is not the 0.5 of pattern '2:4'"),
        ({"pattern": "2:4", "allocation": "macs"}, "says the share of each layer"),
        ({"pattern": "2:4", "schedule": "regrow"}, "nothing that could come back"),
        ({"schedule": "learned"}, "schedule 'learned' chooses N of M; pattern is (4, 1)"),
        ({"schedule": "learned", "pattern": "8:16"}, "more than 128 ways"),
        ({"schedule": "slow"}, "one-shot, gradual, regrow, learned"),
        ({"allocation": "bytes"}, "uniform, weights, macs"),
        ({"steps": -1}, "steps -1"),
        ({"learning_rate": 0}, "learning_rate 0"),
        ({"exclude": ("",)}, "exclude ('',)"),
    ],
    ids=str,
)
def test_options_out_of_range(options, told):
    with pytest.raises(OptionError, match=re.escape(told)):
        WeightSparsity(**options)


def refused(module: nn.Module, method: Any, *told: str, example: Tensor | None = None, **given: Any) -> None:
    inputs = (torch.randn(IMAGE) if example is None else example,)
    with pytest.raises(MethodError) as raised:
        sdk.export(module, "host", methods=[method], example_inputs=inputs, **given)
    for text in told:
        assert text in str(raised.value)


def test_refusals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = drawn(*IMAGE)
    refused(mobilenet(), WeightSparsity(), "train=(batches, loss), or calibration=")
    refused(mobilenet(), WeightSparsity(schedule="gradual"), "while the model trains", calibration=given)
    refused(mobilenet(), WeightSparsity(schedule="regrow", steps=0), "while the model trains", train=(labelled(), None))
    refused(mobilenet(), WeightSparsity(distill=False), "nothing to learn from", train=(labelled(), None))
    refused(mobilenet(), WeightSparsity(exclude=("heda",)), "exclude pattern 'heda' matches no layer", "head", calibration=given)
    refused(mobilenet(), WeightSparsity(only="blocks"), "only pattern 'blocks' matches no layer", calibration=given)
    refused(mobilenet(), WeightSparsity(only=("head", "features")), "head", "only names it, but 10 outputs are no multiple of 4", calibration=given)
    refused(mobilenet(), WeightSparsity(pattern=(7, 1)), "none of 12 layers", "outputs are no multiple of 7", calibration=given)
    refused(nn.ReLU().eval(), WeightSparsity(), "no convolution and no linear layer", calibration=given)
    assert not list(tmp_path.iterdir())


def test_sparsity_comes_before_integers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = drawn(*IMAGE)
    with pytest.raises(MethodError, match="before ptq or qat"):
        sdk.export(mobilenet(), "host", methods=[sdk.methods.PTQ(), WeightSparsity()], example_inputs=given[0], calibration=given)
