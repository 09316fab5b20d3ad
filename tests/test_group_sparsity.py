"""Group sparsity: channels of the whole model change places, the model computes the same, and blocks keep more."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sdk
from edgewright_export.build import plain_method
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.graph import open_graph
from edgewright_export.methods.sparsity.axes import free
from edgewright_export.methods.sparsity.importance import looked_at
from edgewright_export.methods.sparsity.layers import Choice, layers
from edgewright_export.methods.sparsity.order import order
from edgewright_export.methods.sparsity.pattern import Pattern
from edgewright_export.methods.sparsity.rearrange import rearranged
from edgewright_export.state import State
from sdk.cli.export import method_from

from .models import Calls, ViT, seeded
from .test_quantization import drawn, state_of
from .test_weight_sparsity import IMAGE, labelled, made, mobilenet

pytestmark = pytest.mark.usefixtures("no_speed_asked")
WeightSparsity = sdk.methods.WeightSparsity
GROUP = Pattern.read("group")
STAY = "; no channels rearranged: all have to stay in place"
FEATURES = (2, 16, 6, 6)


def scrambled(module: nn.Module, seed: int = 0) -> nn.Module:
    """With parameters and statistics of which no two channels are alike."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dim() == 1 and "running_var" not in name:
                tensor.uniform_(-1, 1, generator=draw)
            elif tensor.is_floating_point():
                spread = torch.rand(tensor.shape, generator=draw) ** 4 + 0.05
                tensor.mul_(spread) if tensor.dim() > 1 else tensor.copy_(0.5 + spread)
    return module.eval()


def conv(inputs: int, outputs: int, kernel: int = 1, **options: Any) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.Hardswish())


