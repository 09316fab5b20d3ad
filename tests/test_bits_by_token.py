"""Bits of activations by the importance of tokens: which tokens keep all, what becomes of the others, on every target."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sdk
from device_profiles.errors import MethodError, OptionError
from edgewright_export.methods.quantization.attention import Site
from edgewright_export.methods.quantization.begin import Options, begin
from edgewright_export.methods.quantization.by_token import BitsByToken, ImportantTokens, importance
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.coverage import coverage
from edgewright_export.methods.quantization.graph import tapped
from edgewright_export.methods.quantization.plan import Plan, simulated
from edgewright_export.state import Example
from edgewright_runtime.bundle.manifest import QuantizedLayer

from .models import ViT, seeded
from .test_quantization import CONTEXT, drawn, state_of

pytestmark = pytest.mark.usefixtures("no_speed_asked")

IMAGE = (1, 3, 32, 32)


def plan_of(module: nn.Module, given: list[tuple[Tensor, ...]], share: float | None, **more: Any) -> Plan:
    """As QAT begins."""
    state = state_of(module, *given[0])
    options = Options.of(sdk.methods.QAT(important_tokens=share, **more))
    return begin(state, options, CONTEXT, calls(given, state.example))


def by_hand(query: Tensor, key: Tensor, allowed: Tensor, *, backward: bool) -> Tensor:
    """Importance, one token and one head after the other; ``allowed`` [queries, tokens]."""
    batch, heads, tokens, width = query.shape
    found = torch.zeros(batch, tokens)
    for b in range(batch):
        for h in range(heads):
            group = h * key.shape[1] // heads
            for t in range(tokens):
                asking, asked = (t, 0) if backward else (0, t)
                seen = [i for i in range(tokens) if allowed[asking, i]]
                weights = [math.exp(float(query[b, h, asking] @ key[b, group, i]) / math.sqrt(width)) for i in seen]
                if asked in seen:
                    found[b, t] += weights[seen.index(asked)] / sum(weights) / heads
    return found


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["all", "causal", "padded", "added"])
def test_importance_is_attention_of_or_to_the_first_token(kind, heads):
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 6, 8), torch.randn(2, heads, 6, 8)
    allowed = torch.ones(6, 6, dtype=torch.bool)
    if kind == "causal":
        allowed = allowed.tril()
    elif kind != "all":
        allowed[:, 4:] = False
    mask = {"padded": allowed[None, None], "added": torch.where(allowed, 0.0, -math.inf)[None, None]}.get(kind)
    site = Site("a", "q", "k", None if mask is None else "m", kind == "causal", None)
    found = importance(site, query, key, mask, backward=kind == "causal")
    torch.testing.assert_close(found, by_hand(query, key, allowed, backward=kind == "causal"), atol=1e-6, rtol=1e-5)


def test_tokens_that_matter_less_have_sixteen_values():
    torch.manual_seed(0)
    x = torch.randn(3, 7, 300)
    x[0, 1], x[1, 2], x[2, 3] = 0, 5, -1e-30
    important = (torch.rand(3, 7, 1) < 0.4).float()
    rounded = BitsByToken(on=True)(x, important)
    assert BitsByToken()(x, important) is x
    for was, now, keeps in zip(x.flatten(0, 1), rounded.flatten(0, 1), important.flatten().tolist(), strict=True):
        if keeps:
            assert torch.equal(was, now)
            continue
        span = float(max(was.max(), 0) - min(was.min(), 0))
        assert len(now.unique()) <= 16 and float((was - now).abs().max()) <= span / 30 * 1.001
        assert not was.any() or (now[was.abs() < span / 31] == 0).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_as_many_tokens_as_are_asked_for_keep_all_bits(share):
    module, given = seeded(ViT), drawn(*IMAGE, count=8)
    plan = plan_of(module, given, share)
    assert [by.share for by in plan.thresholds] == pytest.approx([share, share], abs=0.01)
    kept: list[Tensor] = []
    names = [n.name for n in plan.module.graph.nodes if isinstance(part_of(plan, n), ImportantTokens)]
    watched = tapped(plan.module, names, lambda _, value: kept.append(value))
    for (image,) in given:
        watched(image)
    assert len(names) == 2 and float(torch.cat(kept).mean()) == pytest.approx(share, abs=0.01)


def part_of(plan: Plan, node: Any) -> nn.Module | None:
    """The module that a node calls."""
    return plan.module.get_submodule(node.target) if node.op == "call_module" else None


def test_where_all_tokens_are_important_nothing_changes():
    module, given = seeded(ViT), drawn(*IMAGE)
    both = [simulated(plan_of(module, given, share)) for share in (None, 1.0)]
    with torch.no_grad():
        assert torch.equal(both[0](*given[1]), both[1](*given[1]))


def rows_of(plan: Plan, given: list[tuple[Tensor, ...]]) -> tuple[QuantizedLayer, ...]:
    """As the manifest has them."""
    example = Example(given[0], {}, "a test")
    return coverage(plan, calls(given, example), example)


def test_layers_behind_an_attention_read_tokens_so_and_say_it():
    module, given = seeded(ViT), drawn(*IMAGE)
    rows, full = ({r.path: r for r in rows_of(one, given)} for one in (plan_of(module, given, 0.5), plan_of(module, given, None)))
    some = {path for path, row in rows.items() if row.activations.endswith(", some tokens int4")}
    behind = {f"blocks.{block}.{layer}" for block in (0, 1) for layer in ("out", "mlp.0", "mlp.2")}
    assert some == {*behind, "blocks.1.qkv"}
    assert all(rows[path].sqnr_db < full[path].sqnr_db - 5 for path in some)
    assert all(rows[path].sqnr_db == full[path].sqnr_db for path in set(rows) - some)


def rounded_by(plan: Plan) -> dict[str, int]:
    """By the path of each layer that reads tokens so, the number of the attention that says which."""
    order = [by.site.name for by in plan.thresholds]
    nodes = {node.name: node for node in plan.module.graph.nodes}
    reads = {p.path: nodes[p.name].args[0] for p in plan.products}
    return {path: order.index(x.args[1].target.removesuffix("__important")) for path, x in reads.items() if x.op == "call_module"}


def test_layers_that_stay_float_read_their_tokens_as_they_are():
    module, given = seeded(ViT), drawn(*IMAGE)
    assert set(rounded_by(plan_of(module, given, 0.01, exclude=("blocks.0.*", "blocks.1.qkv")))) == {
        "blocks.1.out",
        "blocks.1.mlp.0",
        "blocks.1.mlp.2",
    }
    with pytest.raises(MethodError, match="important_tokens=0.5 changes nothing"):
        plan_of(module, given, 0.5, exclude=("blocks.*",))


class Attends(nn.Module):
    """One attention, of one value or of two."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor, other: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = [layer(y) for layer, y in ((self.q, x), (self.k, other), (self.v, other))]
        if self.heads:
            parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        attended = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        return x + self.out(attended.transpose(1, 2).flatten(2) if self.heads else attended)


