"""TFLite files whose weights are stored without zeros, for XNNPACK's sparse inference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("litert_torch", reason="needs litert-torch")
from ai_edge_litert import schema_py_generated as schema

import sdk
from device_profiles import choose
from edgewright_export.capture import capture
from edgewright_export.prepare import first_state
from edgewright_export.registry import target_named
from edgewright_export.targets.tflite_file import TFLite
from edgewright_export.targets.tflite_sparse import _packed
from edgewright_runtime.bundle.lowered import Lowered

from .models import MobileNetV1, seeded
from .shims.test_litert import run
from .sparsity.prune import pruned

DENSIFY = schema.BuiltinOperator.DENSIFY
PICTURE = (1, 3, 32, 32)


class Inverted(nn.Module):
    """A block with a shortcut, wide depthwise windows and other activations, as MobileNet-v2 and -v3 and their kin have them."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.depthwise = nn.Conv2d(4 * channels, 4 * channels, taps, padding=taps // 2, groups=4 * channels)
        self.project = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = nn.functional.hardswish(self.expand(x))
        return x + 0.5 * self.project(nn.functional.relu6(self.depthwise(wide)))


class Network(nn.Module):
    """What begins and ends as XNNPACK wants it, with anything between.

    Args:
        between: From 16 channels to any.
        first: The first convolution.
        end: From images to features.
    """

    def __init__(self, *between: nn.Module, first: nn.Module | None = None, end: nn.Module | None = None) -> None:
        super().__init__()
        self.first = first or nn.Conv2d(3, 16, 3, 2, 1)
        self.between = nn.Sequential(*between)
        self.end = end or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Any:
        return self.end(self.between(torch.relu(self.first(x))))


