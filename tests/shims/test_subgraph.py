"""``edgewright::Subgraph`` in every runtime that takes it: the same results as the module, through the sessions that users get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sdk
from device_profiles import choose
from device_profiles.errors import BundleError, RuntimeFailure
from edgewright_export.capture import capture
from edgewright_export.prepare import first_state
from edgewright_export.registry import TARGETS, target_named
from edgewright_export.state import State
from edgewright_runtime.bundle import Lowered, TensorSpec
from edgewright_runtime.engines import engine_named

from ..models import MobileNetV1, TwoInputs, seeded

HOSTS = [name for name in TARGETS if target_named(name).subgraphs_from]


class Kinds(nn.Module):
    """Inputs and outputs of several dtypes."""

    def forward(self, ids: Tensor, mask: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return ids * 2 + mask, torch.logical_not(mask), scale.exp() * mask


class Rows(nn.Module):
    """Takes any number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


def lowered(host: str, module: nn.Module, example: tuple[Any, ...], folder: Path, dynamic: Any = None) -> tuple[State, Lowered]:
    state = first_state(module, example, dynamic)
    state = replace(state, captured=capture(state.module, state.example), subgraph=True)
    target = target_named(host)
    row = next(row for row in choose("host").profile.engines if row.name == target.engine)
    return state, target.gather(target.lower(state, row, folder))


def opened(files: Lowered, threads: int = 1) -> Any:
    return engine_named(files.engine).open(files, threads=threads)


def results(files: Lowered, *inputs: np.ndarray, threads: int = 1) -> list[np.ndarray]:
    with opened(files, threads) as session:
        return list(session.run(*inputs).values())


@pytest.mark.parametrize("host", HOSTS)
def test_a_convolutional_network(tmp_path, host):
    module, x = seeded(MobileNetV1).eval(), torch.randn(1, 3, 32, 32)
    _, files = lowered(host, module, (x,), tmp_path)
    assert files.requires["subgraph"] == 1
    (one,) = results(files, x.numpy())
    np.testing.assert_allclose(one, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    (two,) = results(files, x.numpy(), threads=2)
    assert (one == two).all()


@pytest.mark.parametrize("host", HOSTS)
def test_two_inputs_and_two_outputs(tmp_path, host):
    module = seeded(TwoInputs).eval()
    image, extra = torch.randn(2, 3, 8, 8), torch.randn(2, 4)
    _, files = lowered(host, module, (image, extra), tmp_path)
    with opened(files) as session:
        found = session.run(image=image.numpy(), extra=extra.numpy())
    wanted = module(image, extra)
    np.testing.assert_allclose(found["scores"], wanted["scores"].detach().numpy(), rtol=1e-4, atol=1e-5)
    assert found["best"].dtype == np.int64 and (found["best"] == wanted["best"].numpy()).all()


@pytest.mark.parametrize("host", HOSTS)
def test_other_dtypes(tmp_path, host):
    given = torch.arange(-3, 3), torch.tensor([True, False] * 3), torch.tensor([0.0, -1, 2, float("nan"), float("inf"), 1e-40])
    _, files = lowered(host, Kinds(), given, tmp_path)
    for wanted, found in zip(Kinds()(*given), results(files, *(value.numpy() for value in given)), strict=True):
        assert found.dtype == wanted.numpy().dtype
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6)


