"""Channels that are scaled between layers, and weights of convolutions that make up for the error of others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sdk
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.columns import columns
from edgewright_export.methods.quantization.graph import CONVOLUTIONS, float_graph, tensor_at
from edgewright_export.methods.quantization.sites import products
from edgewright_export.methods.quantization.smooth import smoothed
from edgewright_export.methods.quantization.streams import streams
from edgewright_export.state import Example

from .models import seeded
from .test_ptq_options import chain, error_of
from .test_quantization import drawn, plan_of, state_of

pytestmark = pytest.mark.usefixtures("no_speed_asked")


class Bottlenecks(nn.Module):
    """Residual sums of linear results, as in MobileNet v2, whose channels have very different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.ReLU6(), nn.Conv2d(12, 8, 1))
        self.blocks = nn.ModuleList([self._block() for _ in range(2)])
        self.last = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 5)
        with torch.no_grad():
            sizes = torch.logspace(-1.5, 0.5, 8)
            for writer in (self.stem[2], *(block[-1] for block in self.blocks)):
                writer.weight.mul_(sizes.view(-1, 1, 1, 1))
                writer.bias.mul_(sizes)
            for reader in (*(block[0] for block in self.blocks), self.last):
                reader.weight.div_(sizes.view(1, -1, 1, 1))

    @staticmethod
    def _block() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(8, 24, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU6(), nn.Conv2d(24, 8, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = x + block(x)
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


def test_what_is_scaled_together():
    graph = float_graph(state_of(seeded(Bottlenecks).eval(), torch.randn(1, 3, 16, 16)))
    paths = {p.name: p.path for p in products(graph)}
    found = [([paths[n] for n in s.writers], [paths[n] for n in s.readers]) for s in streams(graph, products(graph))]
    assert [(sorted(writers), sorted(readers)) for writers, readers in found] == [
        (["blocks.0.4", "blocks.1.4", "stem.2"], ["blocks.0.0", "blocks.1.0", "last"]),
        (["last"], ["head"]),
    ]


@pytest.mark.parametrize(
    "between",
    [nn.ReLU6(), nn.GELU(), nn.ConstantPad2d(1, 0.5), nn.Softmax(1), nn.BatchNorm2d(4, affine=False)],
    ids=lambda module: type(module).__name__,
)
def test_what_is_limited_or_moved_is_not_scaled(between):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), between, nn.AvgPool2d(2), nn.Conv2d(4, 2, 1)).eval()
    graph = float_graph(state_of(module, torch.randn(1, 3, 8, 8)))
    count = 1 if isinstance(between, nn.BatchNorm2d) else 0
    assert len(streams(graph, products(graph))) == count


def test_a_stream_that_the_model_returns_is_not_scaled():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.first(x)
            return x, self.second(x)

    graph = float_graph(state_of(Two().eval(), torch.randn(1, 3, 4, 4)))
    assert streams(graph, products(graph)) == ()


@pytest.mark.parametrize("make", [lambda: seeded(Bottlenecks).eval(), chain], ids=["bottlenecks", "chain"])
def test_smooth_streams_do_not_change_the_float_graph(make):
    module, given = make(), drawn(1, 3, 16, 16, count=8)
    graph = float_graph(state_of(module, given[0][0]))
    made = smoothed(graph, products(graph), calls(given, Example(given[0], {}, "")), {p.name: 7 for p in products(graph)})
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(made(x), graph(x), rtol=1e-4, atol=1e-5 * float(graph(x).abs().max()))
    changed = [p for p in products(graph) if not torch.equal(_weight(made, p.name), _weight(graph, p.name))]
    assert len(changed) >= 3


def _weight(module: torch.fx.GraphModule, name: str) -> Tensor:
    return tensor_at(module, next(p.weight for p in products(module) if p.name == name))


