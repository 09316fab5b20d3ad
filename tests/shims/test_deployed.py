"""A bundle with ``edgewright::Subgraph`` takes our library along to a board."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import sdk
from edgewright_runtime.native_library import library_path
from sdk.deploy import runtime
from sdk.deploy.folder import deploy_folder

from ..models import MobileNetV1, seeded
from .test_subgraph import HOSTS


@pytest.mark.parametrize("host", [host for host in HOSTS if host != "executorch"])
def test_the_runner_loads_it(tmp_path, monkeypatch, host):
    monkeypatch.setattr(runtime, "runtime_library", lambda _, output: shutil.copyfile(library_path(), output))
    method = sdk.methods.WeightSparsity(0.8, allocation="uniform", steps=0, subgraph=True)
    given = [(torch.randn(1, 3, 32, 32),) for _ in range(2)]
    bundle = sdk.export(
        seeded(MobileNetV1).eval(), f"host:{host}", methods=[method], example_inputs=given[0], calibration=given, output=tmp_path / "m.edge"
    )
    deploy_folder(bundle.path, tmp_path / "out")
    environment = {**os.environ, "EDGEWRIGHT_PYTHON": sys.executable}
    command = ["sh", str(tmp_path / "out" / "run.sh"), "--quick", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == host
