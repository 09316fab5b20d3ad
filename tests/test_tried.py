"""What was tried: evaluated once, recorded in the bundle with sizes that can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdk
from device_profiles.errors import BundleError, OptionError
from edgewright_export.methods import ptq
from edgewright_export.methods.quantization.size import weight_bytes
from edgewright_export.state import Example
from edgewright_export.training import seen
from edgewright_export.training.batches import Train
from edgewright_export.tried import kept_float, with_qualities
from edgewright_runtime.bundle.consistency import contradictions
from edgewright_runtime.bundle.manifest import MAJOR, MINOR, Manifest, Tried
from sdk.cli.export import summary
from tests.test_quantization import drawn, plan_of, residual, state_of

GIVEN = drawn(1, 3, 10, 10, count=8)
WHOLE = Tried("float32, as given", 4000, None, None, False)
SMALL = Tried("3 of 3 layers quantized", 1000, None, None, True)


class Evaluate:
    """Minus the squared error against the module; remembers what it returned."""

    def __init__(self, returned: Callable[[int, float], float] = lambda _, value: value) -> None:
        self.found: list[float] = []
        self._returned, module = returned, residual()
        with torch.no_grad():
            self._wanted = [module(*one) for one in GIVEN]

    def __call__(self, predict: Callable[..., Any]) -> float:
        pairs = zip(GIVEN, self._wanted, strict=True)
        value = -sum(float((predict(*one) - want).square().sum()) for one, want in pairs)
        self.found.append(self._returned(len(self.found), value))
        return self.found[-1]


def exported(tmp_path: Path, evaluate: Any, limit: float | None = None, **options: Any) -> Any:
    """The residual net with weights of 4 bits."""
    return sdk.export(
        residual(),
        "host:native",
        example_inputs=GIVEN[0],
        methods=[options.pop("method", sdk.methods.PTQ(weight_bits=4, even_if_slower=True))],
        calibration=GIVEN,
        evaluate=evaluate,
        max_quality_drop=limit,
        output=tmp_path / "m.edge",
        **options,
    )


def test_without_a_limit_float_and_quantized_are_tried_and_nothing_is_evaluated_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Evaluate()
    bundle = exported(tmp_path, evaluate)
    given, quantized = bundle.manifest.tried
    assert len(evaluate.found) == 2
    said = [line.split(maxsplit=1) for line in capsys.readouterr().err.splitlines()]
    assert ["method", bundle.manifest.changes[0]] in said
    assert ["quality", f"{bundle.quality.after:.6g}, 0 before, measured with evaluate="] in said
    assert "against the quantized module in PyTorch" in dict(said)["parity"]
    assert (given.what, given.quality, given.evaluated, given.chosen) == ("float32, as given", 0.0, "module", False)
    assert quantized.what == "3 of 3 layers quantized" and quantized.chosen and quantized.evaluated == "files"
    assert quantized.quality == bundle.quality.after == evaluate.found[1]
    assert quantized.weight_bytes < given.weight_bytes / 3
    assert summary(bundle)["tried"][1] == {
        "what": "3 of 3 layers quantized",
        "weight_bytes": quantized.weight_bytes,
        "quality": evaluate.found[1],
        "evaluated": "files",
        "chosen": True,
    }


def test_what_a_limit_made_it_try_is_evaluated_once_and_drawn(tmp_path: Path) -> None:
    lost = -exported(tmp_path, Evaluate()).quality.after
    evaluate = Evaluate()
    bundle = exported(tmp_path, evaluate, lost / 2)
    tried = bundle.manifest.tried
    assert [one.evaluated for one in tried[:2]] == ["module", "module"]
    assert [one.quality for one in tried if one.evaluated == "module"] == evaluate.found[:-1]
    assert evaluate.found[-1] == bundle.quality.after and bundle.quality.before == evaluate.found[0]
    assert [one.chosen for one in tried].count(True) == 1 and not tried[1].chosen
    (chosen,) = [one for one in tried if one.chosen]
    assert "float32 stay" in chosen.what and chosen.quality is not None and chosen.quality >= -lost / 2
    assert tried[1].weight_bytes < chosen.weight_bytes < tried[0].weight_bytes
    page = bundle.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count('<circle class="point') == len(tried) and page.count("point chosen") == 1
    assert all(one.what in page for one in tried)
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest


def test_a_candidate_without_a_finite_quality_fails_and_says_so(tmp_path: Path) -> None:
    evaluate = Evaluate(lambda number, value: math.nan if number == 1 else 0.0)
    tried = exported(tmp_path, evaluate, 0.5).manifest.tried
    assert (tried[1].quality, tried[1].evaluated, tried[1].chosen) == (None, "module", False)
    assert tried[2].chosen and tried[2].quality == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_module_without_a_finite_quality_is_refused_before_anything_else_is_evaluated(
    tmp_path: Path, value: float
) -> None:
    evaluate = Evaluate(lambda number, _: value)
    with pytest.raises(OptionError, match="expected a finite number"):
        exported(tmp_path, evaluate, 0.5)
    assert len(evaluate.found) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0.5, None])
def test_what_is_slower_here_was_tried_and_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None
) -> None:
    monkeypatch.setattr(ptq, "too_slow", lambda *_: "kept float32: it is slower")
    tried = exported(tmp_path, Evaluate(lambda *_: 3.0), limit, method=sdk.methods.PTQ()).manifest.tried
    assert [one.chosen for one in tried] == [True, False]
    assert [one.evaluated for one in tried] == ["module", None if limit is None else "module"]
    assert [one.quality for one in tried] == [3.0, None if limit is None else 3.0]


def test_float_that_an_earlier_method_changed_is_another_row() -> None:
    state = replace(state_of(residual(), *GIVEN[0]), tried=(WHOLE, SMALL), changes=("a method",))
    assert kept_float(state, "slow").tried == (replace(WHOLE, chosen=True), replace(SMALL, chosen=False))
    tried = kept_float(replace(state, module=nn.Sequential(state.module)), "slow").tried
    assert tried[:2] == (WHOLE, replace(SMALL, chosen=False))
    assert with_qualities(tried, 1.0, 0.5) == (
        replace(WHOLE, quality=1.0, evaluated="module"),
        replace(SMALL, chosen=False),
        Tried("float32, as it was before", 4000, 0.5, "files", True),
    )


def test_nothing_is_recorded_without_evaluate(tmp_path: Path) -> None:
    bundle = exported(tmp_path, None)
    assert bundle.manifest.tried == () and "Quality" not in bundle.report(tmp_path / "r.html").read_text()


def test_training_is_tried_too_and_calibrates_with_what_it_learns_from(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    batches = [(torch.randn(16, 3, 10, 10, generator=draw), torch.randint(0, 5, (16,))) for _ in range(20)]
    read: list[int] = []

    def epoch() -> Any:
        for number, batch in enumerate(batches):
            read.append(number)
            yield batch

    bundle = sdk.export(
        residual(),
        "host:native",
        example_inputs=GIVEN[0],
        methods=[sdk.methods.QAT(steps=3, even_if_slower=True)],
        train=(epoch, None),
        evaluate=Evaluate(),
        output=tmp_path / "m.edge",
    )
    assert [one.chosen for one in bundle.manifest.tried] == [False, True]
    assert max(read) == 15, "256 samples"
    assert {row.activations for row in bundle.manifest.quantized} == {"int8"}


def test_reading_for_calibration_leaves_random_numbers_alone_and_ends_with_the_epoch() -> None:
    def shuffled() -> Any:
        return ((torch.randn(4, 3)[torch.randperm(4)], None) for _ in range(2))

    example, before = Example((torch.randn(1, 3),), {}, "a test"), torch.get_rng_state()
    first = seen.inputs(Train(shuffled, None), example, 0)
    again = seen.inputs(Train(shuffled, None), example, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert first is not None and again is not None and len(first) == 2
    assert torch.equal(first[1][0], again[1][0])
    with pytest.raises(OptionError, match="train holds no batch"):
        seen.inputs(Train([], None), example, 0)


def test_named_inputs_of_batches_calibrate_in_the_order_of_the_example(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Linear(8, 4), nn.Linear(3, 4)

        def forward(self, wide: Tensor, narrow: Tensor) -> Tensor:
            return self.wide(wide) + self.narrow(narrow)

    batch = {"narrow": torch.randn(4, 3), "wide": torch.randn(4, 8)}
    bundle = sdk.export(
        Two().eval(),
        "host:native",
        example_inputs={"wide": torch.randn(1, 8), "narrow": torch.randn(1, 3)},
        methods=[sdk.methods.QAT(steps=1, activations="static", even_if_slower=True)],
        train=([(batch, None)], None),
        output=tmp_path / "m.edge",
    )
    assert len(bundle.manifest.quantized) == 2


class Tied(nn.Module):
    """A table that is the last layer's weight too, between a norm and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 32)
        self.norm = nn.LayerNorm(32)
        self.gru = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 64, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.norm(self.table(ids)))[0])


