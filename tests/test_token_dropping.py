"""Token dropping: the transformer is found, tokens go between its blocks, and come back where they are read."""

from __future__ import annotations

import copy
import dataclasses
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

import sdk
from device_profiles import Finding
from edgewright_export.build import plain_method
from edgewright_export.capture import capture
from edgewright_export.methods.token_dropping import TokenDropping
from edgewright_export.methods.tokens.find import Transformer, find
from edgewright_export.methods.tokens.plan import Plan
from edgewright_export.methods.tokens.protect import checked, places, read_by_output
from edgewright_export.methods.tokens.rows import narrow, take
from edgewright_export.methods.tokens.schedule import schedule
from edgewright_export.methods.tokens.strategies import STRATEGIES
from edgewright_export.methods.tokens.stream import attach
from edgewright_export.methods.tokens.view import Kept, Merged, Mixed, View
from edgewright_export.parity import compare
from edgewright_export.state import Example, State
from edgewright_export.workload import workload_of
from sdk.cli.export import method_from

from . import reference_models
from .models import Block, MobileNetV1, ViT, seeded
from .reference_models.byte_lm.model import ByteLM, GatedFeedForward
from .reference_models.data import fashion_mnist

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
BERT = {**SIZES, "intermediate_size": 64, "vocab_size": 50}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_source_positions": 50,
    "num_mel_bins": 8,
    "vocab_size": 60,
    "pad_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "decoder_start_token_id": 1,
}


@dataclass(frozen=True)
class Nth:
    """Keeps tokens at even distances, the first one among them."""

    def reduce(self, view: View, count: int) -> Kept:
        tokens = view.hidden.shape[1]
        index = torch.arange(count) * (tokens - 1) // max(1, count - 1)
        return Kept(index.expand(view.hidden.shape[0], -1))


@dataclass(frozen=True)
class Pairs:
    """Merges the last tokens with their neighbours."""

    def reduce(self, view: View, count: int) -> Mixed:
        tokens = view.hidden.shape[1]
        pairs = tokens - count
        alone = tokens - 2 * pairs
        old = torch.arange(tokens)
        new = torch.where(old < alone, old, alone + (old - alone) // 2)
        return Mixed((new == torch.arange(count).unsqueeze(1)).float().expand(view.hidden.shape[0], -1, -1))


@dataclass(frozen=True)
class Into:
    """What ``Pairs`` does, said the shorter way."""

    def reduce(self, view: View, count: int) -> Merged:
        tokens = view.hidden.shape[1]
        alone = 2 * count - tokens
        pairs = torch.arange(alone, tokens, 2)
        stays = torch.cat([torch.arange(alone), pairs])
        batch = view.hidden.shape[0]
        return Merged(stays.expand(batch, -1), (pairs + 1).expand(batch, -1), pairs.expand(batch, -1))


def tiny_lm() -> nn.Module:
    torch.manual_seed(0)
    return ByteLM(lambda dim: GatedFeedForward(dim, 48, "silu"), dim=32, depth=4, head_dim=16, context=64).eval()


def of_transformers(name: str, config: str, options: dict[str, Any], **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**options), **more).eval()


def bert(**options: Any) -> nn.Module:
    return of_transformers("BertModel", "BertConfig", BERT | options)


def whisper() -> nn.Module:
    return of_transformers("WhisperModel", "WhisperConfig", WHISPER)


def ids(batch: int = 2, tokens: int = 12) -> Tensor:
    return torch.randint(0, 50, (batch, tokens), generator=torch.Generator().manual_seed(0))


