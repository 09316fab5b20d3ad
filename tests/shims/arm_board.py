"""A board's userland for 64-bit ARM, with the wheels that a user installs there, in an emulator; what is missing is a skip.

Debian with Python 3.11 by debootstrap, unpacked and not configured; numpy and the runtimes as PyPI has them.  Made once and kept
in the user's cache.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from apps import assets
from tests.native.arm_setup import QEMU

PACKAGES = ("numpy==2.4.6", "onnxruntime==1.31.1", "ai-edge-litert==2.3.0")
CPU = "cortex-a72"
_DEBIAN = "python3.11-minimal,python3.11,libpython3.11-stdlib,libgomp1,libstdc++6,zlib1g"
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
"""A Cortex-A72, for libraries that read it; the emulator passes on what this machine says."""


@functools.cache
def root() -> Path:
    """The folder to change the root to."""
    for command, package in ((QEMU, "qemu-user-static"), ("debootstrap", "debootstrap")):
        if not shutil.which(command):
            pytest.skip(f"{command} is not on this machine (Debian package {package})")
    if os.geteuid():
        pytest.skip("changing the root folder needs root")
    made = assets.cache() / f"arm64-{'-'.join(PACKAGES)}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as work:
            partial = Path(work) / "root"
            _fill(partial)
            partial.rename(made)
    return made


def _fill(folder: Path) -> None:
    options = ["--arch=arm64", "--foreign", "--variant=minbase", f"--include={_DEBIAN}"]
    subprocess.run(["debootstrap", *options, "bookworm", str(folder)], check=True, stdout=subprocess.DEVNULL)
    for package in (folder / "var/cache/apt/archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
        package.unlink()
    platforms = [f"--platform={name}" for name in _PLATFORMS]
    target = [f"--target={folder / 'site'}", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *target, *platforms, *PACKAGES], check=True)
    shutil.copy(str(shutil.which(QEMU)), folder / "usr/bin")
    cpus = folder / "sys/devices/system/cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    (folder / "proc").mkdir(exist_ok=True)
    (folder / "proc/cpuinfo").write_text(_CPUINFO)
    for name in ("possible", "present"):
        (cpus / name).write_text("0\n")


def python(script: str, folder: Path) -> str:
    """Runs a script on the board.

    Args:
        script: Its text.
        folder: Seen there as ``/board``; copied there and back.

    Returns:
        What it prints.
    """
    place = _brought(script, folder)
    done = _run(f"/usr/bin/{QEMU}")
    shutil.copytree(place, folder, dirs_exist_ok=True)
    return done.stdout


def instructions(script: str, folder: Path, *arguments: object) -> int:
    """How many instructions a script takes on the board, with all that Python does; needs the Debian package qemu-user.

    Args:
        script: Its text.
        folder: Seen there as ``/board``.
        arguments: ``sys.argv[1:]``.
    """
    _brought(script, folder)
    emulator, plugin = Path(shutil.which("qemu-aarch64") or ""), root() / "total_plugin.so"
    listed = subprocess.run(["ldd", str(emulator)], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"/\S+", listed):
        (root() / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root() / library[1:])
    shutil.copy(emulator, root() / "usr/bin")
    source = Path(__file__).with_name("total_plugin.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(plugin)], check=True)
    done = _run("/usr/bin/qemu-aarch64", "-plugin", "/total_plugin.so", "-E", "PYTHONHASHSEED=0", arguments=arguments)
    return int(done.stderr.rpartition("instructions ")[2])


def _brought(script: str, folder: Path) -> Path:
    place = root() / "board"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    (place / "script.py").write_text(script)
    return place


def _run(emulator: str, *options: str, arguments: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
    program = ("/usr/bin/python3.11", "/board/script.py", *map(str, arguments))
    command = ["chroot", str(root()), emulator, "-cpu", CPU, "-E", "PYTHONPATH=/site:/board", *options, *program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
