"""Token dropping: which tokens stay, against plain loops; what every strategy must keep to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

from edgewright_export.methods.tokens import select
from edgewright_export.methods.tokens.attended import attended, attended_by_protected, standing_out
from edgewright_export.methods.tokens.strategies import STRATEGIES, Stages
from edgewright_export.methods.tokens.strategies.merge import Merge
from edgewright_export.methods.tokens.strategies.partition import Partition
from edgewright_export.methods.tokens.strategies.query import Query
from edgewright_export.methods.tokens.strategies.rows import Rows
from edgewright_export.methods.tokens.strategies.transform import Transform
from edgewright_export.methods.tokens.view import Kept, Merged, Mixed, Reduction, Strategy, View

FORBIDDEN = ("sort", "nonzero", "cumsum", "multinomial")
NUMBERS = some.floats(width=32) | some.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])
EVERY = pytest.mark.parametrize("strategy", [row.strategy() for row in STRATEGIES.values()], ids=list(STRATEGIES))


def oracle(scores: list[float], count: int, valid: list[int], protected: list[int]) -> list[int]:
    """Takes the best of what is left, ``count`` times; of those that are equal when rounded the first."""
    left, kept = list(range(len(scores))), []
    for _ in range(count):
        place = left[0]
        for other in left[1:]:
            if _before(other, place, scores, valid, protected):
                place = other
        left.remove(place)
        kept.append(place)
    return sorted(kept)


def _before(a: int, b: int, scores: list[float], valid: list[int], protected: list[int]) -> bool:
    def key(place: int) -> tuple[int, float]:
        score = min(max(scores[place], 1e-30), 1e30) if scores[place] > 0 else 1e-30
        return (2, 0) if protected[place] else (1, _rounded(score, len(scores))) if valid[place] else (0, 0)

    return key(a) > key(b)


def _rounded(score: float, tokens: int) -> float:
    """By splitting, in single precision."""
    single = numpy.float32(score)
    scaled = single * numpy.float32(2 ** math.ceil(math.log2(2 * tokens)) + 1)
    return float(scaled - (scaled - single))


@some.composite
def choices(draw: some.DrawFn) -> tuple[list[float], int, list[int], list[int]]:
    tokens = draw(some.integers(1, 24))
    bits = some.lists(some.integers(0, 1), min_size=tokens, max_size=tokens)
    scores = draw(some.lists(NUMBERS | some.integers(-2, 2).map(float), min_size=tokens, max_size=tokens))
    return scores, draw(some.integers(1, tokens)), draw(bits), draw(bits)


@settings(max_examples=150, deadline=None)
@given(choices())
def test_the_best_are_those_of_plain_loops(choice: tuple[list[float], int, list[int], list[int]]) -> None:
    scores, count, valid, protected = choice
    got = select.best(row(scores), count, row(valid), row(protected))
    assert got.tolist() == [oracle(scores, count, valid, protected)]


def row(values: list[float] | list[int]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


@settings(max_examples=150, deadline=None)
@given(choices())
def test_no_two_scores_are_equal(choice: tuple[list[float], int, list[int], list[int]]) -> None:
    scores, _, valid, protected = choice
    assert len(set(select.distinct(row(scores), row(valid), row(protected))[0].tolist())) == len(scores)


@pytest.mark.parametrize("tokens", [2, 197, 1370, 4096])
@pytest.mark.parametrize("score", [0.0, 1.0, 1.9999999, 0.1, 3e38])
def test_equal_scores_go_by_position(tokens: int, score: float) -> None:
    found = select.distinct(torch.full((1, tokens), score))[0]
    assert (found[1:] < found[:-1]).all()
    assert select.best(torch.full((1, tokens), score), tokens // 2, None, None).tolist() == [list(range(tokens // 2))]


def test_scores_one_in_ten_thousand_apart_are_told_apart() -> None:
    scores = 0.3 * 1.0001 ** torch.arange(197.0).unsqueeze(0)
    assert select.from_best(scores, 197).tolist() == [list(range(196, -1, -1))]


def test_one_hot_points_where_the_index_does() -> None:
    index = torch.tensor([[0, 2, 4], [1, 2, 3]])
    assert torch.equal(select.one_hot(index, 5), torch.eye(5)[index])


def view(batch: int = 2, tokens: int = 12, padding: int = 0, protected: int = 1, seed: int = 0) -> View:
    """Random tokens, of which the last ``padding`` are such in the first item."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(tokens).float().expand(batch, tokens)
    valid = torch.ones(batch, tokens)
    valid[0, tokens - padding :] = 0
    query, key = torch.randn(2, batch, 2, tokens, 4, generator=generator)
    return View(
        hidden=torch.randn(batch, tokens, 8, generator=generator),
        query=query,
        key=key,
        size=torch.randint(1, 3, (batch, tokens), generator=generator).float(),
        valid=valid if padding else None,
        protected=(place < protected).float(),
        position=place,
        whole=tokens,
        causal=False,
        held=protected,
        leading=True,
    )


