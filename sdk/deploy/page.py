"""A deployment for browsers: a folder that any web server serves, with page, engine and bundle."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from device_profiles import choose
from device_profiles.errors import OutputError
from edgewright_runtime.bundle.manifest import Manifest
from edgewright_runtime.sources import source_folder

from ..build_runtime.build import build_runtime
from ..bundle import Bundle
from .board.edge_run import DEPLOYMENT, TOOL, file_sha256
from .needs import Needs
from .runtime import ENGINE

MODEL = "model.edgez"
PACKAGE = "edgewright"
TRIPLE = "wasm32"


def is_page(manifest: Manifest) -> bool:
    """Whether a bundle is for our engine in a browser."""
    choice = choose(manifest.device)
    return choice.profile.kind == "browser" and choice.accelerator is None and manifest.engine.name == ENGINE


def page_needs(manifest: Manifest) -> Needs:
    """What a browser needs: nothing but a server of files."""
    return Needs(choose(manifest.device).profile, ENGINE, "", "", False, "", "")


def stage_page(bundle: Path, manifest: Manifest, sha256: str, folder: Path) -> None:
    """Fills an empty folder: the bundle as one file, the engine's package, and the page where photos are classified.

    Raises:
        DependencyError: What builds the engine is missing here.
        OutputError: The folder cannot be written.
    """
    import sdk

    try:
        Bundle.open(bundle).pack(folder / MODEL)
        put_package(folder / PACKAGE)
        page = source_folder() / "apps" / "web_demo" / "page"
        files = sorted(page.iterdir()) if manifest.preprocess and manifest.postprocess else []
        for path in files:
            shutil.copyfile(path, folder / path.name)
        record = {
            "tool": TOOL,
            "schema": "1.0",
            "edgewright": sdk.__version__,
            "bundle": MODEL,
            "manifest_sha256": sha256,
            "device": manifest.device,
            "engine": ENGINE,
            "install": "",
            "files": {name: file_sha256(folder / name) for name in _names(folder)},
        }
        (folder / DEPLOYMENT).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    except OSError as error:
        raise OutputError(f"cannot write the deployment of {bundle}: {error.strerror}") from error


def put_package(folder: Path) -> None:
    """Builds the engine for browsers and unpacks what a page imports.

    Raises:
        DependencyError: What builds it is not installed, or failed.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-") as work:
        built = build_runtime(TRIPLE, output=Path(work) / "runtime.tar.gz")
        with tarfile.open(built.path) as archive:
            archive.extractall(work, filter="data")
        (unpacked,) = (path for path in Path(work).iterdir() if path.is_dir())
        shutil.move(unpacked, folder)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