def picture(batch: int = 2, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def dropped(module: nn.Module, args: tuple[Any, ...], strategy: Any, after: tuple[int, ...], **options: Any) -> Any:
    """The module with reductions in place, and its transformer."""
    found = find(module, Example(args, options.pop("kwargs", {}), ""))
    assert isinstance(found, Transformer)
    plan = Plan(found.tokens, after, options.pop("protected", ()), found.causal, options.pop("restore", False))
    module = copy.deepcopy(module)
    attach(module, found, plan, strategy)
    return module


def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with torch.no_grad():
        return module(*args, **kwargs)


# Finding.


FOUND = {
    "vit_fmnist": (lambda: reference_models.load("vit_fmnist"), lambda: (picture(1, 1, 28),), 6, 197, False),
    "byte_lm": (lambda: reference_models.load("byte_lm"), lambda: (ids(2, 40),), 6, 40, True),
    "byte_moe": (lambda: reference_models.load("byte_moe"), lambda: (ids(1, 40),), 4, 40, True),
    "vit": (
        lambda: of_transformers("ViTModel", "ViTConfig", {**SIZES, "image_size": 32, "patch_size": 8}),
        lambda: (picture(),),
        3,
        17,
        False,
    ),
    "dinov2": (
        lambda: of_transformers("Dinov2Model", "Dinov2Config", {**SIZES, "image_size": 32, "patch_size": 8}),
        lambda: (picture(),),
        3,
        17,
        False,
    ),
    "bert": (bert, lambda: (ids(),), 3, 12, False),
    "albert": (
        lambda: of_transformers("AlbertModel", "AlbertConfig", {**BERT, "embedding_size": 16}),
        lambda: (ids(),),
        3,
        12,
        False,
    ),
    "llama": (
        lambda: of_transformers("LlamaModel", "LlamaConfig", {**BERT, "num_key_value_heads": 2, "use_cache": False}),
        lambda: (ids(),),
        3,
        12,
        True,
    ),
    "whisper encoder": (lambda: whisper().encoder, lambda: (torch.randn(1, 8, 100),), 2, 50, False),
    "whisper": (whisper, lambda: (torch.randn(1, 8, 100), None, torch.ones(1, 5, dtype=torch.long)), 2, 50, False),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_transformer_is_found_by_its_attention(name):
    make, example, depth, tokens, causal = FOUND[name]
    found = find(make(), Example(example(), {}, ""))
    assert isinstance(found, Transformer), found
    assert (len(found.paths), found.tokens, found.causal) == (depth, tokens, causal)


def test_a_shared_block_is_called_again_and_again():
    make, example, *_ = FOUND["albert"]
    found = find(make(), Example(example(), {}, ""))
    assert found.paths == ("encoder.albert_layer_groups.0",) * 3


class Once(nn.Module):
    """A single block."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Crossing(nn.Module):
    """Attention to what is given, none to itself."""

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, given, given)


class Between(nn.Module):
    """Something happens to the hidden state between two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(16, 2), Block(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).flip(1))


def mha() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)


@pytest.mark.parametrize(
    ("make", "example", "where", "reason"),
    [
        (lambda: seeded(MobileNetV1), lambda: (picture(),), "", "no attention was seen"),
        (lambda: bert(attn_implementation="eager"), lambda: (ids(),), "encoder.layer.0.attention.self", "softmax"),
        (Crossing, lambda: (torch.randn(1, 4, 8), torch.randn(1, 6, 8)), "", "there is no self-attention"),
        (mha, lambda: (torch.randn(1, 8, 16),), "layers.0.self_attn", "inside torch.nn.MultiheadAttention"),
        (Once, lambda: (torch.randn(1, 8, 16),), "block", "self-attention, but 1 block that"),
        (Between, lambda: (torch.randn(1, 8, 16),), "second", "self-attention, but 2 blocks that"),
    ],
)
def test_what_is_there_instead_of_a_transformer(make, example, where, reason):
    found = find(make().eval(), Example(example(), {}, ""))
    assert isinstance(found, Finding)
    assert found.module_path.startswith(where) and reason in found.reason and found.fix


