"""The engine for browsers and Node: its WebAssembly modules and the files of ``runtime/web`` around them."""

from __future__ import annotations

import shutil
from pathlib import Path

from .toolchain import Toolchain
from .wasm import compact

BUILDS = {"simd": "OFF", "relaxed": "ON"}
"""The builds, and whether each has relaxed SIMD."""
MODULES = {"": "edgewright_common", "-every": "edgewright"}
"""The modules of a build: what stands behind its name in ours, and the file that CMake makes."""


def build_web(toolchain: Toolchain, source: Path, made: Path, installed: Path) -> None:
    """Builds the modules and lays out the package.

    Args:
        toolchain: For WebAssembly.
        source: The folder that holds ``runtime`` and ``kernels_arm``.
        made: A folder to build in.
        installed: Where the package goes: what ``npm pack runtime/web`` would pack, and the licence.

    Raises:
        DependencyError: CMake failed.
    """
    web = source / "runtime" / "web"
    (installed / "dist").mkdir(parents=True)
    for name, relaxed in BUILDS.items():
        folder = str(made / name)
        options = (f"-DEDGEWRIGHT_RELAXED={relaxed}", *toolchain.arguments)
        toolchain.run("-S", str(source / "runtime" / "native"), "-B", folder, *options)
        toolchain.run("--build", folder)
        for ending, linked in MODULES.items():
            module = compact((made / name / f"{linked}.wasm").read_bytes())
            (installed / "dist" / f"edgewright-{name}{ending}.wasm").write_bytes(module)
    for path in (*sorted(web.glob("*.js")), web / "index.d.ts", web / "package.json", source / "LICENSE"):
        shutil.copyfile(path, installed / path.name)
