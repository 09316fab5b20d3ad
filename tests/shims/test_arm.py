"""``edgewright::Subgraph`` on 64-bit ARM: what ``edgewright deploy`` brings to a board, in the runtimes' own wheels there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sdk
from edgewright_export.registry import target_named
from sdk.deploy.folder import deploy_folder

from ..models import MobileNetV1, seeded
from . import arm_board

pytestmark = pytest.mark.slow
_HOSTS = [host for host in ("onnxruntime", "litert") if target_named(host).subgraphs_from]
_SCRIPT = """
import json, numpy, edge_run
manifest = json.load(open("/board/m.edge/manifest.json"))
run, name, version = edge_run.open_engine("/board/m.edge", manifest, 1)
given = numpy.load("/board/given.npz")
numpy.savez("/board/found.npz", *run([given[key] for key in given.files]))
print(name, version)
"""


@pytest.mark.parametrize("host", _HOSTS)
def test_a_board_runs_a_sparse_model_in_our_kernels(tmp_path, host):
    arm_board.root()
    method = sdk.methods.WeightSparsity(0.8, allocation="uniform", steps=0, subgraph=True)
    given = [(torch.randn(1, 3, 32, 32),) for _ in range(4)]
    bundle = sdk.export(
        seeded(MobileNetV1).eval(), f"raspberry-pi-5:{host}", methods=[method], example_inputs=given[0], calibration=given,
        output=tmp_path / "m.edge",
    )  # fmt: skip
    deploy_folder(bundle.path, tmp_path / "board")
    np.savez(tmp_path / "board" / "given.npz", given[0][0].numpy())
    with sdk.load(bundle.path) as session:
        (wanted,) = session.run(given[0][0].numpy()).values()
    assert host.partition("_")[0][:4] in arm_board.python(_SCRIPT, tmp_path / "board")
    (found,) = np.load(tmp_path / "board" / "found.npz").values()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