def part_of(whole: View, item: slice) -> View:
    fields = {name: value[item] for name, value in vars(whole).items() if isinstance(value, Tensor)}
    return replace(whole, **fields)


def matrix(reduction: Reduction, tokens: int) -> Tensor:
    """[batch, new, old], whichever way it is said."""
    if isinstance(reduction, Merged):
        into = (reduction.stays.unsqueeze(-1) == reduction.into.unsqueeze(1)).float()
        return select.one_hot(reduction.stays, tokens) + into @ select.one_hot(reduction.gone, tokens)
    return reduction.weight if isinstance(reduction, Mixed) else select.one_hot(reduction.index, tokens)


@EVERY
@pytest.mark.parametrize("tokens, count", [(12, 12), (12, 7), (12, 3), (13, 6), (5, 2), (2, 1), (197, 98)])
@pytest.mark.parametrize("protected", [0, 1])
def test_as_many_as_wanted_and_protected_ones_unmixed(
    strategy: Strategy, tokens: int, count: int, protected: int
) -> None:
    weight = matrix(strategy.reduce(view(tokens=tokens, protected=protected), count), tokens)
    assert weight.shape == (2, count, tokens)
    assert (weight >= 0).all() and (weight.sum(-1) > 0).all()
    if count > protected:
        assert torch.equal(weight[:, :protected], torch.eye(tokens)[:protected].expand(2, -1, -1))
    if isinstance(strategy, Merge | Transform) and count > protected:
        torch.testing.assert_close(weight.sum(1), torch.ones(2, tokens))


@EVERY
def test_all_of_them_change_nothing(strategy: Strategy) -> None:
    assert torch.equal(matrix(strategy.reduce(view(), 12), 12), torch.eye(12).expand(2, -1, -1))


@EVERY
def test_kept_tokens_keep_their_order(strategy: Strategy) -> None:
    reduction = strategy.reduce(view(tokens=40), 15)
    if isinstance(reduction, Kept):
        assert (reduction.index.diff(dim=-1) > 0).all()


@EVERY
@pytest.mark.parametrize("padding", [1, 5, 9])
def test_padding_goes_first_and_never_mixes_with_what_is_real(strategy: Strategy, padding: int) -> None:
    tokens, count = 12, 6
    seen = view(tokens=tokens, padding=padding)
    assert seen.valid is not None
    weight = matrix(strategy.reduce(seen, count), tokens)
    real, padded = weight @ seen.valid.unsqueeze(-1), weight @ (1 - seen.valid).unsqueeze(-1)
    assert not ((real > 0) & (padded > 0)).any()
    if not isinstance(strategy, Merge):
        assert (real[0] > 0).sum() == min(count, tokens - padding)