class Residual(nn.Module):
    """A sum of two layers' channels, which go on to a third."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.back, self.last = conv(16, 24, 3), conv(24, 32), conv(32, 24, 3), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.back(self.inner(x))
        return self.last(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    """An inverted residual with a factor for each channel (Hu et al. 2018, section 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.each = conv(16, 48), conv(48, 48, 3, groups=48, bias=False)
        self.less, self.more, self.back = nn.Conv2d(48, 16, 1), nn.Conv2d(16, 48, 1), nn.Conv2d(48, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.pad(functional.max_pool2d(self.each(self.wide(x)), 2), (1, 1, 0, 1))
        scale = functional.relu6(self.less(y.mean((2, 3), keepdim=True)))
        return self.back(y * functional.hardsigmoid(self.more(scale))).clamp(-1, 1)


class Odd(nn.Module):
    """Parametric ReLU, dropout, a linear layer on values with three axes, and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Conv1d(16, 32, 3), nn.PReLU(32), nn.Conv1d(32, 16, 1)
        self.scale, self.mlp = nn.Parameter(torch.ones(32, 1)), nn.Sequential(nn.Linear(6, 20), nn.Dropout(), nn.Linear(20, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.last(self.act(self.first(x)) * self.scale))


class Concatenated(nn.Module):
    """Channels of two layers beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = conv(16, 16), conv(16, 24), conv(40, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3))


class Tied(nn.Module):
    """One tensor is the weights of two layers, another of three, once as what makes channels and once as what reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 16)
        self.b.weight, self.head = self.a.weight, nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.c(torch.relu(self.c(torch.tanh(self.a(x)) + self.b(2 * x)))))
        return self.head(torch.relu(self.d(inner)))


MODELS: dict[str, Any] = {
    "mobilenet": (mobilenet, IMAGE, 3),
    "residual": (Residual, FEATURES, 3),
    "squeeze-excite": (SqueezeExcite, FEATURES, 3),
    "vit": (lambda: seeded(ViT), (1, 3, 32, 32), 2),
    "odd": (Odd, (2, 16, 8), 1),
    "concatenated": (Concatenated, FEATURES, 0),
    "tied": (Tied, (4, 16), 3),
}


def built(name: str) -> tuple[nn.Module, list[tuple[Tensor, ...]], int]:
    build, shape, moved = MODELS[name]
    torch.manual_seed(0)
    return scrambled(build()), drawn(*shape, count=6), moved


def state_rearranged(module: nn.Module, given: Any, share: float = 0.5) -> tuple[State, str]:
    state = state_of(module, *given[0])
    return rearranged(state, Choice(GROUP, (), ()), share, calls(given, state.example))


def kept(module: nn.Module, given: Any, pattern: Pattern, share: float) -> float:
    """Of all layers' importance, each layer's 1, the mean of what stays."""
    state = state_of(module, *given[0])
    graph = open_graph(state)
    found = layers(graph, dict(module.named_parameters()), Choice(GROUP, (), ())).sparse
    known = looked_at(graph, found, calls(given, state.example))
    costs = [module.get_parameter(name).detach().square() * curvature for name, curvature in known.items()]
    return float(torch.stack([(cost * pattern.mask(cost, share)).sum() / cost.sum() for cost in costs]).mean())


def movable(module: nn.Module, given: Any) -> list[set[tuple[str, int]]]:
    return [set(axes) for axes in free(open_graph(state_of(module, *given[0])), module)]


# The model computes the same.


@pytest.mark.parametrize("name", MODELS)
def test_a_rearranged_model_computes_the_same(name):
    module, given, moved = built(name)
    before = copy.deepcopy(module.state_dict())
    state, words = state_rearranged(module, given)
    assert words == (f"; channels of {moved} layers rearranged" if moved else STAY)
    assert (state.module is module) == (not moved)
    with torch.no_grad():
        for one in given:
            torch.testing.assert_close(state.module(*one), module(*one), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items()), "the user's module"
    changed = [key for key, value in state.module.state_dict().items() if not torch.equal(value, before[key])]
    assert bool(changed) == bool(moved)


@pytest.mark.parametrize("name", MODELS)
def test_any_order_of_free_axes_computes_the_same(name):
    """Not only the orders that were found: each set is turned around, alone."""
    module, given, _ = built(name)
    with torch.no_grad():
        wanted = module(*given[0])
        for axes in free(open_graph(state_of(module, *given[0])), module):
            turned, done = copy.deepcopy(module), set()
            tensors = {**dict(turned.named_parameters(remove_duplicate=False)), **dict(turned.named_buffers())}
            for path, axis in axes:
                tensor = tensors[path]
                if (id(tensor), axis) not in done:
                    tensor.copy_(tensor.flip(axis))
                done.add((id(tensor), axis))
            torch.testing.assert_close(turned(*given[0]), wanted, rtol=1e-4, atol=1e-5)


def test_what_moves_together():
    module, given, _ = built("residual")
    (stream,) = [axes for axes in movable(module, given) if ("first.0.weight", 0) in axes]
    norms = {(f"{layer}.1.{name}", 0) for layer in ("first", "back") for name in ("weight", "bias", "running_mean", "running_var")}
    ends = {("first.0.weight", 0), ("first.0.bias", 0), ("back.0.weight", 0), ("back.0.bias", 0), ("inner.0.weight", 1), ("last.weight", 1)}
    assert stream == norms | ends
    module, given, _ = built("squeeze-excite")
    (wide,) = [axes for axes in movable(module, given) if ("wide.0.weight", 0) in axes]
    assert wide >= {("each.0.weight", 0), ("less.weight", 1), ("more.weight", 0), ("more.bias", 0), ("back.weight", 1)}
    module, given, _ = built("odd")
    assert {("first.weight", 0), ("first.bias", 0), ("act.weight", 0), ("scale", 0), ("last.weight", 1)} in movable(module, given)
    assert {("mlp.0.weight", 0), ("mlp.0.bias", 0), ("mlp.2.weight", 1)} in movable(module, given)


def test_one_tensor_is_permuted_once():
    module, given, _ = built("tied")
    (inner,) = [axes for axes in movable(module, given) if ("c.weight", 0) in axes]
    assert {("a.bias", 0), ("b.bias", 0), ("c.weight", 1), ("d.weight", 1)} <= inner
    moved = state_rearranged(module, given)[0].module
    assert moved.a.weight is moved.b.weight and not torch.equal(moved.a.weight, module.a.weight)


CUTS: dict[str, Any] = {
    "reshape": lambda x: x.reshape(len(x), 4, -1, 6, 6).mean(2),
    "cat": lambda x: torch.cat([x, x], 1),
    "slice": lambda x: x[:, :8],
    "split": lambda x: x.split(8, 1)[1],
    "flip": lambda x: x.flip(1),
    "cumsum": lambda x: torch.cumsum(x, 1),
    "matmul": lambda x: x.flatten(2) @ x.flatten(2).mT,
    "softmax": lambda x: x.softmax(1),
    "a constant": lambda x: x * torch.arange(16.0)[:, None, None],
    "group norm": lambda x: functional.group_norm(x, 4),
    "flattened places": lambda x: x.flatten(1) * torch.arange(16.0 * 36),
    "pixel shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "nothing": lambda x: x,
}


@pytest.mark.parametrize("cut", CUTS)
def test_what_keeps_channels_in_place(cut):
    module = scrambled(nn.Sequential(nn.Conv2d(16, 16, 1), Calls(CUTS[cut])))
    assert movable(module, drawn(*FEATURES)) == []
    state, words = state_rearranged(module, drawn(*FEATURES))
    assert state.module is module and words == STAY


class Hidden(nn.Module):
    """More than its graph says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.first(x))
        return self.last(inner) if torch.compiler.is_exporting() else self.last(inner) + inner[:, :8]


