"""Recalibration: with ``train=`` a module with fewer tokens learns from the one with all of them."""

from __future__ import annotations

import copy
import logging
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import sdk
from edgewright_export.methods.token_dropping import TokenDropping
from edgewright_export.methods.tokens.find import find
from edgewright_export.methods.tokens.recalibrate import Reverse, recalibrate
from edgewright_export.state import Example, State
from edgewright_export.training.batches import given
from edgewright_export.training.distill import Distillation, divergence, outputs_apart, relative_error
from edgewright_export.training.loop import fit
from sdk.cli import main

from .models import MobileNetV1, ViT, seeded

DROPPING = {"keep": 0.4, "stages": 0}


def batches(count: int = 4, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, 32, 32, generator=draw), torch.randint(0, 10, (size,), generator=draw))
        for _ in range(count)
    ]


def exported(tmp_path, model: nn.Module, *, steps: int = 3, **options):
    method = TokenDropping(strategy="attention", recalibrate_steps=steps, **DROPPING)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return sdk.export(
        model, "host:onnxruntime", example_inputs=(x,), methods=[method], output=tmp_path / "m.edge", **options
    )


def student_of(model: nn.Module, strategy: str = "attention", **options):
    """The module with fewer tokens, not yet trained, and the transformer."""
    x = batches(1, 1)[0][0]
    found = find(model, Example((x,), {}, ""))
    method = TokenDropping(strategy=strategy, **DROPPING, **options)
    return method.apply(State(model, Example((x,), {}, ""), model), None).module, found


# What the user passes.


