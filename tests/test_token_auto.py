"""``TokenDropping(keep="auto")``: a schedule for every block, within a limit."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sdk
from edgewright_export.methods.token_dropping import TokenDropping
from edgewright_export.methods.tokens.auto import _boundary, schedules
from edgewright_export.predict import module_predictor
from edgewright_export.state import Budget, Context, Example, State
from edgewright_runtime.measure import Timing
from sdk.errors import BudgetError, MethodError, OptionError
from tests import reference_models
from tests.models import Block, ViT, seeded
from tests.reference_models.data import fashion_mnist


class DeepViT(ViT):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks.append(Block(32, 4))


def pictures(count: int) -> list[tuple[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 3, 32, 32, generator=generator),) for _ in range(count)]


def likeness(predict) -> float:
    """How near the outputs are to those of the whole model, 1 if they are its own."""
    whole = seeded(DeepViT)
    with torch.no_grad():
        pairs = [(predict(*one), whole(*one)) for one in pictures(4)]
    return 1 - sum(float((a - b).square().sum() / b.square().sum()) for a, b in pairs) / len(pairs)


def export(tmp_path, **options):
    method = sdk.methods.TokenDropping(keep="auto", strategy=options.pop("strategy", "merge"))
    return sdk.export(
        seeded(DeepViT),
        options.pop("device", "host:native"),
        example_inputs=pictures(1)[0],
        methods=[method],
        output=tmp_path / "auto.edge",
        **options,
    )


@given(st.integers(2, 40), st.integers(2, 6), st.integers(1, 5))
def test_each_schedule_is_cheaper_than_the_one_before(tokens, depth, least):
    """Here the outputs suffer from the first block most."""
    whole, least = (tokens,) * depth, min(least, tokens)
    row = list(schedules(whole, range(depth - 1), least, sum, lambda s: 1e-6 * sum((tokens - n) / (i + 1) for i, n in enumerate(s))))
    assert row[0] == whole and all(sum(b) < sum(a) for a, b in itertools.pairwise(row))
    for schedule in row:
        assert schedule[0] <= tokens and min(schedule) >= least and list(schedule) == sorted(schedule, reverse=True)
    if tokens > least and depth > 2:
        assert row[1][0] == tokens, "tokens go late first"


def test_where_the_outputs_are_lost_it_ends():
    row = list(schedules((100,) * 4, range(3), 1, sum, lambda schedule: 1 - schedule[-1] / 100))
    assert row[-1][-1] < 50 < row[-2][-1]


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_boundary_is_found(holding, more):
    row = [(i,) for i in range(holding + more)]
    assert _boundary(lambda schedule: schedule[0] < holding, row) == holding


def chosen(budget: Budget, time=lambda _: None) -> State:
    context = Context("native", None, None, lambda _: None, time, None, pictures(1), None, likeness, budget)
    state = State(seeded(DeepViT), Example(pictures(1)[0], {}, ""), seeded(DeepViT))
    return TokenDropping(keep="auto").apply(state, context)


def macs(state: State) -> int:
    return sum(layer.macs_after for layer in state.layers)


def test_no_more_quality_is_lost_than_allowed():
    """A tighter limit leaves more to compute."""
    tight, loose = (chosen(Budget(drop)) for drop in (0.02, 0.3))
    assert likeness(module_predictor(tight.module)) >= 0.98
    assert 0.7 <= likeness(module_predictor(loose.module)) < 0.98
    assert macs(tight) > macs(loose)


def test_no_more_time_is_taken_than_allowed():
    """As much is computed as the time allows, here a millisecond for each token that the class token looks at."""

    def seconds(state: State) -> float:
        seen = []
        with torch.no_grad():
            state.module.blocks[-1].register_forward_hook(lambda _, args, output: seen.append(output.shape[1]))
            state.module(*pictures(1)[0])
        return seen[0] / 1000

    state = chosen(Budget(latency_s=0.009), lambda states: [Timing((seconds(state),)) for state in states])
    assert state.layers[-2].tokens_after in (8, 9)


@pytest.mark.slow
def test_a_limit_that_no_schedule_meets(tmp_path):
    with pytest.raises(BudgetError, match="still takes longer than max_latency_s=1e-09"):
        export(tmp_path, calibration=pictures(1), max_latency_s=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "token-dropping needs calibration="),
        ({"calibration": pictures(1)}, "no limit to keep to"),
        ({"calibration": [], "max_latency_s": 1}, "calibration= is empty"),
        ({"calibration": [(torch.zeros(1, 2, 32, 32),)], "max_latency_s": 1}, "calibration= does not fit the model"),
        ({"calibration": pictures(1), "max_latency_s": 1, "device": "raspberry-pi-5"}, "there is no latency price"),
    ],
)
def test_what_is_missing_is_named(options, message, tmp_path):
    with pytest.raises((OptionError, MethodError, BudgetError), match=message):
        export(tmp_path, **options)


@pytest.mark.slow
def test_a_trained_transformer_loses_no_more_than_allowed(tmp_path):
    """``vit_fmnist``, 1,000 test images, one point of accuracy at most."""
    data = fashion_mnist.load()
    images, labels = fashion_mnist.pixels(data.test_x[:1000]), data.test_y[:1000]

    def accuracy(predict) -> float:
        right = [int(predict(image[None]).argmax()) == label for image, label in zip(images, labels, strict=True)]
        return 100 * sum(right) / len(right)

    bundle = sdk.export(
        reference_models.load("vit_fmnist"),
        "host:native",
        example_inputs=(images[:1],),
        methods=[sdk.methods.TokenDropping(keep="auto")],
        calibration=[(image,) for image in fashion_mnist.pixels(data.train_x[:8])[:, None]],
        evaluate=accuracy,
        max_quality_drop=1.0,
        output=tmp_path / "auto.edge",
    )
    assert bundle.quality is not None and bundle.quality.after >= bundle.quality.before - 1
    assert bundle.manifest.model.macs < 0.6 * 225_201_408
