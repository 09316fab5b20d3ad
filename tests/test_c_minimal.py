"""The C app: the same classes as the session, on this machine and, with the installed runtime, under emulation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import sdk
from apps import assets
from edgewright_runtime.native_library import library_path
from tests.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).parents[1]
APP = ROOT / "apps" / "c_minimal"
PHOTOS = sorted((ROOT / "tests" / "golden" / "preprocess" / "photos").glob("*.jpg"))
TIMES = re.compile(r"photo \d+\.\d\d ms, model \d+\.\d\d ms \(least of 10 runs, one thread\), measured\n")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The program, built against the library that the tests use."""
    if not shutil.which("cc") or not Path("/usr/include/jpeglib.h").exists():
        pytest.skip("needs a C compiler and libjpeg: apt-get install gcc libjpeg-dev")
    program, library = tmp_path_factory.mktemp("app") / "c_minimal", Path(library_path())
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-g", f"-I{ROOT}/runtime/native/include"]
    command += [*map(str, APP.glob("*.c")), str(library), f"-Wl,-rpath,{library.parent}", "-ljpeg", "-o", str(program)]
    subprocess.run(command, check=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"), engine="native")


def same_as_session(run: Run, bundle: Path, photo: Path) -> None:
    """Labels in the same order; probabilities as far as they are printed, for decoders differ by a level."""
    done = run(bundle, photo)
    assert (done.returncode, done.stderr) == (0, "")
    *rows, times = done.stdout.splitlines(keepends=True)
    with sdk.load(bundle) as session:
        want = session.classify(photo)
    assert TIMES.fullmatch(times)
    for place, (row, expected) in enumerate(zip(rows, want, strict=True), 1):
        position, score, label = row.split(maxsplit=2)
        assert (int(position), label.strip()) == (place, expected.label)
        assert float(score) == pytest.approx(expected.score, abs=0.003)


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.name)
def test_every_kind_of_jpeg(app: Run, bundle: Path, photo: Path) -> None:
    """Grey, four inks, progressive, and every orientation."""
    same_as_session(app, bundle, photo)


def test_a_packed_bundle_without_labels(app: Run, tmp_path: Path) -> None:
    packed = sdk.Bundle.open(make_tiny_bundle(tmp_path, engine="native", labels=())).pack(tmp_path / "tiny.edgez")
    done = app(packed, PHOTOS[0])
    assert done.returncode == 0 and sorted(re.findall(r"class (\d)", done.stdout)) == ["0", "1", "2", "3"]


def test_what_is_no_jpeg_is_said(app: Run, bundle: Path, tmp_path: Path) -> None:
    data = PHOTOS[0].read_bytes()
    for content in (b"", b"no photo", data[:2], data[:20], data[: data.index(b"\xff\xda")]):
        (tmp_path / "x.jpg").write_bytes(content)
        done = app(bundle, tmp_path / "x.jpg")
        assert done.returncode == 1 and done.stdout == "" and "x.jpg': " in done.stderr
    done = app(bundle, tmp_path / "none.jpg")
    assert done.returncode == 1 and "No such file" in done.stderr


def test_damaged_exif_is_no_orientation(app: Run, bundle: Path, tmp_path: Path) -> None:
    """Every byte of the marker in turn: the program ends well, whatever the tag then says."""
    data = bytearray((PHOTOS[0].parent / "turned-6.jpg").read_bytes())
    start = data.index(b"Exif\0\0")
    for place in range(start, start - 2 + int.from_bytes(data[start - 2 : start], "big")):
        for value in (0, 0xFF):
            before, data[place] = data[place], value
            (tmp_path / "x.jpg").write_bytes(data)
            assert app(bundle, tmp_path / "x.jpg").returncode == 0, place
            data[place] = before