@pytest.mark.parametrize(
    ("train", "match"),
    [
        (5, r"train is a int; expected \(batches, loss\)"),
        (batches(3), "train is a list of 3; expected"),
        (batches(2), "batch|loss of train is a tuple of 2"),
        ((batches(), "cross-entropy"), "the loss of train is a str; expected"),
        ((7, cross_entropy), "the batches of train are a int; expected"),
        ((iter(batches()), cross_entropy), "a list_iterator, which can be read once"),
        (lambda module: None, "train is a function; expected"),
    ],
)
def test_what_is_no_training_is_refused_before_any_work(tmp_path, train, match):
    with pytest.raises(sdk.OptionError, match=match):
        exported(tmp_path, seeded(ViT), train=train)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("train", "error", "match"),
    [
        (([], cross_entropy), sdk.OptionError, "train holds no batch"),
        ((list, cross_entropy), sdk.OptionError, "train holds no batch"),
        (([torch.randn(8, 3, 32, 32)], cross_entropy), sdk.OptionError, "a batch of train is a Tensor"),
        (([("cat", 1)], cross_entropy), sdk.OptionError, "is a str; expected a tensor"),
        (([(torch.randn(8, 3, 40, 40), None)], None), sdk.MethodError, "ViT does not run on a batch of train"),
        ((batches(), lambda y, t: 0.5), sdk.MethodError, "the loss of train returns a float"),
        ((batches(), lambda y, t: y), sdk.MethodError, r"the loss of train returns shape \(8, 10\)"),
        ((batches(), lambda y, t: y.sum() * torch.nan), sdk.MethodError, "the loss is nan in step 1 of 3"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path, train, error, match):
    with pytest.raises(error, match=match):
        exported(tmp_path, seeded(ViT), train=train)
    assert not list(tmp_path.iterdir())


def test_the_command_line_reads_train(capsys):
    model = "tests.cli_model:build"
    with pytest.raises(SystemExit) as stop:
        main(["export", model, "--device", "host:onnxruntime", "--input-shape", "1,3,64,64", "--train", model])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and "OptionError: train is a " in error and len(error.splitlines()) == 1


def test_every_epoch_reads_all_batches_again():
    calls = []

    def epoch():
        calls.append(len(calls))
        yield from ((torch.full((1,), float(i)), None) for i in range(3))

    read = given((epoch, None)).endless()
    assert [next(read).args[0].item() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert calls == [0, 1, 2]


def test_named_inputs():
    batch = next(given(([({"x": torch.ones(2)}, 1)], None)).endless())
    assert batch.args == () and list(batch.kwargs) == ["x"] and batch.targets == 1


# The loop.


class Statistics(nn.Module):
    """What must not move, beside what learns."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.drop(self.norm(x)))


def trained(module: nn.Module, steps: int):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(32, 4, generator=draw) + 3
    data = given(([(x, x.sum(1, keepdim=True))], mse_loss))
    return fit([(module, 0.1)], data.endless(), lambda b: mse_loss(module(*b.args), b.targets), steps=steps)


def test_the_loss_falls_and_statistics_stay():
    module = seeded(Statistics)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    first, last = trained(module, steps=200)
    assert last < first / 10
    assert not module.training and module.norm.running_mean.abs().max() == 0 and module.norm.num_batches_tracked == 0
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


def test_a_single_step_learns():
    module = seeded(Statistics)
    before = module.linear.weight.clone()
    trained(module, steps=1)
    assert not torch.equal(module.linear.weight, before)


def test_training_again_gives_the_same_and_leaves_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    one, two = seeded(Statistics), seeded(Statistics)
    torch.manual_seed(5)
    assert trained(one, steps=5) == trained(two, steps=5)
    assert torch.equal(one.linear.weight, two.linear.weight) and torch.equal(torch.rand(1), wanted)


def test_each_step_is_reported():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("edgewright.progress")
    log.addHandler(handler)
    level, _ = log.level, log.setLevel(logging.INFO)
    try:
        trained(seeded(Statistics), steps=3)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert len(lines) == 3 and re.match(r"training: step 3 of 3, loss \d", lines[-1])


# Losses.


def test_equal_outputs_are_not_apart():
    for y in (torch.randn(3, 5), torch.randn(3), torch.randn(())):
        assert outputs_apart(y, y, torch.zeros(3, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)
    y = torch.randn(3, 5)
    for targets in (None, torch.zeros(3), torch.zeros(3, dtype=torch.int64)):
        assert outputs_apart((y,), (y,), targets).item() == pytest.approx(0, abs=1e-6)


def test_class_numbers_compare_distributions():
    ours, theirs, labels = torch.randn(3, 5), torch.randn(3, 5), torch.zeros(3, dtype=torch.int64)
    p, q = theirs.softmax(-1), ours.softmax(-1)
    wanted = (p * (p / q).log()).sum(-1).mean()
    assert torch.allclose(outputs_apart(ours, theirs, labels), wanted)
    assert torch.allclose(divergence(ours + 7, theirs), wanted)
    assert torch.allclose(outputs_apart(ours, theirs, None), relative_error(ours, theirs))


def test_an_error_has_no_unit():
    ours, theirs = torch.randn(4, 6), torch.randn(4, 6)
    assert torch.allclose(relative_error(1000 * ours, 1000 * theirs), relative_error(ours, theirs))
    assert relative_error(theirs.mean().expand(4, 6), theirs).item() == pytest.approx(1)
    assert relative_error(torch.tensor([[3.0]]), torch.tensor([[5.0]])).item() == 4


def test_outputs_of_another_shape_are_left_out():
    assert outputs_apart((torch.ones(2, 3), torch.ones(2)), (torch.ones(2, 5), torch.ones(2)), None).item() == 0


# Students.


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("attention", "transform")]


@pytest.mark.parametrize("strategy", ["merge", *SLOWER])
def test_the_student_comes_nearer_to_its_teacher(strategy):
    teacher = seeded(ViT)
    before = copy.deepcopy(teacher.state_dict())
    student, found = student_of(teacher, strategy)
    names = list(student.state_dict())
    train = given((batches(), None))
    x = torch.cat([x for x, _ in batches()])
    with torch.no_grad():
        apart = relative_error(student(x), teacher(x))
    first, last = recalibrate(student, teacher, found, train, left=7, steps=60)
    with torch.no_grad():
        assert last < 0.8 * first and relative_error(student(x), teacher(x)) < apart
    assert list(student.state_dict()) == names and not student.training
    assert all(torch.equal(teacher.state_dict()[key], value) for key, value in before.items())
    assert not any(m._forward_hooks for m in teacher.modules())


@pytest.mark.parametrize("strategy", ["attention", "merge"])
def test_every_parameter_gets_a_gradient_through_the_reduction(strategy):
    teacher = seeded(ViT)
    student, found = student_of(teacher, strategy)
    loss = Distillation(student, teacher, found.paths[-1], Reverse(32, 17), cross_entropy)
    loss(next(given((batches(), None)).endless())).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_restored_tokens_need_no_reverse():
    teacher = seeded(ViT)
    student, found = student_of(teacher, restore=True)
    first, last = recalibrate(student, teacher, found, given((batches(1), cross_entropy)), left=17, steps=20)
    assert last < first


# The export.


@pytest.mark.slow
def test_an_export_with_training(tmp_path):
    model = seeded(ViT)
    before = copy.deepcopy(model.state_dict())
    bundle = exported(tmp_path, model, train=(batches(), cross_entropy), steps=10)
    (line,) = [line for line in bundle.manifest.changes if "recalibrated" in line]
    assert re.search(r"recalibrated on 10 batches of train=, distillation loss \d\S* -> \d", line)
    assert bundle.manifest.model.parameters == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert {row.path for row in bundle.manifest.layers} == {"blocks.0", "blocks.1", ""}
    session = sdk.load(bundle.path)
    x = batches(1, 1)[0][0]
    assert session.run(x.numpy())["output"].shape == (1, 10)


def test_nothing_is_trained_without_train():
    model = seeded(ViT)
    student, _ = student_of(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), student.parameters(), strict=True))


def test_without_attention_there_is_nothing_to_train(tmp_path):
    with pytest.raises(sdk.MethodError, match="no attention was seen"):
        exported(tmp_path, seeded(MobileNetV1), train=(batches(), cross_entropy))


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None, "many"])
def test_steps_out_of_range(steps):
    with pytest.raises(sdk.OptionError, match="is no number of batches from 1"):
        TokenDropping(recalibrate_steps=steps)
