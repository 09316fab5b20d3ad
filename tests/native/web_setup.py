"""Node, a browser, npm packages and the built modules for the tests of ``runtime/web``; what is missing is a skip."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apps import assets

ROOT = Path(__file__).parents[2]
WEB = ROOT / "runtime" / "web"
PACKAGES = {
    "node": "24.21.0",
    "playwright-core": "1.64.1",
    "vite": "8.3.4",
    "typescript": "5.9.3",
    "@litertjs/core": "2.5.3",
    "@tensorflow/tfjs-core": "4.22.0",
    "@tensorflow/tfjs-backend-wasm": "4.22.0",
    "onnxruntime-web": "1.30.0",
}
"""Every npm package that tests and the benchmark use, pinned; none is part of ours."""


def modules() -> Path:
    """The folder of the ``.wasm`` files."""
    dist = WEB / "dist"
    if not all((dist / f"edgewright-{build}.wasm").exists() for build in ("simd", "relaxed", "simd-every", "relaxed-every")):
        pytest.skip("runtime/web/dist has no modules; `make web` builds them")
    return dist


def rare_operators() -> set[str]:
    """Names of the operators that only the ``-every`` modules have."""
    rows = "".join(path.read_text() for path in (ROOT / "runtime/native/src/ops").glob("*.inc"))
    rare = "".join(re.findall(r"#ifndef EDGE_COMMON_OPERATORS\n(.*?)#endif", rows, re.DOTALL))
    return set(re.findall(r'^EW_OP\("[a-z.]*", (\w+),', rare, re.MULTILINE))


def npm(*names: str) -> Path:
    """``node_modules`` with these packages, in a cache outside the repository."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = assets.cache() / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if _version(folder, name) != PACKAGES[name]]
    if missing:
        (folder / "package.json").touch()
        (folder / "package.json").write_text((folder / "package.json").read_text() or '{"private": true}')
        specs = [f"{name}@{PACKAGES[name]}" for name in missing]
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *specs]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install {' '.join(specs)}: {done.stderr[-300:]}")
    return folder / "node_modules"


def _version(folder: Path, name: str) -> str | None:
    try:
        version: str = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
    except (OSError, ValueError):
        return None
    return version


def node() -> str:
    """Node 24 or newer."""
    for command in (os.environ.get("EDGEWRIGHT_NODE"), shutil.which("node")):
        if command and _major(command) >= 24:
            return command
    command = str(npm("node") / ".bin" / "node")
    if _major(command) < 24:
        pytest.skip("Node 24 is needed; EDGEWRIGHT_NODE names it")
    return command


def _major(command: str) -> int:
    try:
        return int(
            subprocess.run([command, "-p", "process.versions.node"], capture_output=True, text=True).stdout.split(".")[
                0
            ]
        )
    except (OSError, ValueError):
        return 0


def chromium() -> str:
    """A Chromium or Chrome."""
    for name in (os.environ.get("EDGEWRIGHT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name and shutil.which(name):
            return str(shutil.which(name))
    pytest.skip("no Chromium is installed; EDGEWRIGHT_CHROMIUM names one")
