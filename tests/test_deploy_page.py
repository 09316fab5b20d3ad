"""``edgewright deploy --to DIR`` for a browser: page, engine and bundle; the engine itself is not built here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_profiles.errors import DeviceError, OutputError
from edgewright_runtime.sources import source_folder
from sdk import Bundle
from sdk.deploy import page
from sdk.deploy.board.edge_run import file_sha256
from sdk.deploy.folder import deploy_folder
from tests.tiny_bundle import make_tiny_bundle

PAGE = {path.name for path in (source_folder() / "apps" / "web_demo" / "page").iterdir()}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(folder: Path) -> None:
        folder.mkdir()
        (folder / "index.js").write_text("export {};")

    monkeypatch.setattr(page, "put_package", put)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path, device="browser-chromium", engine="native")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("engine")
def test_a_folder_that_a_web_server_serves(bundle: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = deploy_folder(bundle, site)
    assert names(site) == {*PAGE, "model.edgez", "edgewright", "deployment.json"}
    assert done.bytes == sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert Bundle.open(site / "model.edgez").sha256 == done.sha256 == Bundle.open(bundle).sha256
    record = json.loads((site / "deployment.json").read_text())
    assert record["files"] == {
        path.relative_to(site).as_posix(): file_sha256(path)
        for path in site.rglob("*")
        if path.is_file() and path.name != "deployment.json"
    }
    assert all(path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644) for path in site.rglob("*"))


@pytest.mark.usefixtures("engine")
def test_an_archive_gives_the_same_folder(bundle: Path, tmp_path: Path) -> None:
    deploy_folder(bundle, tmp_path / "a")
    Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    deploy_folder(tmp_path / "tiny.edgez", tmp_path / "b")
    for path in sorted((tmp_path / "a").rglob("*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.is_dir() or path.read_bytes() == other.read_bytes(), path


@pytest.mark.usefixtures("engine")
def test_an_earlier_one_is_replaced_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    deploy_folder(bundle, site)
    deploy_folder(bundle, site)
    (site / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="also holds mine.txt"):
        deploy_folder(bundle, site)
    assert (site / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("engine")
def test_without_photos_there_is_no_page(tmp_path: Path) -> None:
    plain = make_tiny_bundle(tmp_path, device="browser-chromium", engine="native", preprocess=False)
    deploy_folder(plain, tmp_path / "site")
    assert names(tmp_path / "site") == {"model.edgez", "edgewright", "deployment.json"}


@pytest.mark.usefixtures("engine")
def test_engines_of_other_packages_are_theirs(tmp_path: Path) -> None:
    foreign = make_tiny_bundle(tmp_path, device="browser-chromium", engine="onnxruntime")
    with pytest.raises(DeviceError, match="edgewright pack"):
        deploy_folder(foreign, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_failure_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "put_package", full)
    with pytest.raises(OutputError, match="No space left"):
        deploy_folder(bundle, tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.usefixtures("engine")
def test_the_command_says_how_to_serve_it(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sdk.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["deploy", str(bundle), "--to", str(tmp_path / "site")])
    assert not stop.value.code
    assert f"python3 -m http.server --directory {tmp_path / 'site'} 8000" in capsys.readouterr().out