class Towers(nn.Module):
    """Two inputs, each with two attentions of its own, then one that looks at the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.cross = nn.ModuleList([Attends(), Attends()]), nn.ModuleList([Attends(), Attends()]), Attends()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        for one, two in zip(self.a, self.b, strict=True):
            a, b = one(a, a), two(b, b)
        return self.cross(a, b)


def test_the_attention_that_a_value_came_from_says_which_tokens_matter():
    given = [(torch.randn(1, 6, 16), torch.randn(1, 6, 16)) for _ in range(4)]
    found = rounded_by(plan_of(seeded(Towers), given, 0.5))
    assert {path: at for path, at in found.items() if path.startswith(("a", "b"))} == {
        "a.0.out": 0, "a.1.q": 0, "a.1.k": 0, "a.1.v": 0, "a.1.out": 2,
        "b.0.out": 1, "b.1.q": 1, "b.1.k": 1, "b.1.v": 1, "b.1.out": 3,
    }  # fmt: skip
    assert {path: at for path, at in found.items() if path.startswith("cross")} == {
        "cross.q": 2, "cross.k": 3, "cross.v": 3, "cross.out": 3,
    }  # fmt: skip


class Views(nn.Module):
    """Three views of each sample, a part of the batch until their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.head = Attends(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        views = x.flatten(0, 1)
        return self.head(self.view(views, views).unflatten(0, (-1, 3)).mean(1))


@pytest.mark.parametrize("samples", [1, 2])
def test_tokens_of_another_batch_are_others(samples):
    given = [(torch.randn(samples, 3, 6, 16),) for _ in range(4)]
    plan = plan_of(seeded(Views), given, 0.5)
    assert set(rounded_by(plan)) == {"view.out"}
    assert simulated(plan)(*given[0]).shape == (samples, 6, 4)


def test_an_attention_without_heads_says_nothing():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attends, self.more = Attends(0), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.more(self.attends(x, x))

    with pytest.raises(MethodError, match="important_tokens=0.5 changes nothing"):
        plan_of(seeded(Whole), [(torch.randn(2, 6, 16),) for _ in range(2)], 0.5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_no_token(side, causal):
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attends, self.more = Attends(), nn.Linear(16, 16)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.more(self.attends(x, x, mask))

    def mask(real: int) -> Tensor:
        seen = torch.arange(8) < real if side == "right" else torch.arange(8) >= 8 - real
        allowed = seen.expand(8, 8)
        return (allowed & torch.ones(8, 8, dtype=torch.bool).tril() if causal else allowed)[None, None]

    given = [(torch.randn(1, 8, 16), mask(real)) for real in (1, 2, 3, 2)]
    (by,) = plan_of(seeded(Padded), given, 0.5).thresholds
    assert by.backward is causal
    if causal and side == "left":
        assert (by.least, by.share) == (0, 1), "nobody sees the first token"
    else:
        assert 0 < by.least < 1 and by.share == pytest.approx(0.5, abs=0.15)


class Causal(nn.Module):
    """Two blocks in which no token sees later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.qkv = nn.ModuleList([nn.Linear(16, 48) for _ in range(2)])
        self.out = nn.ModuleList([nn.Linear(16, 16) for _ in range(2)])

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for qkv, out in zip(self.qkv, self.out, strict=True):
            q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in qkv(x).chunk(3, -1))
            x = x + out(functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x


def test_where_no_token_sees_later_ones_bits_do_not_depend_on_them():
    module = seeded(Causal)
    given = [(torch.randint(20, (1, 12), generator=torch.Generator().manual_seed(i)),) for i in range(6)]
    plan = plan_of(module, given, 0.5)
    assert [by.backward for by in plan.thresholds] == [True, True]
    other = given[0][0].clone()
    other[:, 8:] = 3
    seen: list[Tensor] = []
    names = [n.name for n in plan.module.graph.nodes if isinstance(part_of(plan, n), ImportantTokens)]
    watched = tapped(plan.module, names, lambda _, value: seen.append(value))
    for tokens in (given[0][0], other):
        watched(tokens)
    assert len(seen) == 4 and all(torch.equal(a[:, :8], b[:, :8]) for a, b in zip(seen[:2], seen[2:], strict=True))


def test_tokens_that_matter_less_are_learned_from_too():
    module, given = seeded(ViT), drawn(*IMAGE)
    made = simulated(plan_of(module, given, 0.01))
    part = made.get_submodule("linear_1__integer")
    part.weight.requires_grad_()
    made(*given[1]).square().sum().backward()
    assert part.weight.grad is not None and float(part.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "executorch", "litert"])
def test_files_compute_what_is_simulated(engine, tmp_path):
    given = drawn(*IMAGE)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for (image,) in given:
            yield image, torch.tensor([1])

    bundle = sdk.export(
        seeded(ViT),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[sdk.methods.QAT(important_tokens=0.5, steps=2)],
        calibration=given,
        train=(batches, functional.cross_entropy),
        output=tmp_path / "m.edge",
    )
    rows = [row.activations for row in bundle.manifest.quantized]
    assert bundle.parity.snr_db > 60 and sum(row.endswith(", some tokens int4") for row in rows) == 7
    assert bundle.manifest.quantization["bits of tokens"].startswith("8 for 50 % of them (before training) behind")


def test_wrong_options_and_models_without_attention_are_refused():
    for options in ({"activations": "float"}, {"activation_bits": 4, "activations": "static"}, {"fixed_point": True}):
        with pytest.raises(OptionError, match="important_tokens needs activation_bits=8 on integers"):
            sdk.methods.QAT(important_tokens=0.5, **options)
    for share in (0, -0.1, 1.5, math.nan):
        with pytest.raises(OptionError, match="important_tokens .* is no share"):
            sdk.methods.QAT(important_tokens=share)
    x = torch.randn(2, 4)
    with pytest.raises(MethodError, match="important_tokens=0.5: no scaled_dot_product_attention whose"):
        sdk.export(
            nn.Linear(4, 2).eval(),
            "host:native",
            example_inputs=(x,),
            methods=[sdk.methods.QAT(important_tokens=0.5)],
            train=(lambda: iter([(x, torch.randn(2, 2))]), functional.mse_loss),
            output="never.edge",
        )
