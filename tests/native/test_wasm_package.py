"""What ``npm pack`` makes of ``runtime/web``: its files, its types, and a page that Vite builds with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from sdk import Bundle
from tests.native import web_setup
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.slow
SOURCES = sorted(path.name for path in web_setup.WEB.glob("*.js"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The package as npm unpacks it, in a ``node_modules``."""
    web_setup.modules(), web_setup.node()
    folder = tmp_path_factory.mktemp("packed")
    subprocess.run(
        ["npm", "pack", "--pack-destination", str(folder), str(web_setup.WEB)], check=True, capture_output=True
    )
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / "node_modules").mkdir()
    shutil.move(folder / "package", folder / "node_modules/edgewright")
    return folder


def test_it_has_these_files_and_no_others(packed):
    root = packed / "node_modules/edgewright"
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    wasm = {f"dist/edgewright-{name}.wasm" for name in ("simd", "relaxed", "simd-every", "relaxed-every")}
    assert found == {*SOURCES, *wasm, "index.d.ts", "package.json", "README.md"}


def test_its_manifest_needs_nothing(packed):
    about = json.loads((packed / "node_modules/edgewright/package.json").read_text())
    assert (about["name"], about["type"], about["license"]) == ("edgewright", "module", "Apache-2.0")
    assert not {"dependencies", "peerDependencies", "scripts"} & about.keys()


def test_every_import_is_a_file_of_it(packed):
    root = packed / "node_modules/edgewright"
    for name in SOURCES:
        for target in re.findall(r'(?:from|new URL\()\s*"([^"]+)"', (root / name).read_text()):
            assert (root / target).is_file(), (name, target)


def test_the_types_say_what_is_there(packed):
    """The program uses every public name; what it marks as an error must be one."""
    (packed / "use.ts").write_text(
        'import { load, EdgewrightError, type Session, type LoadOptions, type TensorSpec } from "edgewright";\n'
        "const options: LoadOptions = { worker: false, signal: AbortSignal.timeout(9), progress: ({ loaded, total }) =>\n"
        '  console.log(loaded / total), cache: false, sha256: "", threads: 1, wasm: "/", build: "simd" };\n'
        'const session: Session = await load("m.edgez", options);\n'
        "const spec: TensorSpec = session.inputs[0];\n"
        "const { y } = await session.run({ [spec.name]: new Float32Array(4), b: { data: new BigInt64Array(1), shape: [1] } });\n"
        "const first: number | bigint = y.data[0];\n"
        "const milliseconds: number = (await session.steps())[0].seconds * 1e3 + (await session.memoryBytes());\n"
        'try { session.close(); } catch (e) { if (e instanceof EdgewrightError && e.code === "TRAPPED") throw e; }\n'
        "// @ts-expect-error a plain array is no typed array\n"
        "await session.run({ x: [1, 2] });\n"
        "// @ts-expect-error there is no such build\n"
        'await load("m.edgez", { build: "avx" });\n'
    )
    tsc = web_setup.npm("typescript") / ".bin" / "tsc"
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext", "--lib", "esnext,dom"]
    (packed / "package.json").write_text('{"type": "module"}')
    done = subprocess.run([web_setup.node(), str(tsc), *options, "use.ts"], cwd=packed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_example_builds_and_runs(packed, tmp_path):
    page = tmp_path / "page"
    shutil.copytree(web_setup.WEB / "example", page, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (page / "node_modules").mkdir()
    (page / "node_modules/edgewright").symlink_to(packed / "node_modules/edgewright")
    vite = web_setup.npm("vite") / "vite/bin/vite.js"
    done = subprocess.run([web_setup.node(), str(vite), "build"], cwd=page, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    names = [path.name for path in (page / "dist/assets").iterdir()]
    assert sorted(name.rsplit(".", 1)[1] for name in names) == ["js", "js", *["wasm"] * 4], names
    make_tiny_bundle(tmp_path)
    Bundle.open(tmp_path / "tiny.edge").pack(page / "dist/tiny.edgez")
    assert re.match(r"relaxed, [\d.]+ ms\n\w+ \[", _try_out(page / "dist"))


def _try_out(dist: Path) -> str:
    """What the built page says when a user chooses ``tiny.edgez``."""
    command = [
        web_setup.node(),
        str(Path(__file__).with_name("web_browser.mjs")),
        web_setup.chromium(),
        str(web_setup.npm("playwright-core") / "playwright-core"),
        str(web_setup.WEB),
        str(dist),
    ]
    script = (
        "const bytes = await (await fetch('/files/tiny.edgez')).blob();"
        "const transfer = new DataTransfer(); transfer.items.add(new File([bytes], 'tiny.edgez'));"
        "const input = document.querySelector('#file'); input.files = transfer.files;"
        "input.dispatchEvent(new Event('change'));"
        "const log = document.querySelector('#log');"
        "while (!log.textContent) await new Promise((resolve) => setTimeout(resolve, 20));"
        "return log.textContent;"
    )
    job = json.dumps({"page": "/files/index.html", "script": script}) + "\n"
    done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=120)
    answer = json.loads(done.stdout)
    assert "value" in answer, answer
    text: str = answer["value"]
    return text