def test_a_model_that_would_compute_something_else_stays():
    module, given = scrambled(Hidden()), drawn(4, 16, count=6)
    assert ("first.weight", 0) in movable(module, given)[0]
    state, words = state_rearranged(module, given)
    assert state.module is module and words == "; no channels rearranged: the model would compute something else"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_model_whose_order_does_not_matter_stays(share):
    module, given, _ = built("residual")
    state, words = state_rearranged(module, given, share)
    assert state.module is module and words == "; no channels rearranged: no order is better"


# Which order.


@pytest.mark.parametrize("layers_of", [1, 2])
@pytest.mark.parametrize(("groups", "columns", "share"), [(4, 16, 0.75), (8, 64, 0.75), (32, 128, 0.5), (64, 64, 0.8)])
def test_rows_that_are_alike_are_found_again(groups, columns, share, layers_of):
    draw = torch.Generator().manual_seed(1)
    needed = torch.rand(groups, columns, generator=draw).argsort(1) < (1 - share) * columns
    planted = needed.repeat_interleave(4, 0) * (0.5 + torch.rand(4 * groups, columns, generator=draw)) + 1e-3
    shuffled = planted[torch.randperm(4 * groups, generator=draw)]
    parts, wanted = shuffled.chunk(layers_of, 1), planted.chunk(layers_of, 1)
    found = order(parts, 4, share)
    assert found is not None and torch.equal(found.sort().values, torch.arange(4 * groups))

    def stays(importance: Tensor) -> float:
        return float((importance * GROUP.mask(importance, share)).sum())

    assert sum(stays(part[found]) for part in parts) >= sum(map(stays, wanted)) * (1 - 1e-6)


@pytest.mark.parametrize(
    "importance",
    [torch.rand(4, 8), torch.zeros(16, 8), torch.ones(16, 8), torch.full((16, 8), torch.nan), torch.full((16, 8), torch.inf)],
    ids=["one group", "zeros", "ones", "nan", "inf"],
)
def test_where_no_order_is_better(importance):
    assert order([importance], 4, 0.5) is None


def test_huge_and_tiny_importance():
    draw = torch.Generator().manual_seed(0)
    importance = torch.rand(32, 16, generator=draw) ** 8
    found = [order([importance * factor], 4, 0.5) for factor in (1e-30, 1.0, 1e30)]
    assert all(one is not None for one in found)


@pytest.mark.parametrize(
    ("name", "share"),
    [("residual", 0.3), ("residual", 0.8), ("mobilenet", 0.5), ("squeeze-excite", 0.5), ("odd", 0.5), ("tied", 0.8), ("concatenated", 0.5)],
)
def test_more_stays_than_without(name, share):
    module, given, moved = built(name)
    state, _ = state_rearranged(module, given, share)
    plain, grouped = (kept(one, given, GROUP, share) for one in (module, state.module))
    assert grouped > plain if moved else grouped == plain
    assert grouped < kept(module, given, Pattern(), share)


