"""``edgewright::Subgraph`` on 64-bit ARM: what ``edgewright deploy`` brings to a board, in the runtimes' own wheels there."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import sdk
from edgewright_export.registry import target_named
from sdk.deploy.folder import deploy_folder

from ..models import MobileNetV1, seeded
from ..test_tflite_sparse import Inverted, Network
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


_IN_TURNS = """
import time, numpy, json
from ai_edge_litert.interpreter import Interpreter
runs, given = {}, numpy.load("/board/given.npz")["x"]
for name in ("sparse", "dense"):
    one = Interpreter("/board/%s.tflite" % name, num_threads=1)
    one.allocate_tensors()
    one.set_tensor(one.get_input_details()[0]["index"], given)
    runs[name] = one, []
for _ in range(7):
    for one, times in runs.values():
        begin = time.perf_counter()
        one.invoke()
        times.append(time.perf_counter() - begin)
numpy.save("/board/found.npy", runs["sparse"][0].get_tensor(runs["sparse"][0].get_output_details()[0]["index"]))
print(json.dumps({name: min(times) for name, (_, times) in runs.items()}))
"""


@pytest.mark.parametrize("taps", [3, 5])
def test_litert_leaves_zeros_out_by_itself(tmp_path, taps):
    """An emulator's time is no board's, but follows how many instructions there are: of the layers' 85 % are gone."""
    arm_board.root()
    module = Network(nn.Conv2d(16, 128, 1), Inverted(128, taps), nn.Conv2d(128, 16, 1))
    given = [(torch.randn(1, 3, 64, 64),) for _ in range(4)]
    sparse = sdk.methods.WeightSparsity(0.85, allocation="uniform", steps=0)
    for name, methods in (("dense", []), ("sparse", [sparse])):
        paths = {"example_inputs": given[0], "calibration": given, "output": tmp_path / f"{name}.edge"}
        bundle = sdk.export(seeded(lambda: module).eval(), "raspberry-pi-5:litert", methods=methods, **paths)
        shutil.copy(bundle.path / "model.tflite", tmp_path / f"{name}.tflite")
    assert "by itself on ARM" in bundle.manifest.changes[-1]
    with sdk.load(bundle.path) as session:
        (wanted,) = session.run(given[0][0].numpy()).values()
    np.savez(tmp_path / "given.npz", x=given[0][0].numpy())
    times = json.loads(arm_board.python(_IN_TURNS, tmp_path).splitlines()[-1])
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), wanted, rtol=1e-4, atol=1e-5)
    assert times["sparse"] < 0.6 * times["dense"]