class Space(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Both(nn.Module):
    """Images are results too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.mean((2, 3))


def product(channels: int = 16) -> nn.Module:
    return nn.Conv2d(channels, 16, 1)


def made(module: nn.Module, folder: Path, zeros: float = 0.8, dynamic: Any = None) -> tuple[Lowered, nn.Module]:
    """The files of the module with zeros."""
    torch.manual_seed(0)
    sparse = pruned(module, zeros).eval()
    return lowered(sparse, folder, dynamic), sparse


def lowered(module: nn.Module, folder: Path, dynamic: Any = None) -> Lowered:
    state = first_state(module, (torch.randn(2 if dynamic else 1, *PICTURE[1:]),), dynamic)
    row = choose("host:litert").engine
    assert row is not None
    return target_named("litert").lower(replace(state, captured=capture(state.module, state.example)), row, folder)


def close(found: Lowered, module: nn.Module, x: Tensor) -> None:
    wanted = module(x)
    first = wanted[0] if isinstance(wanted, tuple) else wanted
    np.testing.assert_allclose(run(found, x)[0], first.detach().numpy(), atol=1e-5)


def densified(files: Lowered) -> list[Any]:
    """The tensors that are stored without zeros."""
    file = TFLite.read(files.path())
    return [file.graph.tensors[one.inputs[0]] for one in file.graph.operators if file.kind(one) == DENSIFY]


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (lambda: seeded(MobileNetV1), 5),
        (lambda: Network(product()), 1),
        (lambda: Network(product(), end=Space()), 1),
        (lambda: Network(Inverted(16, 3), Inverted(16, 5)), 4),
        (lambda: Network(nn.Conv2d(16, 16, 5, 2, 2, groups=16), product()), 1),
        (lambda: Network(nn.Conv2d(16, 320, 1), nn.LeakyReLU(), nn.Conv2d(320, 16, 1)), 2),
    ],
    ids=["mobilenet", "one", "mean", "inverted", "stride", "wide"],
)
def test_networks_that_fit(tmp_path, module, count):
    files, sparse = made(module(), tmp_path)
    assert files.leaves_out_zeros
    assert len(densified(files)) == count
    close(files, sparse, torch.randn(*PICTURE))


@pytest.mark.parametrize(
    "module",
    [
        lambda: Network(product(), first=nn.Conv2d(3, 16, 3, 1, 1)),
        lambda: Network(product(), first=nn.Conv2d(3, 16, 3, 2)),
        lambda: Network(product(), first=nn.Conv2d(3, 16, 5, 2, 2)),
        lambda: Network(product(), first=nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2))),
        lambda: Network(product(), nn.Conv2d(16, 16, 3, padding=1)),
        lambda: Network(product(), nn.Conv2d(16, 16, 3, 2, groups=16)),
        lambda: Network(product(), nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)),
        lambda: Network(product(), nn.Conv2d(16, 16, 7, padding=3, groups=16)),
        lambda: Network(product(), nn.MaxPool2d(2)),
        lambda: Network(nn.Conv2d(16, 16, 1, 2)),
        lambda: Network(product(), nn.Softmax(1)),
        lambda: Network(product(), end=nn.Flatten()),
        lambda: Network(product(), end=Both()),
        lambda: Network(product(), end=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1))),
        lambda: Network(product(), end=nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())),
    ],
)
def test_networks_that_do_not(tmp_path, module):
    files, sparse = made(module(), tmp_path)
    assert not files.leaves_out_zeros
    assert densified(files) == []
    close(files, sparse, torch.randn(*PICTURE))


@pytest.mark.parametrize(("zeros", "fits"), [(0.5, False), (0.65, False), (0.7, True), (1.0, True)])
def test_two_thirds_are_enough(tmp_path, zeros, fits):
    files, _ = made(Network(nn.Conv2d(16, 320, 1), nn.ReLU(), nn.Conv2d(320, 16, 1)), tmp_path, zeros)
    assert files.leaves_out_zeros is fits


def test_layers_that_are_mostly_there_stay_as_they_are(tmp_path):
    sparse = pruned(Network(nn.Conv2d(16, 320, 1), nn.ReLU(), nn.Conv2d(320, 16, 1), product()), 0.9).eval()
    nn.init.uniform_(sparse.between[3].weight, 1, 2)
    files = lowered(sparse, tmp_path)
    assert files.leaves_out_zeros
    assert len(densified(files)) == 2
    close(files, sparse, torch.randn(*PICTURE))


def test_the_stored_tensor_is_the_weights(tmp_path):
    files, sparse = made(Network(nn.Conv2d(16, 320, 1), nn.ReLU(), nn.Conv2d(320, 16, 1)), tmp_path)
    file = TFLite.read(files.path())
    for tensor, layer in zip(densified(files), (sparse.between[0], sparse.between[2]), strict=True):
        rows = tensor.sparsity.dimMetadata[3]
        begins, places = np.asarray(rows.arraySegments.values), np.asarray(rows.arrayIndices.values)
        found = np.zeros(layer.weight.shape[:2], np.float32)
        found[np.repeat(np.arange(len(found)), np.diff(begins.astype(int))), places] = file.data(tensor).view(np.float32)
        np.testing.assert_array_equal(found, layer.weight.detach().numpy()[:, :, 0, 0])


def test_a_file_is_smaller_and_every_batch_runs(tmp_path):
    batch = torch.export.Dim("batch", min=1, max=8)
    between = nn.Conv2d(16, 512, 1), nn.ReLU(), nn.Conv2d(512, 512, 1), nn.ReLU(), nn.Conv2d(512, 16, 1)
    files, sparse = made(Network(*between), tmp_path, dynamic=({0: batch},))
    assert files.leaves_out_zeros
    assert files.path().stat().st_size < 0.4 * sum(4 * p.numel() for p in sparse.parameters())
    for count in (1, 2, 8, 3):
        close(files, sparse, torch.randn(count, *PICTURE[1:]))


def test_integers_stay_as_they_are(tmp_path):
    given = [(torch.randn(*PICTURE),) for _ in range(4)]
    methods = [sdk.methods.PTQ(even_if_slower=True)]
    paths = {"example_inputs": given[0], "calibration": given, "output": tmp_path / "m.edge"}
    bundle = sdk.export(pruned(seeded(MobileNetV1).eval(), 0.8), "raspberry-pi-5:litert", methods=methods, **paths)
    file = TFLite.read(bundle.path / "model.tflite")
    assert DENSIFY not in map(file.kind, file.graph.operators)


@pytest.mark.parametrize(
    ("device", "options", "own", "runs"),
    [
        ("raspberry-pi-5:litert", {}, False, "sparse"),
        ("raspberry-pi-5:litert", {"subgraph": False}, False, "sparse"),
        ("raspberry-pi-5:litert", {"subgraph": True}, True, "sparse"),
        ("pixel-7:litert", {}, False, "sparse"),
        ("host:litert", {"subgraph": False}, False, "dense"),
        ("raspberry-pi-5:litert", {"sparsity": 0.5}, False, "dense"),
    ],
)
def test_which_kernels_run_it(tmp_path, device, options, own, runs):
    given = [(torch.randn(*PICTURE),) for _ in range(4)]
    method = sdk.methods.WeightSparsity(**{"sparsity": 0.8, "allocation": "uniform", "steps": 0, **options})
    paths = {"example_inputs": given[0], "calibration": given, "output": tmp_path / "m.edge"}
    bundle = sdk.export(seeded(MobileNetV1).eval(), device, methods=[method], **paths)
    assert bool(bundle.manifest.engine.requires) is own
    rows = [row for row in bundle.manifest.sparse if row.op == "conv" and row.zeros]
    assert rows
    if not own:  # our engine decides what is worth it
        assert {row.runs for row in rows} == {runs}
    itself = "leaves the zeros of 1 x 1 convolutions out by itself on ARM" in bundle.manifest.changes[-1]
    assert itself == (runs == "sparse" and not own)
    assert all(("by its own rules" in row.why) is itself for row in rows)


@pytest.mark.parametrize(
    ("pattern", "subgraph", "told"),
    [
        ((4, 4), None, "integers: run in our kernels as one operator of litert (rule: "),
        ((4, 1), None, "integers: run in the engine's own kernels, which multiply zeros"),
        ((4, 4), False, None),
    ],
)
def test_what_runs_them_once_they_are_integers(tmp_path, pattern, subgraph, told):
    given = [(torch.randn(*PICTURE),) for _ in range(4)]
    methods = [sdk.methods.WeightSparsity(0.9, pattern=pattern, allocation="uniform", steps=0, subgraph=subgraph), sdk.methods.PTQ()]
    module = Network(nn.Conv2d(16, 128, 1), nn.ReLU(), nn.Conv2d(128, 16, 1)).eval()
    paths = {"example_inputs": given[0], "calibration": given, "output": tmp_path / "m.edge"}
    manifest = sdk.export(module, "raspberry-pi-5:litert", methods=methods, **paths).manifest
    assert manifest.changes[0].endswith("leaves the zeros of 1 x 1 convolutions out by itself on ARM, while they are float32")
    lines = [line for line in manifest.changes if line.startswith("integers")]
    assert [line.startswith(told or "") for line in lines] == ([True] if told else [])
    assert bool(manifest.engine.requires) is (told is not None and "our kernels" in told)
    assert not any("by its own rules" in row.why for row in manifest.sparse)


@pytest.mark.parametrize(("most", "kind"), [(0, "Uint8"), (255, "Uint8"), (256, "Uint16"), (65535, "Uint16"), (65536, "Int32")])
def test_numbers_take_the_room_that_they_need(most, kind):
    index, vector = _packed([0, most])
    assert index == getattr(schema.SparseIndexVector, f"{kind}Vector")
    assert list(vector.values) == [0, most]

