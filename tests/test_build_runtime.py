"""``edgewright build-runtime``: what it says, and archives that are the same wherever they are made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import sdk
from edgewright_runtime import sources
from sdk.build_runtime import build, toolchain
from sdk.build_runtime.archive import write_archive
from sdk.build_runtime.triples import TRIPLES
from sdk.cli import main
from sdk.errors import DependencyError, OptionError, OutputError

ROOT = Path(__file__).parents[1]
NAME = f"edgewright-{sdk.__version__}"


def files(folder: Path, order: tuple[str, ...]) -> Path:
    for place, name in enumerate(order):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
        os.utime(path, (place * 1e6, place * 1e6))
        path.chmod(0o600 + place)
    return folder


def test_the_same_files_give_the_same_archive(tmp_path):
    names = ("lib/b.so", "include/a.h", "share/ä")
    for place, order in (("one", names), ("two", names[::-1])):
        write_archive(files(tmp_path / place, order), "top", tmp_path / f"{place}.tar.gz")
    content = (tmp_path / "one.tar.gz").read_bytes()
    assert content == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        found = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname) for m in archive.getmembers()]
        assert archive.extractfile("top/share/ä").read() == "share/ä".encode() * 1000
    modes = {"include/a.h": 0o644, "lib/b.so": 0o755, "share/ä": 0o644}
    assert found == [(f"top/{name}", mode, 0, 0, 0, "") for name, mode in modes.items()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "one.tar.gz", "two", "two.tar.gz"]


def test_an_unknown_triple_is_told_which_there_are(tmp_path):
    with pytest.raises(OptionError) as caught:
        build.build_runtime("aarch64-linux", output=tmp_path / "a.tar.gz")
    assert str(caught.value) == f"no triple 'aarch64-linux'; there are: {', '.join(TRIPLES)}"


def test_a_missing_compiler_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain, "installed", lambda name: None if name == "ziglang" else "1")
    with pytest.raises(DependencyError, match=r'^build-runtime needs ziglang: pip install "edgewright\[build\]"$'):
        build.build_runtime("aarch64-linux-musl", output=tmp_path / "a.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path):
    (tmp_path / "d.tar.gz").mkdir()
    for name, told in (("a.zip", "end in .tar.gz"), ("no/a.tar.gz", "does not exist"), ("d.tar.gz", "is a folder")):
        with pytest.raises(OutputError, match=told):
            build.build_runtime("aarch64-linux-musl", output=tmp_path / name)


def test_an_installation_without_sources_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "a" / "b" / "__init__.py"))
    with pytest.raises(DependencyError, match="sources are not beside"):
        sources.source_folder()


def test_what_the_compiler_says_is_shown(tmp_path):
    made = toolchain.Toolchain(Path(sys.executable), (), dict(os.environ))
    with pytest.raises(DependencyError, match=r"(?s)cmake -c ended with 3:\nline 1\n.*line 15$"):
        made.run("-c", "print(*[f'line {i}' for i in range(1, 16)], sep='\\n'); raise SystemExit(3)")


def test_the_command_prints_what_was_built(tmp_path, monkeypatch, capsys):
    built = build.Built(tmp_path / "a.tar.gz", "aarch64-linux-musl", 12, "lib/libedgewright.a", 34, "56")
    monkeypatch.setattr("sdk.cli.build_runtime.build_runtime", lambda triple, output: built)
    for options, told in (((), "12 bytes, lib/libedgewright.a 34 bytes"), (("--json",), '"library_bytes": 34')):
        with pytest.raises(SystemExit) as stop:
            main(["build-runtime", "--triple", "aarch64-linux-musl", *options])
        assert not stop.value.code and told in capsys.readouterr().out


# With the cross compiler


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What ``pip install`` makes of the project, elsewhere."""
    folder = tmp_path_factory.mktemp("installed")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("runtime", "export", "kernels_arm", "sdk", "device_profiles", "apps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "libedgewright.*"))
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", "site"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "site"


@pytest.mark.slow
@pytest.mark.parametrize("triple", ["aarch64-linux-gnu.2.17", "aarch64-linux-musl", "wasm32"])
def test_an_installation_elsewhere_builds_the_same_bytes(triple, installed, tmp_path):
    here = build.build_runtime(triple, output=tmp_path / "here.tar.gz")
    command = [sys.executable, "-c", "from sdk.cli import main; main()", "build-runtime", "--triple", triple, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "CFLAGS": "-O0", "DESTDIR": str(tmp_path / "no")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    there = json.loads(done.stdout)
    assert Path(there["path"]).name == f"{NAME}-{triple}.tar.gz"
    assert Path(there["path"]).read_bytes() == here.path.read_bytes()
    assert there["sha256"] == here.sha256 and (triple.endswith("musl") or here.library_bytes <= 500_000)
    with tarfile.open(here.path) as archive:
        library = archive.extractfile(f"{NAME}-{triple}/{TRIPLES[triple].library}").read()
    assert not any(str(folder).encode() in library for folder in (ROOT, installed))


PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(app C)
find_package(edgewright 0.1 REQUIRED)
add_executable(app app.c)
target_link_libraries(app edgewright::edgewright)
"""
APP = """
#include <stdio.h>
#include <edgewright.h>
int main(void) {
    edge_model *model;
    int status = edge_model_open_path("nothing.onnx", NULL, &model);
    return printf("%u %d %s\\n", edge_abi_version(), status, edge_last_error()), 0;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("triple", [name for name, row in TRIPLES.items() if row.package == "cmake"])
def test_an_app_finds_the_package(triple, tmp_path):
    """The app of x86-64 runs on this machine, those of ARM in the emulator."""
    archive = build.build_runtime(triple, output=tmp_path / "a.tar.gz").path
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"{NAME}-{triple}"
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {"include/edgewright.h", "share/doc/edgewright/LICENSE", TRIPLES[triple].library} < names
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "app.c").write_text(APP)
    made = toolchain.make_toolchain(TRIPLES[triple], tmp_path)
    made.run("-S", str(tmp_path), "-B", str(tmp_path / "b"), f"-DCMAKE_PREFIX_PATH={unpacked}", *made.arguments)
    made.run("--build", str(tmp_path / "b"))
    done = subprocess.run([*runner(triple), "b/app"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 6 ") and "nothing.onnx" in done.stdout


def runner(triple: str) -> list[str]:
    """What runs a program of the platform here; without it the test skips."""
    if triple.startswith("x86_64"):
        return []
    qemu = shutil.which("qemu-aarch64-static")
    if not qemu:
        pytest.skip("qemu-aarch64-static is not on this machine (Debian package qemu-user-static)")
    if triple.endswith("musl"):
        return [qemu]
    libraries = Path("/usr/aarch64-linux-gnu")
    if not (libraries / "lib").is_dir():
        pytest.skip(f"there is no {libraries} to run against (Debian package libc6-arm64-cross)")
    return [qemu, "-L", str(libraries)]
