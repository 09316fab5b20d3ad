"""The page of ``apps/web_demo`` in headless Chromium, on real photos, against what Python says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import sdk
from apps import assets
from sdk import Bundle
from sdk.deploy.page import MODEL, PACKAGE
from tests.native import web_setup

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "apps" / "web_demo" / "page"


def test_the_service_worker_keeps_every_file_of_page_and_engine():
    listed = re.search(r"const ENGINE = (\[.*?\])", (PAGE / "service_worker.js").read_text())
    assert listed and sorted(json.loads(listed[1])) == sorted(path.stem for path in web_setup.WEB.glob("*.js"))
    text = (PAGE / "service_worker.js").read_text()
    kept = {path.name for path in PAGE.iterdir()} - {"index.html", "service_worker.js"}
    assert all(f'"{name}"' in text for name in kept)


def test_the_page_asks_nobody_else():
    """No address of another host, neither script nor style in the page itself: its policy forbids both."""
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text), path.name
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", html)
    assert "default-src 'none'" in html and "unsafe-inline" not in html


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the page said, and the bundle that it ran."""
    torch = pytest.importorskip("torch", reason="exports a PyTorch model")
    assert torch
    from apps import models
    from apps.web_demo.__main__ import export

    modules = web_setup.modules()
    folder = tmp_path_factory.mktemp("demo")
    try:
        photos = [str(path) for path, _ in models.photos()]
        bundle = export(folder / "demo.edge").path
    except assets.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"real models are not cached and cannot be downloaded: {error}")
    site = shutil.copytree(PAGE, folder / "site")
    shutil.copytree(web_setup.WEB, site / PACKAGE, ignore=shutil.ignore_patterns("example", "dist"))
    shutil.copytree(modules, site / PACKAGE / "dist")
    Bundle.open(bundle).pack(site / MODEL)
    screenshots = Path(os.environ.get("EDGEWRIGHT_SCREENSHOTS") or folder)
    screenshots.mkdir(parents=True, exist_ok=True)
    driver = str(web_setup.npm("playwright-core") / "playwright-core")
    command = [web_setup.node(), str(HERE / "web_demo.mjs"), web_setup.chromium(), driver]
    done = subprocess.run([*command, str(site), str(screenshots), *photos], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), bundle, photos


@pytest.mark.slow
@pytest.mark.real
def test_it_names_every_photo_as_python_does(found):
    said, bundle, photos = found
    assert said["opened"]["state"] == "ready"
    with sdk.load(bundle) as session:
        for photo, page in zip(photos, said["photos"], strict=True):
            wanted = session.classify(photo)
            assert page["labels"][0] == wanted[0].label, photo
            assert len(page["labels"]) == 5 and set(page["labels"]) & {row.label for row in wanted[:2]}
            assert re.fullmatch(r"[\d.]+ ms from pixels to answer", page["timing"])
            assert abs(float(page["shares"][0].split()[0]) / 100 - wanted[0].score) < 0.03


@pytest.mark.slow
@pytest.mark.real
def test_without_a_network_it_goes_on(found):
    said, _, _ = found
    assert said["offline"]["state"] == "ready" and said["offline"]["labels"] == said["photos"][0]["labels"]


@pytest.mark.slow
@pytest.mark.real
def test_what_fails_is_said_in_a_sentence(found):
    said, _, _ = found
    assert said["noPhoto"]["state"] == "error" and "no photo that this browser can decode" in said["noPhoto"]["message"]
    assert said["broken"]["state"] == "error" and "could not be loaded" in said["broken"]["message"]
    assert said["again"]["state"] == "ready"


@pytest.mark.slow
@pytest.mark.real
def test_there_are_pictures_of_it_in_light_and_dark(found):
    said, _, _ = found
    names = {Path(path).stem for path in said["screenshots"]}
    assert {"light", "dark", "ready-light", "error-dark", "narrow", "broken-narrow"} == names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in said["screenshots"])
