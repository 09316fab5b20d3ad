"""The engine for 64-bit ARM, programs with it, and an emulator to run them; what is missing is a skip."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from sdk.build_runtime.build import build_runtime

QEMU = "qemu-aarch64-static"
TRIPLE = "aarch64-linux-musl"
HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels_arm" / "include"


@functools.cache
def unpacked() -> Path:
    """What ``build-runtime`` makes for ARM: the static library, since then the emulator needs no files of a board."""
    if not shutil.which(QEMU):
        pytest.skip(f"{QEMU} is not on this machine (Debian package qemu-user-static)")
    work = tempfile.TemporaryDirectory(prefix="edgewright-arm-")
    atexit.register(work.cleanup)
    folder = Path(work.name)
    built = build_runtime(TRIPLE, output=folder / "a.tar.gz")
    with tarfile.open(built.path) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("edgewright-*/"))


@functools.cache
def program(name: str) -> str:
    """A C file of this folder, built for ARM."""
    output = unpacked() / name
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-static", "-O1", "-D_GNU_SOURCE"]
    places = [f"-I{unpacked() / 'include'}", f"-I{KERNELS}", str(HERE / f"{name}.c")]
    subprocess.run([*compiler, *places, str(unpacked() / "lib/libedgewright.a"), "-o", str(output)], check=True)
    return str(output)


def emulate(cpu: str, *command: str, isa: str = "") -> list[str]:
    """The lines that a program prints; they are shown when it fails."""
    environment = {**os.environ, "EDGEWRIGHT_FORCE_ISA": isa}
    done = subprocess.run([QEMU, "-cpu", cpu, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
