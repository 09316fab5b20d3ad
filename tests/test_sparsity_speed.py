"""Weight sparsity with a speed in the place of a share of zeros."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdk
from device_profiles.errors import MethodError, OptionError
from edgewright_export.methods.sparsity.speed import problems, saved
from edgewright_export.state import Budget, Context, State
from edgewright_runtime.bundle.lowered import StepTime
from edgewright_runtime.measure import Timing

from .models import seeded
from .test_quantization import drawn, state_of

WeightSparsity = sdk.methods.WeightSparsity
REST_S = 0.002


class Mixed(nn.Module):
    """Three layers of the same size: the result is mostly ``loud``, and ``slow`` takes most of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.slow, self.quick = (nn.Linear(32, 64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.loud(x) + 0.05 * self.slow(x) + 0.05 * self.quick(x)


SECONDS = {"loud": 0.003, "slow": 0.004, "quick": 0.0001}


def takes(module: nn.Module) -> dict[str, float]:
    """Of each layer, of which zeros of up to a tenth are multiplied."""
    zeros = {path: float((module.get_submodule(path).weight == 0).float().mean()) for path in SECONDS}
    return {path: seconds * (1 - zeros[path] if zeros[path] > 0.1 else 1) for path, seconds in SECONDS.items()}


def context(device: str = "host", target: str = "native", overhead: float = 0.0, seen: list[Any] | None = None) -> Any:
    """That of a machine where a model with zeros takes ``overhead`` more than its layers say."""

    def time(states: Any) -> list[Timing]:
        if seen is not None:
            seen.append([state.subgraph for state in states])
        found = [sum(takes(state.module).values()) + REST_S for state in states]
        return [Timing((found[0],)), *(Timing((one + overhead,)) for one in found[1:])]

    def profile(states: Any) -> list[list[StepTime]]:
        return [[StepTime((), REST_S), *(StepTime((f"{path}.0", path), s) for path, s in takes(one.module).items())] for one in states]

    engine: Any = SimpleNamespace(weight_qmax=127, weight_bits=(8, 4), max_version=None)
    calibration = drawn(4, 32, count=12)
    return Context(target, SimpleNamespace(id=device, kind="board"), engine, lambda _: None, time, profile, calibration, None, None, Budget())  # type: ignore[arg-type]


def made(method: Any, ctx: Any) -> State:
    state = state_of(seeded(Mixed), torch.randn(4, 32))
    assert method.check(state, ctx) == []
    return method.apply(state, ctx)


def zeros(state: State) -> dict[str, float]:
    return {row.path: row.zeros for row in state.sparse}


@pytest.mark.parametrize("overhead", [0.0, 0.0005])
@pytest.mark.parametrize("speedup", [1.2, 1.5, 2.0])
def test_it_is_as_fast_as_wanted_and_hardly_more(speedup, overhead):
    state = made(WeightSparsity(speedup=speedup, steps=0), context(overhead=overhead))
    times = (sum(SECONDS.values()) + REST_S) / (sum(takes(state.module).values()) + REST_S + overhead)
    assert speedup <= times <= 1.1 * speedup
    assert f"{times:.2f} times as fast as dense (" in state.changes[-1]


def test_zeros_are_where_they_save_time_and_cost_little():
    found = zeros(made(WeightSparsity(speedup=1.5, steps=0), context()))
    assert found["slow"] > 0.7
    assert found["loud"] == 0


def test_what_is_asked_of_layers_is_found_where_their_times_do_not_add_up():
    alone, dearer = (zeros(made(WeightSparsity(speedup=1.5, steps=0), context(overhead=o))) for o in (0.0, 0.001))
    assert sum(dearer.values()) > sum(alone.values())


def test_a_speed_that_no_zeros_bring():
    with pytest.raises(MethodError, match=r"speedup=8 is not reached: .* at most 4\.55 times as fast.*ask for less"):
        made(WeightSparsity(speedup=8, steps=0), context())


def test_zeros_that_save_nothing():
    ctx = replace(context(), profile=lambda states: [[StepTime(("loud",), 0.001)] for _ in states], time=lambda _: [Timing((1.0,))] * 2)
    with pytest.raises(MethodError, match=r"at most 1\.00 times as fast"):
        made(WeightSparsity(speedup=1.5, steps=0), ctx)


def test_inside_a_runtime_that_multiplies_zeros_the_model_is_one_operator():
    seen: list[Any] = []
    state = made(WeightSparsity(speedup=1.5, steps=0, subgraph=True), context(target="onnxruntime", seen=seen))
    assert seen
    assert all(one == [False, True] for one in seen)
    assert state.subgraph


def test_what_zeros_save():
    product = SimpleNamespace(path="both", weight="both.a", macs=30), SimpleNamespace(path="both", weight="both.b", macs=10)
    levels = [[StepTime(("other", "both"), 0.4 * part), StepTime(("nobody",), 1.0)] for part in (1.0, 1.1, 0.5, 0.6, 0.2, 0.0)]
    found = saved(product, levels)  # type: ignore[arg-type]
    assert found["both.a"] == pytest.approx([0, 0, 0.15, 0.15, 0.24, 0.3])
    assert found["both.b"] == pytest.approx([0, 0, 0.05, 0.05, 0.08, 0.1])


@pytest.mark.parametrize(
    ("device", "target", "subgraph", "told"),
    [
        ("jetson-nano", "native", None, "jetson-nano is not this machine"),
        ("host", "onnxruntime", False, "onnxruntime multiplies zeros"),
        ("host", "native", None, None),
        ("host", "litert", None, None),
    ],
)
def test_where_speed_can_be_asked_for(device, target, subgraph, told):
    found = problems(context(device, target), subgraph)
    assert [told in one.reason for one in found] == ([] if told is None else [True])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"speedup": 1}, "speedup 1 is not above 1"),
        ({"speedup": float("nan")}, "speedup nan is not above 1"),
        ({"speedup": float("inf")}, "speedup inf is not above 1"),
        ({"speedup": "2x"}, "speedup '2x' is neither a number, nor None"),
        ({"speedup": 2, "sparsity": 0.5}, "both say how many zeros"),
        ({"speedup": 2, "pattern": "2:4"}, "which pattern '2:4' says"),
        ({"speedup": 2, "allocation": "macs"}, "allocation is 'macs'"),
    ],
)
def test_options_out_of_range(options, told):
    with pytest.raises(OptionError, match="WeightSparsity") as caught:
        WeightSparsity(**options)
    assert told in str(caught.value)


class Wide(nn.Module):
    """Layers that take nearly all of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(part for _ in range(2) for part in (nn.Linear(512, 512), nn.ReLU())))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_file_is_faster_on_this_machine(tmp_path, engine, monkeypatch):
    """The first shares that are fast enough are taken, which saves time here."""
    pytest.importorskip(engine if engine != "native" else "onnx")
    monkeypatch.setattr("edgewright_export.methods.sparsity.speed._NEAR", 100.0)
    given = drawn(32, 512, count=4)
    bundle = sdk.export(
        seeded(Wide),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[WeightSparsity(speedup=1.3, steps=0)],
        calibration=given,
        output=tmp_path / "fast.edge",
    )
    rows = bundle.manifest.sparse
    assert 0 < sum(row.zeros for row in rows) < len(rows)
    assert "times as fast as dense (" in bundle.manifest.changes[-1]
    assert any(row.runs == "sparse" for row in rows)