def test_finding_leaves_the_module_as_it_was():
    model, x = seeded(ViT), picture()
    before = run(model, x)
    find(model, Example((x,), {}, ""))
    assert torch.equal(run(model, x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# Rows.


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_of_each_image(batch):
    values = torch.randn(batch, 7, 4)
    index = torch.stack([torch.randperm(7)[:3].sort().values for _ in range(batch)])
    assert torch.equal(take(values, index), torch.stack([v[i] for v, i in zip(values, index, strict=True)]))


@pytest.mark.parametrize(
    ("shape", "narrowed"),
    [
        ((2, 1, 9, 9), (2, 1, 4, 4)),
        ((1, 1, 9, 9), (2, 1, 4, 4)),
        ((2, 1, 1, 9), (2, 1, 1, 4)),
        ((2, 9, 6), (2, 4, 6)),
        ((1, 9, 6), (2, 4, 6)),
        ((2, 9), (2, 4)),
        ((9, 6), (2, 1, 4, 6)),
        ((9,), (2, 4)),
        ((5, 6), (5, 6)),
        ((2, 3, 9, 6), (2, 3, 4, 6)),
    ],
)
def test_the_token_axes_of_masks_and_tables(shape, narrowed):
    values = torch.randn(shape)
    index = torch.tensor([[0, 2, 3, 8], [1, 4, 5, 6]])
    assert narrow(values, index, 9).shape == narrowed


@pytest.mark.parametrize("shape", [(9, 6), (9,), (1, 1, 9, 9), (1, 9, 6)])
def test_a_single_image_keeps_the_axes_as_they_are(shape):
    values, index = torch.randn(shape), torch.tensor([[0, 2, 3, 8]])
    assert narrow(values, index, 9).shape == tuple(4 if size == 9 else size for size in shape)


def test_a_mask_is_narrowed_on_both_sides():
    mask, index = torch.randn(2, 1, 9, 9), torch.tensor([[0, 2, 3, 8], [1, 4, 5, 6]])
    wanted = torch.stack([m[:, i][:, :, i] for m, i in zip(mask, index, strict=True)])
    assert torch.equal(narrow(mask, index, 9), wanted)


# Dropping.


def test_dropping_between_blocks_is_what_a_loop_would_do():
    model, x = seeded(ViT), picture()
    got = run(dropped(model, (x,), Nth(), (9, 9)), x)
    index = torch.arange(9) * 16 // 8
    with torch.no_grad():
        tokens = model.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([model.cls.expand(2, -1, -1), tokens], 1) + model.positions
        wanted = model.head(model.blocks[1](model.blocks[0](tokens)[:, index])[:, 0])
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("batch", [1, 3])
def test_rotary_tables_go_with_the_tokens(batch):
    model, x = tiny_lm(), ids(batch, 20)
    got = run(dropped(model, (x,), Nth(), (20, 12, 12, 6)), x)
    with torch.no_grad():
        h, places = model.embed(x), torch.arange(20)
        for layer, count in zip(model.layers, (20, 12, 12, 6), strict=True):
            h = layer(h, model.cos[places], model.sin[places])
            index = torch.arange(count) * (len(places) - 1) // (count - 1)
            h, places = h[:, index], places[index]
        wanted = model.head(model.norm(h))
    torch.testing.assert_close(got, wanted)


def test_masks_go_with_the_tokens():
    model, x = bert(), ids(2, 12)
    mask = (torch.arange(12) < torch.tensor([[12], [7]])).long()
    got = run(dropped(model, (x, mask), Nth(), (12, 6, 6)), x, mask).last_hidden_state
    index = torch.arange(6) * 11 // 5
    with torch.no_grad():
        h, seen = model.embeddings(x), mask.bool()[:, None, None]
        h = model.encoder.layer[1](model.encoder.layer[0](h, seen), seen)[:, index]
        wanted = model.encoder.layer[2](h, seen[..., index])
    torch.testing.assert_close(got, wanted)


@dataclass(frozen=True)
class Noting:
    """Keeps the first tokens and what it was shown."""

    seen: list[View]

    def reduce(self, view: View, count: int) -> Kept:
        self.seen.append(view)
        return Kept(torch.arange(count).expand(view.hidden.shape[0], -1))


def test_what_a_strategy_is_shown():
    model, x = bert(), ids(2, 12)
    mask = (torch.arange(12) < torch.tensor([[12], [7]])).long()
    noting = Noting([])
    run(dropped(model, (x, mask), noting, (10, 6, 6), protected=(0, 9)), x, mask)
    first, second = noting.seen
    assert first.query.shape == first.key.shape == (2, 4, 12, 8) and second.query.shape == (2, 4, 10, 8)
    assert torch.equal(first.valid, mask.float()) and torch.equal(second.valid, mask[:, :10].float())
    assert first.protected.tolist() == [[1.0] + [0.0] * 8 + [1.0, 0.0, 0.0]] * 2
    assert second.protected.tolist() == [[1.0] + [0.0] * 8 + [1.0]] * 2
    assert second.position.tolist() == [list(map(float, range(10)))] * 2
    assert torch.equal(first.size, torch.ones(2, 12)) and not first.causal


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("strategy", [Pairs(), Into()])
def test_merged_twins_count_as_two(strategy, restore):
    """Without positions, two equal tokens that become one of size two change nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(16, 2) for _ in range(3))).eval()
    x = torch.randn(2, 9, 16)
    x[:, 4::2] = x[:, 3:8:2]
    got = run(dropped(model, (x,), strategy, (6, 6, 6), restore=restore), x)
    wanted = run(model, x)
    torch.testing.assert_close(got, wanted if restore else wanted[:, [0, 1, 2, 3, 5, 7]])


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_ways_to_merge_agree(batch, restore):
    model, x = tiny_lm(), ids(batch, 20)
    both = [run(dropped(model, (x,), s, (15, 9, 9, 9), restore=restore), x) for s in (Pairs(), Into())]
    torch.testing.assert_close(*both)


def test_merging_in_a_causal_model_stays_causal():
    model, x = tiny_lm(), ids(2, 20)
    module = dropped(model, (x,), Pairs(), (20, 14, 14, 14))
    changed = x.clone()
    changed[:, -2:] += 1
    torch.testing.assert_close(run(module, x)[:, :13], run(module, changed)[:, :13])
    assert not torch.allclose(run(module, x)[:, 13:], run(module, changed)[:, 13:])


def test_dropped_tokens_come_back_with_the_mean_change_of_the_others():
    torch.manual_seed(0)
    blocks = nn.Sequential(*(Block(16, 2) for _ in range(3))).eval()
    h = torch.randn(2, 9, 16)
    got = run(dropped(blocks, (h,), Nth(), (5, 3, 3), restore=True), h)
    with torch.no_grad():
        first = blocks[0](h)
        second = blocks[1](first[:, ::2])
        last = blocks[2](second[:, ::2])
    middle = second + (last - second[:, ::2]).mean(1, keepdim=True)
    middle[:, ::2] = last
    wanted = first + (middle - first[:, ::2]).mean(1, keepdim=True)
    wanted[:, ::2] = middle
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("strategy", [Nth(), Pairs(), Into()])
@pytest.mark.parametrize("restore", [False, True])
def test_no_image_sees_another(strategy, restore):
    model, x = seeded(ViT), picture(3)
    module = dropped(model, (x,), strategy, (11, 11), restore=restore)
    together = run(module, x)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], run(module, x[i : i + 1]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_in_every_dtype(strategy, restore, dtype):
    model, x = seeded(ViT).to(dtype), picture().to(dtype)
    found = run(dropped(model, (x,), STRATEGIES[strategy].strategy(), (9, 9), restore=restore, protected=(0,)), x)
    assert found.dtype == dtype and found.isfinite().all()


def test_a_failed_run_leaves_nothing_behind():
    model, x = seeded(ViT), picture()
    module = dropped(model, (x,), Nth(), (9, 9))
    wanted = run(module, x)
    with pytest.raises(RuntimeError):
        run(module, picture(size=40))
    assert torch.equal(run(module, x), wanted)


# What stays.


def test_the_class_token_protects_itself():
    model, x = seeded(ViT), picture()
    example = Example((x,), {}, "")
    assert read_by_output(model, example, find(model, example)) == (0,)


def test_a_language_model_reads_every_token():
    model, example = tiny_lm(), Example((ids(1, 20),), {}, "")
    assert read_by_output(model, example, find(model, example)) == ()


class Best(ViT):
    """Answers with a class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(-1)


class Closed(ViT):
    """Turns gradients off."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize("kind", [Best, Closed])
def test_an_answer_without_gradient_has_to_be_told(kind):
    state = state_of(seeded(kind), picture())
    (found,) = checked_by(TokenDropping(), state)
    assert "no gradient leads from the output" in found.reason and "protect=1" in found.fix
    assert checked_by(TokenDropping(protect=1), state) == []


@pytest.mark.parametrize(
    ("protect", "named"),
    [
        (0, ()),
        (3, (0, 1, 2)),
        ((0, -1), (0, 9)),
        ((), ()),
        (slice(-3, None), (7, 8, 9)),
        ("-3:", (7, 8, 9)),
        ("2:4", (2, 3)),
        (":", tuple(range(10))),
        ((10,), None),
        (11, None),
        ((-11,), None),
    ],
)
def test_places_by_name(protect, named):
    assert places(checked(protect), 10) == named


@pytest.mark.parametrize(
    ("tokens", "depth", "keep", "stages", "after"),
    [
        (197, 6, 0.5, (0, 1, 2), (156, 124, 98, 98, 98, 98)),
        (197, 6, 1.0, (0, 1, 2), (197,) * 6),
        (10, 3, 0.01, (1,), (10, 1, 1)),
        (64, 4, 0.25, (0, 2), (32, 32, 16, 16)),
    ],
)
def test_each_stage_keeps_the_same_share(tokens, depth, keep, stages, after):
    assert schedule(tokens, depth, keep, stages) == after


# The method.


def state_of(module: nn.Module, *args: Any, **kwargs: Any) -> State:
    return State(module, Example(args, kwargs, ""), module)


def checked_by(method: TokenDropping, state: State) -> list[Finding]:
    return method.check(state, None)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": 0}, r"keep 0 is neither in \(0, 1\] nor 'auto'"),
        ({"keep": 1.01}, "keep 1.01 is neither in"),
        ({"keep": -0.5}, "keep -0.5 is neither in"),
        ({"keep": float("nan")}, "keep nan is neither in"),
        ({"keep": True}, "keep True is neither in"),
        ({"keep": "half"}, "keep 'half' is neither in"),
        ({"strategy": "merg"}, "strategy 'merg' is none of merge, transform"),
        ({"strategy": ["merge"]}, "is none of"),
        ({"stages": ()}, r"stages \(\) are not block numbers"),
        ({"stages": (2, 1)}, "are not block numbers"),
        ({"stages": (-1,)}, "are not block numbers"),
        ({"stages": (1, 1)}, "are not block numbers"),
        ({"stages": -2}, "are not block numbers"),
        ({"stages": "2"}, "are not block numbers"),
        ({"stages": (1.0,)}, "are not block numbers"),
        ({"restore": "maybe"}, "restore 'maybe' is neither"),
        ({"restore": 1}, "restore 1 is neither"),
        ({"protect": -1}, "protect is -1; expected 'auto'"),
        ({"protect": "all"}, "protect is 'all'"),
        ({"protect": "1:2:3"}, "protect is '1:2:3'"),
        ({"protect": (0.5,)}, "protect is"),
        ({"protect": slice(0, 9, 2)}, "protect is slice"),
        ({"protect": True}, "protect is True"),
        ({"keep": 2, "strategy": "x"}, "strategy 'x' is none of .*; keep 2 is neither in"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(sdk.OptionError, match=match):
        TokenDropping(**options)


@pytest.mark.parametrize(
    ("make", "args", "options", "match"),
    [
        (lambda: seeded(MobileNetV1), lambda: (picture(),), {}, "no attention was seen"),
        (lambda: seeded(ViT), lambda: (picture(),), {"keep": 0.5, "protect": 10}, "leaves 8 of 17 tokens, but 10 are"),
        (lambda: seeded(ViT), lambda: (picture(),), {"protect": 18}, "protect=18, but there are 17 tokens"),
        (lambda: seeded(ViT), lambda: (picture(),), {"protect": (-18,)}, "but there are 17 tokens"),
        (lambda: seeded(ViT), lambda: (picture(),), {"stages": (1,)}, "tokens can go behind blocks 0 to 0"),
    ],
)
def test_what_does_not_fit_the_model(make, args, options, match):
    (found,) = checked_by(TokenDropping(**options), state_of(make(), *args()))
    assert re.search(match, found.reason) and found.fix


def test_an_exported_program_has_no_blocks():
    model, x = seeded(ViT), picture(1)
    state = dataclasses.replace(state_of(model, x), captured=capture(model, Example((x,), {}, "")))
    (found,) = checked_by(TokenDropping(), state)
    assert "exported program" in found.reason


class Table(nn.Module):
    """Blocks that know a table of all positions."""

    class Own(Block):
        def __init__(self) -> None:
            super().__init__(16, 2)
            self.place = nn.Parameter(torch.randn(9, 16))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + self.place)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(16, 2), Table.Own())

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def test_a_block_with_a_table_of_its_own_is_named():
    (found,) = checked_by(TokenDropping(keep=0.5), state_of(Table().eval(), torch.randn(1, 9, 16)))
    assert found.module_path == "blocks.1" and "with fewer tokens it fails" in found.reason


@pytest.mark.parametrize(("restore", "length"), [("auto", 20), (True, 20), (False, 10)])
def test_tokens_come_back_where_the_output_has_them(restore, length):
    model, x = tiny_lm(), ids(1, 20)
    method = TokenDropping(strategy="query", keep=0.5, protect="-4:", restore=restore)
    state = method.apply(state_of(model, x), None)
    assert run(state.module, x).shape == (1, length, 256)
    assert ("all restored" in state.changes[0]) == (length == 20)


def test_a_class_token_needs_no_others():
    state = TokenDropping(strategy="attention", keep=0.5).apply(state_of(seeded(ViT), picture(1)), None)
    assert "restored" not in state.changes[0] and "1 protected" in state.changes[0]


def test_all_tokens_kept_change_nothing():
    model, x = seeded(ViT), picture()
    assert torch.equal(run(TokenDropping(keep=1.0).apply(state_of(model, x), None).module, x), run(model, x))


def test_the_account_of_each_layer():
    model, x = seeded(ViT), picture(1)
    state = TokenDropping(strategy="attention", keep=0.5, stages=(0,)).apply(state_of(model, x), None)
    before, after = (workload_of(capture(m, state.example).program).macs for m in (model, state.module))
    assert f"MACs {before:,} -> {after:,} (" in state.changes[0]
    first, second, rest = state.layers
    assert (first.path, first.tokens_before, first.tokens_after) == ("blocks.0", 17, 17)
    assert (second.path, second.tokens_before, second.tokens_after) == ("blocks.1", 17, 8)
    assert rest.path == "" and rest.tokens_after is None
    dim, mlp = 32, 64
    macs = [n * dim * (4 * dim + 2 * mlp) + 2 * n * n * dim for n in (17, 8)]
    assert [second.macs_before, second.macs_after] == macs and first.macs_before == macs[0]
    assert sum(row.macs_before for row in state.layers) == before
    assert sum(row.macs_after for row in state.layers) == after


@pytest.mark.parametrize("name", ["vit", "byte_lm", "bert"])
def test_the_foretold_workload_is_the_one_that_comes(name):
    make, args = {
        "vit": (lambda: seeded(ViT), (picture(1),)),
        "byte_lm": (tiny_lm, (ids(1, 20),)),
        "bert": (bert, (ids(1, 12),)),
    }[name]
    method, state = TokenDropping(strategy="attention", keep=0.5, stages=(0,)), state_of(make(), *args)
    now = workload_of(capture(state.module, state.example).program)
    foretold = method.effect(now, None)
    done = method.apply(state, None)
    later = done.layers[1:-1]
    got = [sum(op.macs for op in foretold.ops if f"{op.module_path}.".startswith(f"{row.path}.")) for row in later]
    assert got == [row.macs_after for row in later] and foretold.macs < now.macs


def test_a_workload_without_a_stack_is_left_alone():
    now = workload_of(capture(seeded(MobileNetV1), Example((picture(1, 3, 64),), {}, "")).program)
    assert TokenDropping().effect(now, None) == now


def test_parameters_keep_their_names_and_values():
    model, x = seeded(ViT), picture(1)
    state = TokenDropping(keep=0.5).apply(state_of(model, x), None)
    was, now = model.state_dict(), state.module.state_dict()
    assert list(was) == list(now) and all(torch.equal(was[key], now[key]) for key in was)
    assert not any(m._forward_hooks for m in model.modules())


def test_the_recipe_in_the_manifest():
    method = TokenDropping(strategy="query", keep=1, stages=[1, 2], protect=slice(-4, None))
    assert plain_method(method) == {
        "name": "token-dropping",
        "strategy": "query",
        "keep": 1.0,
        "stages": [1, 2],
        "protect": "-4:",
        "restore": "auto",
        "recalibrate_steps": 1000,
    }


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("token-dropping", TokenDropping()),
        ("token-dropping:strategy=attention,keep=0.5", TokenDropping(strategy="attention", keep=0.5)),
        ("token-dropping:keep=1,stages=1+3,protect=-20:", TokenDropping(keep=1, stages=(1, 3), protect="-20:")),
        ("token-dropping:stages=2,restore=true,protect=1", TokenDropping(stages=(2,), restore=True, protect=1)),
    ],
)
def test_methods_of_the_command_line(text, method):
    assert method_from(text) == method


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tokendropping", "no such edge method; there are: ptq, qat, token-dropping"),
        ("token-dropping:kep=0.5", "'kep=0.5' is not option=value; options are: strategy, keep"),
        ("token-dropping:keep", "'keep' is not option=value"),
        ("token-dropping:,", "'' is not option=value"),
    ],
)
def test_methods_that_the_command_line_does_not_know(text, match):
    with pytest.raises(click.UsageError, match=match):
        method_from(text)


def test_torch_is_loaded_with_the_first_method_alone():
    code = "import sys, sdk.methods; print('torch' in sys.modules); sdk.methods.TokenDropping; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# In the engines.


class Twins(nn.Module):
    """Equal patches stay equal in every block: there are no positions; the output has every token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, 4, 4)
        self.blocks = nn.Sequential(*(Block(32, 4) for _ in range(3)))

    def forward(self, image: Tensor) -> Tensor:
        return self.blocks(self.patch(image).flatten(2).transpose(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnxruntime", "executorch", "litert"])
@pytest.mark.parametrize("strategy", ["attention", "merge", "transform"])
def test_every_engine_agrees_with_the_module(engine, strategy, tmp_path):
    model, method = reference_models.load("vit_fmnist"), TokenDropping(strategy=strategy, keep=0.5)
    images = fashion_mnist.pixels(fashion_mnist.load().test_x[:20])
    bundle = sdk.export(
        model, f"host:{engine}", example_inputs=(images[:1],), methods=[method], output=tmp_path / "v.edge"
    )
    assert bundle.parity.snr_db >= 80 and bundle.methods == ("token-dropping",)
    (row,) = [row for row in bundle.manifest.layers if row.path == "blocks.5"]
    assert (row.tokens_before, row.tokens_after) == (197, 98) and row.macs_after < 0.5 * row.macs_before
    wanted = run(method.apply(state_of(model, images[:1]), None).module, images).numpy()
    with sdk.load(bundle.path) as session:
        got = np.concatenate([session.run(image[None].numpy())["output"] for image in images])
    assert compare("", wanted, got).snr_db >= 80


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnxruntime", "executorch", "litert"])
def test_equal_patches_go_by_position_in_every_engine(engine, tmp_path):
    """Two kinds of patches, all of one kind stay and some of the other.

    A dropped token comes back with the mean change of both kinds, a kept one with its own, so the output tells which
    ones were kept.
    """
    dark = torch.arange(49).remainder(2) == 0
    patches = torch.where(dark, 0.3, 0.9).reshape(7, 7)
    model, image = seeded(Twins), patches.repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None]
    method = TokenDropping(strategy="query", keep=31 / 49, stages=(0,), protect=0, restore=True)
    kept = run(method.apply(state_of(model, image), None).module, image)[0]
    alike = [(kept[kind] - kept[kind][0]).abs().amax(-1) < 1e-4 for kind in (dark, ~dark)]
    some, every = sorted(alike, key=lambda row: bool(row.all()))
    stay = 31 - len(every)
    assert every.all() and some.tolist() == [True] * stay + [False] * (len(some) - stay)
    bundle = sdk.export(model, f"host:{engine}", example_inputs=(image,), methods=[method], output=tmp_path / "t.edge")
    with sdk.load(bundle.path) as session:
        np.testing.assert_allclose(session.run(image.numpy())["output"][0], kept.numpy(), atol=1e-4)