@EVERY
@pytest.mark.parametrize("broken", ["hidden", "query", "key"])
def test_no_item_of_a_batch_reaches_another(strategy: Strategy, broken: str) -> None:
    whole = view(batch=3, tokens=30)
    getattr(whole, broken)[1] = math.nan
    together = matrix(strategy.reduce(whole, 11), 30)
    for item in (0, 2):
        alone = matrix(strategy.reduce(part_of(whole, slice(item, item + 1)), 11), 30)
        torch.testing.assert_close(alone[0], together[item])
        assert together[item].isfinite().all() and (together[item].sum(-1) > 0).all()
    if not isinstance(strategy, Transform):
        assert together[1].isfinite().all() and (together[1].sum(-1) > 0).all()


@EVERY
def test_equal_tokens_go_by_position(strategy: Strategy) -> None:
    seen = view(tokens=10, protected=0)
    alike = replace(seen, query=seen.query[:, :, :1].expand_as(seen.query), key=seen.key[:, :, :1].expand_as(seen.key))
    alike = replace(alike, hidden=seen.hidden[:, :1].expand_as(seen.hidden), size=torch.ones(2, 10))
    reduction = strategy.reduce(alike, 8)
    if isinstance(reduction, Kept) and not isinstance(strategy, (Partition, Rows)):
        assert reduction.index.tolist() == [list(range(8))] * 2
    if isinstance(strategy, Merge):
        assert matrix(reduction, 10)[0].argmax(-1).tolist() == [0, 1, 2, 3, 4, 5, 7, 9]


@pytest.mark.parametrize("tokens, count, protected", [(13, 9, 1), (14, 7, 1), (14, 5, 0), (20, 12, 3)])
@pytest.mark.parametrize("leading", [False, True])
def test_merging_is_that_of_plain_loops(tokens: int, count: int, protected: int, leading: bool) -> None:
    seen = replace(view(batch=1, tokens=tokens, protected=protected), leading=leading)
    keys = torch.cat([seen.key[0, head] for head in range(seen.key.shape[1])], -1)
    token, key = (torch.nn.functional.normalize(values, dim=-1) for values in (seen.hidden[0], keys))
    stride = 2
    while tokens // stride > count - protected:
        stride += 1
    staying = [place for place in range(tokens) if place % stride == stride - 1]
    pairs = []
    for a in sorted(set(range(tokens)) - set(staying)):
        free = {b: float(key[a] @ key[b] + token[a] @ token[b]) for b in staying if b >= protected and a >= protected}
        if free:
            nearest = max(free, key=lambda b: free[b])
            pairs.append((free[nearest], a, nearest))
    groups = {place: {place} for place in range(tokens)}
    for _, a, b in sorted(pairs, reverse=True)[: tokens - count]:
        groups[b] |= groups.pop(a)
    wanted = [[float(old in groups[own]) for old in range(tokens)] for own in sorted(groups)]
    assert matrix(Merge().reduce(seen, count), tokens).tolist() == [wanted]


