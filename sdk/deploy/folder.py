"""A deployment as a folder: the bundle, the runner and the scripts, checked and put in place at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from device_profiles.errors import OutputError
from edgewright_runtime.bundle.manifest import Manifest
from edgewright_runtime.bundle.paths import partial_folder, put_in_place, sync_tree
from edgewright_runtime.bundle.seal import MANIFEST, MANIFEST_HASH, is_bundle, open_bundle

from .board.edge_run import DEPLOYMENT, TOOL, file_sha256, replace_problem
from .needs import Needs, needs_of
from .page import MODEL, is_page, page_needs, stage_page
from .runtime import ENGINE, put_runtime

SCRIPTS = ("edge_run.py", "install.sh", "python.sh", "run.sh", "verify.sh")


@dataclass(frozen=True)
class Deployment:
    """What was put into a folder.

    Args:
        bundle: Name of the bundle's folder inside it.
        manifest: What the bundle says.
        sha256: Hash of the manifest.
        needs: What the board must install.
        bytes: Size of all files.
    """

    bundle: str
    manifest: Manifest
    sha256: str
    needs: Needs
    bytes: int


def deploy_folder(bundle: Path, output: Path) -> Deployment:
    """Verifies a bundle and writes it with its runner to a folder, in one step.

    Args:
        bundle: Folder or ``.edgez`` file.
        output: Missing, empty, or an earlier deployment, which is replaced.

    Raises:
        BundleError: The bundle is not as sealed.
        DependencyError: What builds the engine is missing here.
        DeviceError: Its device is unknown or cannot run it.
        OutputError: The folder holds something else or cannot be written.
    """
    problem = replace_problem(str(output))
    if problem:
        raise OutputError(f"cannot deploy: {problem}")
    target = Path(os.path.realpath(output))
    source = Path(os.path.realpath(bundle))
    if is_bundle(source) and source in target.parents:
        raise OutputError(f"cannot deploy to {output}: it lies inside the bundle {bundle}; choose a folder outside it")
    with partial_folder(target) as partial:
        deployment = stage_any(bundle, partial)
        sync_tree(partial)
        put_in_place(partial, target)
    return deployment


def stage_any(bundle: Path, folder: Path) -> Deployment:
    """:func:`stage`, and for a browser :func:`~sdk.deploy.page.stage_page`."""
    opened = open_bundle(bundle)
    manifest, sha256 = opened.manifest, opened.manifest_sha256
    if opened.temporary is not None:
        opened.temporary.cleanup()
    if not is_page(manifest):
        return stage(bundle, folder)
    stage_page(bundle, manifest, sha256, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Deployment(MODEL, manifest, sha256, page_needs(manifest), size)


def stage(bundle: Path, folder: Path) -> Deployment:
    """Fills an empty folder with a verified bundle, the runner, the scripts and, where it is ours, the engine.

    Raises:
        BundleError: The bundle is not as sealed, before or after the copy.
        DependencyError: What builds the engine is missing here.
        DeviceError: Its device is unknown or cannot run it.
        OutputError: The disk is full, or the folder cannot be written.
    """
    name = bundle_name(bundle)
    opened = open_bundle(bundle)
    try:
        manifest, needs = opened.manifest, needs_of(opened.manifest)
        try:
            _copy(opened.folder, folder / name, [*manifest.files, MANIFEST, MANIFEST_HASH])
            runtime = put_runtime(needs.profile, folder) if _needs_runtime(manifest) else ()
            _write_scripts(folder, name, opened.manifest_sha256, needs, runtime)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        except OSError as error:
            raise OutputError(f"cannot write the deployment of {bundle}: {error.strerror}") from error
        open_bundle(folder / name)
    finally:
        if opened.temporary is not None:
            opened.temporary.cleanup()
    return Deployment(name, manifest, opened.manifest_sha256, needs, size)


def _needs_runtime(manifest: Manifest) -> bool:
    """Whether our engine runs the bundle, or an operator of it in another."""
    return manifest.engine.name == ENGINE or "subgraph" in manifest.engine.requires


def bundle_name(bundle: Path) -> str:
    """Name of the bundle's folder in a deployment: ``model.edge`` for ``model.edge`` and ``model.edgez``."""
    name = os.path.basename(os.path.abspath(bundle))
    stem = name.removesuffix(".edgez").removesuffix(".edge")
    return f"{stem or 'model'}.edge"


def _copy(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)
    for path in (target.parent, target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _write_scripts(folder: Path, bundle: str, sha256: str, needs: Needs, runtime: tuple[str, ...]) -> None:
    import sdk

    for name, text in scripts(needs):
        path = folder / name
        path.write_text(text, encoding="utf-8", newline="\n")
        path.chmod(0o755)
    record = {
        "tool": TOOL,
        "schema": "1.0",
        "edgewright": sdk.__version__,
        "bundle": bundle,
        "manifest_sha256": sha256,
        "device": needs.profile.id,
        "engine": needs.engine,
        "install": needs.command,
        "files": {name: file_sha256(folder / name) for name in (*SCRIPTS, *runtime)},
    }
    (folder / DEPLOYMENT).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def scripts(needs: Needs) -> Iterator[tuple[str, str]]:
    """Names and texts of the files around a bundle, filled in for a board."""
    for name in SCRIPTS:
        text = (files(__package__) / "board" / name).read_text(encoding="utf-8")
        yield name, text if name.endswith(".py") else fill(text, needs)


def fill(text: str, needs: Needs) -> str:
    """A shell script with the words between ``@`` replaced."""
    words = {
        "DEVICE": needs.profile.id,
        "ENGINE": needs.engine,
        "ENVIRONMENT": needs.environment,
        "INSTALL": needs.script,
        "OWN": "own" if needs.own_environment else "",
        "PYTHON": needs.python,
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