# As a method.


def test_the_same_model_gives_the_same_bits():
    method, batches = WeightSparsity(0.5, pattern="group", steps=3), (labelled(), functional.cross_entropy)
    found = [made(mobilenet(), method, train=batches) for _ in range(2)]
    first, second = (state.module.state_dict() for state in found)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "; channels of 3 layers rearranged" in found[0].changes[0] and "zeros group in 3 of" in found[0].changes[0]
    assert {row.pattern for row in found[0].sparse} == {"group", "dense"}


def test_zeros_come_in_fours_and_cost_less():
    """With the same rule and no training: the error against the dense model, on inputs that were looked at."""
    given, module = drawn(64, 32, count=8), nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    scrambled(module)
    states = {p: made(module, WeightSparsity(0.5, pattern=p, allocation="uniform", steps=0), given, example=given[0][0]) for p in ("group", (4, 1))}
    zeros = states["group"].module[0].weight.detach().reshape(16, 4, 32) == 0
    assert torch.equal(zeros.any(1), zeros.all(1)) and zeros.float().mean() == 0.5
    with torch.no_grad():
        errors = {p: sum(float((s.module(*one) - module(*one)).square().mean()) for one in given) for p, s in states.items()}
    assert errors["group"] < errors[4, 1]


def test_blocks_learn_from_a_teacher_with_the_same_channels():
    """A student that has lost nothing yet has nothing to learn: with channels in other places its blocks would differ."""
    nested = nn.Sequential(nn.Sequential(nn.Linear(16, 64), nn.ReLU()), nn.Sequential(nn.Linear(64, 16), nn.ReLU()))
    inputs = drawn(16, 16, count=32)
    state = made(scrambled(nested), WeightSparsity(0.05, pattern="group", allocation="uniform", steps=1), inputs, example=inputs[0][0])
    assert "channels of 1 layers rearranged" in state.changes[0]
    loss = float(state.changes[0].split("loss ")[1].split(" ")[0])
    assert loss < 0.1


def test_the_module_stays_where_nothing_can_move():
    module, given, _ = built("concatenated")
    states = [made(module, WeightSparsity(0.5, pattern=p, steps=0), given, example=given[0][0]) for p in ("group", (4, 1))]
    (first, second) = (state.module.state_dict() for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert STAY in states[0].changes[0] and "rearranged" not in states[1].changes[0]


@pytest.mark.parametrize("program", [False, True])
def test_groups_are_in_the_file(tmp_path, program):
    method = WeightSparsity(0.5, pattern="group", allocation="uniform", steps=2)
    given, module = drawn(*IMAGE, count=8), mobilenet()
    model = torch.export.export(module, given[0]) if program else module
    bundle = sdk.export(model, "host:native", methods=[method], example_inputs=None if program else given[0], calibration=given, output=tmp_path / "m.edge")
    rows = {row.path: row for row in bundle.manifest.sparse}
    assert rows["features.10.0"].pattern == "group" and rows["features.10.0"].zeros == 0.5
    assert any("channels of 3 layers rearranged" in change for change in bundle.manifest.changes)
    assert "group" in bundle.report(tmp_path / "r.html").read_text()
    with sdk.load(bundle.path) as session:
        assert np.isfinite(next(iter(session.run(given[0][0].numpy()).values()))).all()


def test_options():
    assert method_from("weight-sparsity:pattern=group,sparsity=0.3") == WeightSparsity(0.3, pattern="group")
    assert plain_method(WeightSparsity(pattern="group"))["pattern"] == "group"
    assert [v.pattern for v in WeightSparsity(pattern="group").variants(None, None)] == ["group"] * 4
    assert Pattern(4, 1, rearranged=True) == GROUP and GROUP.misfit(torch.zeros(10, 4)) == "10 outputs are no multiple of 4"