def test_budgets_of_parts_are_those_of_plain_loops() -> None:
    tokens, parts, count = 20, 4, 9
    seen = view(batch=1, tokens=tokens, protected=0)
    share = attended_by_protected(seen)[0].unflatten(0, (parts, -1)).sum(-1).tolist()
    seats = [0] * parts
    for _ in range(count):
        open_ = [part for part in range(parts) if seats[part] < tokens // parts]
        seats[max(open_, key=lambda part: share[part] / (2 * seats[part] + 1))] += 1
    reduction = Partition(parts).reduce(seen, count)
    assert isinstance(reduction, Kept)
    assert torch.bincount(reduction.index[0] // (tokens // parts), minlength=parts).tolist() == seats


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("leading", [False, True])
@pytest.mark.parametrize("protected", [1, 3])
def test_protected_tokens_ask_as_the_block_does(protected: int, leading: bool, causal: bool) -> None:
    """Found by their marks, or, where they are known to be the first, cut off."""
    seen = replace(view(tokens=9, padding=3, protected=protected), leading=leading, causal=causal)
    assert seen.valid is not None
    score = seen.query @ seen.key.mT / 2 + seen.size.log()[:, None, None]
    score = score.masked_fill(seen.valid[:, None, None] == 0, -math.inf)
    score = score.masked_fill(torch.ones(9, 9).triu(1) == 1, -math.inf) if causal else score
    wanted = score.softmax(-1)[:, :, :protected].mean((1, 2))
    torch.testing.assert_close(attended_by_protected(seen), wanted)


def test_without_protected_tokens_the_last_real_one_is_the_question() -> None:
    seen = view(tokens=9, padding=3, protected=0)
    assert seen.valid is not None
    last = select.one_hot(torch.tensor([[5], [8]]), 9)
    kept = select.best(attended(seen, last), 4, seen.valid, seen.protected)
    assert torch.equal(matrix(Query().reduce(seen, 4), 9), select.one_hot(kept, 9))


@pytest.mark.parametrize("reach, wanted", [(0, [2, 3]), (1, [2, 7])])
def test_tokens_stand_out_from_those_beside_them(reach: int, wanted: list[int]) -> None:
    seen = view(batch=1, tokens=9, protected=0)
    score = row([0.0, 0.0, 8.0, 9.0, 7.0, 0.0, 0.0, 1.0, 0.0])
    assert select.best(standing_out(seen, score, reach), 2, None, None).tolist() == [wanted]


def test_rows_stay_whole_but_for_the_last() -> None:
    seen = view(tokens=17, protected=1)
    score = attended_by_protected(seen)[0, 1:].reshape(4, 4).sum(-1)
    first, second, third = score.argsort(descending=True)[:3].tolist()
    kept = Rows().reduce(seen, 1 + 4 + 4 + 2).index[0].tolist()
    wanted = [*range(4 * first, 4 * first + 4), *range(4 * second, 4 * second + 4), 4 * third, 4 * third + 1]
    assert kept == [0, *sorted(place + 1 for place in wanted)]


@pytest.mark.parametrize("rule", [row.stages for row in STRATEGIES.values()], ids=list(STRATEGIES))
def test_stages_are_blocks_before_the_last_ascending(rule: Stages) -> None:
    for blocks in range(2, 49):
        stages = rule(blocks)
        assert stages and list(stages) == sorted(set(stages))
        assert stages[0] >= 0 and stages[-1] < blocks - 1


@EVERY
def test_half_precision(strategy: Strategy) -> None:
    seen = view(tokens=20)
    half = {name: value.half() for name, value in vars(seen).items() if isinstance(value, Tensor)}
    weight = matrix(strategy.reduce(replace(seen, **half), 9), 20)
    assert weight.shape == (2, 9, 20) and weight.isfinite().all() and (weight[:, 0, 0] == 1).all()


class Reducing(nn.Module):
    """A strategy as it stands in a model."""

    def __init__(self, strategy: Strategy, count: int, held: int) -> None:
        super().__init__()
        self.strategy, self.count, self.held = strategy, count, held

    def forward(self, hidden: Tensor, query: Tensor, key: Tensor, size: Tensor, rest: list[Tensor]) -> Tensor:
        seen = View(hidden, query, key, size, rest[0], rest[1], rest[2], hidden.shape[1], causal=False, held=self.held, leading=True)
        return matrix(self.strategy.reduce(seen, self.count), hidden.shape[1])


@EVERY
@pytest.mark.parametrize("padding", [0, 4])
def test_it_exports_without_operators_that_engines_lack(strategy: Strategy, padding: int) -> None:
    seen = view(tokens=20, padding=padding)
    valid = seen.valid if padding else torch.ones(2, 20)
    inputs = (seen.hidden, seen.query, seen.key, seen.size, [valid, seen.protected, seen.position])
    module = Reducing(strategy, 9, seen.held)
    program = torch.export.export(module, inputs, strict=False)
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not [name for name in names if any(word in name for word in FORBIDDEN)]
    other = view(tokens=20, padding=padding, seed=1)
    valid = other.valid if padding else torch.ones(2, 20)
    inputs = (other.hidden, other.query, other.key, other.size, [valid, other.protected, other.position])
    assert torch.equal(program.module()(*inputs), module(*inputs))
