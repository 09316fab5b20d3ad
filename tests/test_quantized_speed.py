"""What is slower with integers stays float32, and says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import sdk
from edgewright_export.methods.quantization.slower import too_slow
from edgewright_runtime import measure as timing
from edgewright_runtime.measure import Timing, measure

from .models import seeded

GIVEN = [torch.randn(1, 3, 10, 10, generator=torch.Generator().manual_seed(0)) for _ in range(4)]


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)).eval()


def in_turns(whole: float, integers: float, jitter: float = 0.0) -> Any:
    """Milliseconds of both, of which every second sample is later by ``jitter`` of itself."""

    def time(states: Any) -> list[Timing]:
        assert [bool(state.quantized or state.captured) for state in states] == [False, True]
        seconds = [[ms / 1e3 * (1 + jitter * (i % 2)) for i in range(40)] for ms in (whole, integers)]
        return [Timing(tuple(samples)) for samples in seconds]

    return time


@pytest.mark.parametrize(
    ("time", "slow"),
    [
        (in_turns(1.0, 0.5), False),
        (in_turns(1.0, 1.02), False),
        (in_turns(1.0, 1.1), True),
        (in_turns(1.0, 1.04, jitter=1.0), False),
        (lambda _: None, False),
    ],
    ids=["faster", "hardly slower", "slower", "not sure", "not measured"],
)
def test_what_counts_as_slower(time, slow):
    states: Any = [SimpleNamespace(quantized=(), captured=None), SimpleNamespace(quantized=(1,), captured=1)]
    said = too_slow(*states, SimpleNamespace(time=time, target="native"))  # type: ignore[arg-type]
    assert bool(said) == slow
    assert said is None or said.startswith("kept float32: one run takes 1.1 ms with integers, 1 ms without (native")


def exported(tmp_path, monkeypatch, method: Any, **options: Any) -> sdk.Bundle:
    monkeypatch.setattr("sdk.pipeline._Request._time", lambda _, states: in_turns(1.0, 2.0)(states))
    return sdk.export(
        seeded(small),
        "host:native",
        example_inputs=GIVEN[0],
        methods=[method],
        calibration=GIVEN,
        output=tmp_path / "m.edge",
        **options,
    )


def never() -> Any:
    raise AssertionError("a batch was read")


@pytest.mark.parametrize(("method", "options"), [(sdk.methods.PTQ(), {}), (sdk.methods.QAT(), {"train": (never, None)})])
def test_it_stays_float_untrained_and_the_bundle_says_why(tmp_path, monkeypatch, method, options):
    bundle = exported(tmp_path, monkeypatch, method, **options)
    assert not bundle.manifest.quantized
    assert bundle.manifest.changes == (
        f"{method.name}: kept float32: one run takes 2 ms with integers, 1 ms without (native, measured on this machine); "
        "even_if_slower=True quantizes all the same",
    )
    assert bundle.parity.snr_db > 80


@pytest.mark.parametrize("method", [sdk.methods.PTQ(even_if_slower=True), sdk.methods.PTQ(activations="float")])
def test_who_wants_integers_all_the_same_gets_them(tmp_path, monkeypatch, method):
    assert exported(tmp_path, monkeypatch, method).manifest.quantized


def test_both_are_measured_on_this_machine(tmp_path, monkeypatch):
    """A wide layer of one row is bound by reading its weights, of which integers are a quarter."""
    monkeypatch.setattr(timing, "measure", measure)
    module = nn.Sequential(nn.Linear(2048, 2048), nn.Linear(2048, 2048)).eval()
    given = [torch.randn(1, 2048) for _ in range(4)]
    bundle = sdk.export(
        module, "host:native", example_inputs=given[0], methods=[sdk.methods.PTQ()], calibration=given,
        output=tmp_path / "m.edge",
    )  # fmt: skip
    assert bundle.manifest.quantized
