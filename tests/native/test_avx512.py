"""The native engine with its kernels of AVX-512 on any processor that has AVX2: SIMDe emulates the intrinsics."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright_runtime import kernels
from tests.native import programs

ISA = "avx512vnni"
ROOT = Path(__file__).parents[2]
SIMDE = Path("/usr/include/simde")
GRAPHS = ("engine", "states", "prepare", "prepare_int8", "four_bits", "three_bits", "planes", "sparse_linear", "sparse_s8")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library() -> Path:
    """The library with emulated kernels."""
    if "avx2" not in kernels.isas():
        pytest.skip("this machine has no avx2")
    if not SIMDE.exists():
        pytest.skip(f"{SIMDE} is not on this machine (Debian package libsimde-dev)")
    source, build = programs.HERE / "emulated_avx512", ROOT / "build" / "emulated-avx512"
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of pytest share the folder
        for command in (["-S", str(source), "-B", str(build)], ["--build", str(build), "--parallel", "2"]):
            subprocess.run([sys.executable, "-m", "cmake", *command], check=True, capture_output=True)
    return build / "native" / "libedgewright.so"


@pytest.mark.parametrize(("name", "dtype", "least"), [("check_kernels", "f32", 30000), ("check_kernels_s8", "s8", 15000)])
def test_every_kernel_beside_the_scalar_one(name, dtype, least, library, tmp_path):
    program = programs.build(name, tmp_path, f"-I{ROOT / 'kernels_arm' / 'include'}", library=library)
    found = programs.run(program)
    assert found.returncode == 0, found.stdout + found.stderr
    ran, checks, _ = (int(part.split()[0]) for part in found.stdout.splitlines()[-1].split(", "))
    rows = [row for row in kernels.rows() if row.dtype == dtype and row.isa != "scalar"]
    assert ran == len(rows) and checks >= least


def run_tests(library: Path, *chosen: str) -> None:
    """Tests of this folder with that library, whose best instruction set is the emulated one."""
    environment = {**os.environ, "EDGEWRIGHT_LIBRARY": str(library)}
    command = [sys.executable, "-m", "pytest", "-q", *chosen]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_is_asked_of_each_instruction_set(library):
    run_tests(library, "-k", ISA, "tests/native")


def test_graphs(library):
    run_tests(library, *(f"tests/native/test_{name}.py" for name in GRAPHS))