def test_every_constant_counts_once_in_the_form_that_the_file_holds() -> None:
    given = [(torch.randint(0, 64, (1, 12)),) for _ in range(4)]
    plan = plan_of(Tied(), given)
    biases, norm, matrices = 2 * 96, 2 * 32, 2 * 96 * 32
    whole = replace(plan, products=(), stored=(), tables={}, biases={})
    assert weight_bytes(whole) == 4 * (64 * 32 + matrices + biases + norm)
    small = 64 * 32 + 4 * 64 + matrices + 2 * 4 * 96 + 4 * (biases + norm)
    assert weight_bytes(plan) == small, "the table and the head are the same integers"
    assert (
        weight_bytes(replace(plan, stored=(), tables={})) == 4 * (64 * 32 + matrices + biases + norm) + 64 * 32 + 4 * 64
    )


def test_the_size_is_that_of_the_weights_in_the_file(tmp_path: Path) -> None:
    bundle = exported(tmp_path, Evaluate())
    in_file = (
        bundle.manifest.files["weights.bin"].bytes if "weights.bin" in bundle.manifest.files else bundle.file_bytes
    )
    size = bundle.manifest.tried[1].weight_bytes
    assert size <= in_file, f"{size} bytes of weights, {in_file} in the file"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((replace(WHOLE, chosen=True), SMALL), "more than one"),
        ((replace(WHOLE, weight_bytes=-1),), "-1 bytes"),
        ((replace(WHOLE, weight_bytes=1 << 70),), "bytes"),
        ((replace(WHOLE, quality=1.0),), "was not evaluated"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(rows: tuple[Tried, ...], said: str) -> None:
    from tests.test_report import manifest

    problems = contradictions(manifest(tried=rows), ())
    assert sum(said in problem for problem in problems) == 1


def test_bundles_of_older_schemas_have_nothing_that_was_tried(tmp_path: Path) -> None:
    from tests.test_report import manifest

    plain = json.loads(manifest(schema=f"{MAJOR}.{MINOR}", tried=(WHOLE, SMALL)).to_json())
    assert Manifest.from_json(json.dumps(plain).encode()).tried == (WHOLE, SMALL)
    rows = plain.pop("tried")
    assert Manifest.from_json(json.dumps({**plain, "schema": "1.2"}).encode()).tried == ()
    for change in ({"chosen": 1}, {"evaluated": "board"}, {"quality": "good"}, {"weight_bytes": 1.5}):
        with pytest.raises(BundleError, match="tried"):
            Manifest.from_json(json.dumps({**plain, "tried": [{**rows[0], **change}]}).encode())