def test_smooth_streams_lose_less():
    module, given = seeded(Bottlenecks).eval(), drawn(1, 3, 16, 16, count=8)
    plain, smooth = (error_of(plan_of(module, given, smooth=on), given, module) for on in (False, True))
    assert smooth < plain / 4


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_weights_of_convolutions_make_up_for_the_error(weight_bits):
    module = seeded(Bottlenecks).eval()
    draw = torch.Generator().manual_seed(2)
    given = [(nn.functional.avg_pool2d(torch.randn(1, 3, 20, 20, generator=draw), 5, 1) + 1,) for _ in range(8)]
    plain, better = (
        error_of(plan_of(module, given, weight_bits=weight_bits, activations="float", compensate=on), given, module)
        for on in (False, True)
    )
    assert better < plain / 2


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, stride=(2, 1)), (2, 3, 8, 9)),
        (nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2, groups=2), (2, 4, 8, 8)),
        (nn.Conv2d(3, 4, 1, bias=False), (3, 8, 8)),
        (nn.Conv1d(4, 4, 3, groups=2, padding="valid"), (3, 4, 8)),
        (nn.Conv1d(4, 4, 3, groups=4, dilation=3), (1, 4, 9)),
        (nn.Linear(5, 4), (2, 7, 5)),
        (nn.Linear(5, 4), (5,)),
    ],
)
def test_columns_times_weights_are_the_results(layer, shape):
    x = torch.randn(shape)
    graph = torch.export.export(layer, (x,)).module()
    node = next(node for node in graph.graph.nodes if node.target in (*CONVOLUTIONS, torch.ops.aten.linear.default))
    found = columns(node, layer.weight, x, 1 << 20)
    results = layer.weight.reshape(len(found), -1, found.shape[1]) @ found
    with torch.no_grad():
        wanted = layer(x).movedim(-1 if isinstance(layer, nn.Linear) else -layer.weight.dim() + 1, 0)
    wanted = wanted.flatten(1) if wanted.dim() > 1 else wanted[:, None]
    bias = torch.zeros(4) if layer.bias is None else layer.bias
    torch.testing.assert_close(results.flatten(0, 1) + bias[:, None], wanted)


def test_of_many_places_some_are_taken():
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 9, 9)
    node = next(n for n in torch.export.export(layer, (x,)).graph.nodes if n.target in CONVOLUTIONS)
    whole, some = (columns(node, layer.weight, x, most).view(1, 27, 2, -1) for most in (49, 20))
    assert whole.shape[-1] == 49 and some.shape[-1] == 17
    assert torch.equal(whole[..., ::3], some)


def test_all_at_once_reach_the_file(tmp_path):
    module, given = seeded(Bottlenecks).eval(), drawn(1, 3, 16, 16, count=8)
    bundle = sdk.export(
        module,
        "host:native",
        example_inputs=given[0],
        methods=[sdk.methods.PTQ(smooth=True, compensate=True, correct_bias=True)],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > 100
    assert {row.weights for row in bundle.manifest.quantized} == {"int8"}


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "litert"])
def test_a_bias_of_an_output_without_weights_fits_into_32_bits(engine, tmp_path):
    """As a batch norm leaves a channel that died: its bias would be some 1e14 of the unit of its sums."""
    module, given = seeded(Bottlenecks).eval(), drawn(1, 3, 16, 16, count=4)
    with torch.no_grad():
        module.stem[0].weight[3:5] *= 1e-12
        module.stem[0].bias[3:5] = torch.tensor([0.7, -0.4])
        module.last.weight[2] = 0
        module.last.bias[2] = 3
    bundle = sdk.export(
        module,
        f"host:{engine}",
        example_inputs=given[0],
        methods=[sdk.methods.PTQ()],
        calibration=given,
        output=tmp_path / "m.edge",
    )
    assert bundle.parity.snr_db > 45
    with torch.no_grad():
        assert error_of(plan_of(module, given), given, module) < 0.01