def test_what_is_no_bundle_is_said(app: Run, tmp_path: Path) -> None:
    done = app(tmp_path / "none.edge", PHOTOS[0])
    assert done.returncode == 1 and "none.edge" in done.stderr
    plain = make_tiny_bundle(tmp_path, engine="native", preprocess=False, labels=())
    done = app(plain, PHOTOS[0])
    assert done.returncode == 1 and "does not say how a photo" in done.stderr
    assert app(plain).returncode == 2


@pytest.mark.real
def test_efficientnet_lite0_on_photos(app: Run, tmp_path: Path) -> None:
    same_as_session_on_photos(app, efficientnet(tmp_path, "host:native"))


def efficientnet(folder: Path, device: str) -> Path:
    """A bundle of EfficientNet-Lite0 with a label a class."""
    torch = pytest.importorskip("torch", reason="exports a PyTorch model")
    from apps import models

    try:
        model = models.efficientnet_lite0()
        assets.folder("foolbox")
    except assets.Unreachable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"real models are not cached and cannot be downloaded: {error}")
    labels = [f"ImageNet {index}" for index in range(1000)]
    made = sdk.export(
        model,
        device,
        example_inputs=(torch.randn(1, 3, 224, 224),),
        preprocess=models.EFFICIENTNET_IMAGE,
        labels=labels,
        output=folder / "e.edge",
    )
    return made.path


def same_as_session_on_photos(run: Run, bundle: Path, count: int = 20) -> None:
    from apps import models

    for photo, _ in models.photos()[:count]:
        same_as_session(run, bundle, photo)


# With the cross compiler and the emulator


TRIPLE = "aarch64-linux-gnu.2.17"


@pytest.fixture(scope="module")
def arm_jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's libjpeg for arm64, header and static library, unpacked privately."""
    folder = tmp_path_factory.mktemp("jpeg")
    states = [folder / "state" / "lists" / "partial", folder / "cache" / "archives" / "partial"]
    for state in states:
        state.mkdir(parents=True)
    options = ["-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User=root"]
    options += ["-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache"]
    options += ["-o", "Dir::State::status=/dev/null"]
    for step in ("update", "download libjpeg62-turbo-dev"):
        try:
            subprocess.run(["apt-get", *options, *step.split()], cwd=folder, check=True, capture_output=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"Debian's libjpeg for arm64 cannot be downloaded: {error}")
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    usr = folder / "root" / "usr"
    shutil.copy(usr / "include" / "aarch64-linux-gnu" / "jconfig.h", usr / "include")
    return usr


@pytest.mark.slow
@pytest.mark.real
def test_efficientnet_lite0_on_an_emulated_board(arm_jpeg: Path, tmp_path: Path) -> None:
    """The archive of build-runtime, found by CMake, linked by the app, run as a Cortex-A57."""
    from sdk.build_runtime import build, toolchain, triples

    qemu, system = shutil.which("qemu-aarch64-static"), Path("/usr/aarch64-linux-gnu")
    if not qemu or not (system / "lib").is_dir():
        pytest.skip("needs qemu-user-static and libc6-arm64-cross")
    archive = build.build_runtime(TRIPLE, output=tmp_path / "runtime.tar.gz").path
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    runtime = next(tmp_path.glob(f"edgewright-*-{TRIPLE}"))
    made = toolchain.make_toolchain(triples.TRIPLES[TRIPLE], tmp_path)
    jpeg = (f"-DJPEG_INCLUDE_DIR={arm_jpeg}/include", f"-DJPEG_LIBRARY={arm_jpeg}/lib/aarch64-linux-gnu/libjpeg.a")
    build_folder = str(tmp_path / "build")
    made.run("-S", str(APP), "-B", build_folder, f"-DCMAKE_PREFIX_PATH={runtime}", *jpeg, *made.arguments)
    made.run("--build", build_folder)

    def emulated(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [qemu, "-cpu", "cortex-a57", "-L", str(system), f"{build_folder}/c_minimal", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    same_as_session_on_photos(emulated, efficientnet(tmp_path, "jetson-nano"), 3)
