"""The native engine on 64-bit ARM, in an emulator: every case that this machine runs (models: test_real_models.py)."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.native import case_file, test_four_bits, test_prepare_int8, test_sparse_s8, test_three_bits
from tests.native.arm_setup import QEMU, emulate, program
from tests.native.test_onnx_nodes import RUN

CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
WITH_DOT = ("cortex-a76",)

pytestmark = pytest.mark.slow


def last_line(cpu: str, *command: str, isa: str = "") -> str:
    """The last line that a program prints; the rest is shown when a test fails."""
    lines = emulate(cpu, *command, isa=isa)
    print(*lines, sep="\n")
    return lines[-1]


@pytest.fixture(scope="module")
def run_cases() -> str:
    return program("run_cases")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("nodes") / "cases"
    case_file.write(path, RUN)
    return str(path)


@pytest.mark.parametrize(("cpu", "isa"), [*((cpu, "") for cpu in CPUS), ("cortex-a53", "scalar")])
def test_every_node(cpu, isa, run_cases, nodes):
    count = sum(len(case.data_sets) for case in RUN)
    assert last_line(cpu, run_cases, nodes, isa=isa) == f"{count} cases, 0 failed"


def test_an_instruction_set_of_another_processor_is_refused(run_cases, nodes):
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": "avx2"}
    done = subprocess.run([QEMU, run_cases, nodes], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "EDGEWRIGHT_FORCE_ISA is 'avx2'" in done.stdout


@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_beside_the_scalar_one(cpu):
    rows, checks, failed = (int(part.split()[0]) for part in last_line(cpu, program("check_kernels")).split(", "))
    assert rows >= 12 and checks >= 5000 and failed == 0


@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_for_8_bits_beside_the_scalar_one(cpu):
    """Dot products, of dense weights and of blocks, are rows of their own on the core that has them."""
    rows, _, failed = (int(part.split()[0]) for part in last_line(cpu, program("check_kernels_s8")).split(", "))
    assert (rows, failed) == (8 if cpu in WITH_DOT else 6, 0)


@pytest.mark.parametrize(("cpu", "isa"), [*((cpu, "") for cpu in CPUS), ("cortex-a76", "neon")])
def test_graphs_of_8_bits(cpu, isa, run_cases, tmp_path):
    kinds = (test_prepare_int8, test_sparse_s8, test_four_bits, test_three_bits)
    count = case_file.write_entries(tmp_path / "cases", [entry for kind in kinds for entry in kind.entries()])
    assert last_line(cpu, run_cases, str(tmp_path / "cases"), isa=isa) == f"{count} cases, 0 failed"


def test_dot_products_are_refused_by_a_core_without(run_cases, nodes):
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": "neon_dot"}
    command = [QEMU, "-cpu", "cortex-a53", run_cases, nodes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "EDGEWRIGHT_FORCE_ISA is 'neon_dot'" in done.stdout