class Twice(nn.Module):
    """Returns one tensor in two places."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = x.exp()
        return y, x + 1, y


@pytest.mark.parametrize("host", HOSTS)
def test_one_result_in_two_places(tmp_path, host):
    x = torch.randn(2, 3)
    _, files = lowered(host, Twice(), (x,), tmp_path)
    for wanted, found in zip(Twice()(x), results(files, x.numpy()), strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize("host", HOSTS)
def test_sizes_that_change_from_run_to_run(tmp_path, host):
    module = seeded(Rows).eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    _, files = lowered(host, module, (torch.randn(3, 6),), tmp_path, ({0: rows},))
    with opened(files) as session:
        for count in (3, 1, 64, 2, 7, 64, 1):
            x = torch.randn(count, 6)
            (found,) = session.run(x.numpy()).values()
            np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("host", HOSTS)
def test_several_sessions_of_one_file(tmp_path, host):
    module, x = seeded(Rows).eval(), torch.randn(3, 6)
    _, files = lowered(host, module, (x,), tmp_path)
    first, second = opened(files), opened(files, threads=2)
    wanted = list(first.run(x.numpy()).values())
    first.close()
    assert (list(second.run(x.numpy()).values())[0] == wanted[0]).all()
    second.close()


@pytest.mark.parametrize("host", [host for host in HOSTS if host != "executorch"])  # whose file needs to know the model
def test_bytes_that_are_no_model(tmp_path, host):
    (tmp_path / "not.onnx").write_bytes(b"nothing that an engine reads")
    (tmp_path / "made").mkdir()
    x, y = (TensorSpec(name, "float32", (3, 6), {}, name) for name in "xy")
    made = target_named(host).embed(tmp_path / "not.onnx", [x], [y], tmp_path / "made")
    with pytest.raises(RuntimeFailure, match="cut off or is no ONNX model"):
        results(made, np.zeros((3, 6), np.float32))


@pytest.mark.parametrize("host", HOSTS)
def test_a_later_version_is_refused(tmp_path, host):
    _, files = lowered(host, seeded(Rows).eval(), (torch.randn(3, 6),), tmp_path)
    with pytest.raises(BundleError, match=r"Subgraph 2.*this version has 1"):
        opened(replace(files, requires={"subgraph": 2}))


@pytest.mark.parametrize("host", HOSTS)
def test_a_sparse_model_runs_in_our_kernels(tmp_path, host):
    """Through the public call; asked for, since a small model may be as fast without."""
    method = sdk.methods.WeightSparsity(0.8, allocation="uniform", steps=0, subgraph=True)
    given = [(torch.randn(1, 3, 32, 32),) for _ in range(4)]
    bundle = sdk.export(
        seeded(MobileNetV1).eval(), f"host:{host}", methods=[method], example_inputs=given[0], calibration=given, output=tmp_path / "m.edge"
    )
    (line,) = [change for change in bundle.manifest.changes if change.startswith("weight-sparsity")]
    assert f"runs in our kernels as one operator of {host}" in line
    assert bundle.manifest.engine.requires["subgraph"] == 1
    with sdk.load(bundle.path) as session:
        assert session.engine == host and np.isfinite(next(iter(session.run(given[0][0].numpy()).values()))).all()


class Layers(nn.Sequential):
    """Layers that take nearly all of the time."""

    def __init__(self) -> None:
        super().__init__(*(part for _ in range(3) for part in (nn.Linear(768, 768), nn.ReLU())))


def of_integers(folder: Path, device: str, module: nn.Module, shape: tuple[int, ...], **options: Any) -> sdk.Bundle:
    sparse = sdk.methods.WeightSparsity(**{"sparsity": 0.9, "allocation": "uniform", "steps": 0, "subgraph": True, **options})
    given = [(torch.randn(*shape),) for _ in range(4)]
    methods = [sparse, sdk.methods.PTQ(activations="static", even_if_slower=True)]
    return sdk.export(module.eval(), device, methods=methods, example_inputs=given[0], calibration=given, output=folder / "m.edge")


@pytest.mark.parametrize("device", ["host:onnxruntime", "host:litert", "host:executorch", "raspberry-pi-5:onnxruntime", "raspberry-pi-5:litert"])
def test_integers_in_blocks_of_four_by_four_run_in_our_kernels(tmp_path, device, monkeypatch):
    monkeypatch.setattr("edgewright_export.methods.inside.ratio", lambda slow, fast: (2.0, 1.5, 3.0))
    bundle = of_integers(tmp_path, device, seeded(Layers), (32, 768), pattern=(4, 4))
    (line,) = [change for change in bundle.manifest.changes if change.startswith("integers")]
    assert line.startswith(f"integers: run in our kernels as one operator of {device.partition(':')[2]} (")
    assert ("measured on this machine" in line) is device.startswith("host")
    assert bundle.manifest.quantized and bundle.manifest.engine.requires["subgraph"] == 1
    assert all("_s8_4x4" in (row.kernel or "") for row in bundle.manifest.sparse)
    assert bundle.parity.snr_db > 60


def test_integers_that_are_no_faster_stay_with_the_runtime(tmp_path, monkeypatch):
    monkeypatch.setattr("edgewright_export.methods.inside.ratio", lambda slow, fast: (1.0, 0.9, 1.1))
    bundle = of_integers(tmp_path, "host:onnxruntime", seeded(Layers), (32, 768), pattern=(4, 4))
    (line,) = [change for change in bundle.manifest.changes if change.startswith("integers")]
    assert line.startswith("integers: run in the engine's own kernels") and "measured on this machine" in line
    assert "subgraph" not in bundle.manifest.engine.requires


def test_fewer_zeros_stay_with_the_runtime_of_a_board(tmp_path):
    bundle = of_integers(tmp_path, "raspberry-pi-5:onnxruntime", seeded(Layers), (32, 768), pattern=(4, 4), sparsity=0.5)
    assert bundle.manifest.quantized and "subgraph" not in bundle.manifest.engine.requires


def test_integers_in_other_blocks_stay_with_the_runtime(tmp_path):
    """Whose kernels for them are as fast as ours."""
    bundle = of_integers(tmp_path, "host:onnxruntime", seeded(MobileNetV1), (1, 3, 32, 32))
    assert bundle.manifest.quantized and "subgraph" not in bundle.manifest.engine.requires
    (line,) = [change for change in bundle.manifest.changes if change.startswith("integers")]
    assert "run in the engine's own kernels" in line and "pattern=(4, 4)" in line