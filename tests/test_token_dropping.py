"""Token dropping: the transformer is found, tokens go between its blocks, and come back where they are read."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from edgewright_export.methods.tokens.find import Transformer, find
from edgewright_export.methods.tokens.plan import Plan
from edgewright_export.methods.tokens.rows import narrow, take
from edgewright_export.methods.tokens.stream import attach
from edgewright_export.methods.tokens.view import Kept, Mixed, View
from edgewright_export.state import Example
from torch import Tensor, nn

from device_profiles import Finding

from . import reference_models
from .models import Block, MobileNetV1, ViT, seeded
from .reference_models.byte_lm.model import ByteLM, GatedFeedForward

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
    run(dropped(model, (x, mask), Nth(), (12, 6, 6), protected=(0, 11)), x, mask)
    module = dropped(model, (x, mask), noting, (10, 6, 6), protected=(0, 9))
    noting.seen.clear()
    strategy = next(iter(module.encoder.layer[0]._forward_hooks.values())).__self__._strategy
    run(module, x, mask)
    first, second = strategy.seen
    assert first.query.shape == first.key.shape == (2, 4, 12, 8) and second.query.shape == (2, 4, 10, 8)
    assert torch.equal(first.valid, mask.float()) and torch.equal(second.valid, mask[:, :10].float())
    assert first.protected.tolist() == [[1.0] + [0.0] * 8 + [1.0, 0.0, 0.0]] * 2
    assert second.protected.tolist() == [[1.0] + [0.0] * 8 + [1.0]] * 2
    assert second.position.tolist() == [list(map(float, range(10)))] * 2
    assert torch.equal(first.size, torch.ones(2, 12)) and not first.causal


@pytest.mark.parametrize("restore", [False, True])
def test_merged_twins_count_as_two(restore):
    """Without positions, two equal tokens that become one of size two change nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(16, 2) for _ in range(3))).eval()
    x = torch.randn(2, 9, 16)
    x[:, 4::2] = x[:, 3:8:2]
    got = run(dropped(model, (x,), Pairs(), (6, 6, 6), restore=restore), x)
    wanted = run(model, x)
    torch.testing.assert_close(got, wanted if restore else wanted[:, [0, 1, 2, 3, 5, 7]])


def test_merging_in_a_causal_model_stays_causal():
    model, x = tiny_lm(), ids(2, 20)
    module = dropped(model, (x,), Pairs(), (20, 14, 14, 14))
    changed = x.clone()
    changed[:, -2:] += 1
    torch.testing.assert_close(run(module, x)[:, :13], run(module, changed)[:, :13])
    assert not torch.allclose(run(module, x)[:, 13:], run(module, changed)[:, 13:])


def test_dropped_tokens_come_back_as_they_were():
    model, x = seeded(ViT), picture()
    model.head = nn.Identity()
    torch.manual_seed(0)
    blocks = nn.Sequential(*(Block(16, 2) for _ in range(3))).eval()
    h = torch.randn(2, 9, 16)
    got = run(dropped(blocks, (h,), Nth(), (5, 3, 3), restore=True), h)
    with torch.no_grad():
        first = blocks[0](h)
        second = blocks[1](first[:, ::2])
        last = blocks[2](second[:, ::2])
    wanted = first.clone()
    wanted[:, ::2] = second
    wanted[:, ::4] = last
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("strategy", [Nth(), Pairs()])
@pytest.mark.parametrize("restore", [False, True])
def test_no_image_sees_another(strategy, restore):
    model, x = seeded(ViT), picture(3)
    module = dropped(model, (x,), strategy, (11, 11), restore=restore)
    together = run(module, x)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], run(module, x[i : i + 1]))


def test_a_failed_run_leaves_nothing_behind():
    model, x = seeded(ViT), picture()
    module = dropped(model, (x,), Nth(), (9, 9))
    wanted = run(module, x)
    with pytest.raises(RuntimeError):
        run(module, picture(size=40))
    assert torch.equal(run(module, x), wanted)
