"""``edgewright deploy`` to a folder and to a board, the board being a real ssh server on loopback."""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil

from device_profiles import Accelerator, DeviceProfile, EngineRow, Memory, device, devices
from device_profiles.errors import BundleError, DeviceError, OptionError
from device_profiles.record import structure
from edgewright_runtime.bundle import Measurement
from edgewright_runtime.bundle.pack import pack
from edgewright_runtime.bundle.seal import open_bundle
from edgewright_runtime.native_library import library_path
from edgewright_runtime.preprocess import Image
from edgewright_runtime.session import load
from sdk.bundle import Bundle
from sdk.cli import main
from sdk.deploy import needs as needs_module
from sdk.deploy import onto_board, runtime, ssh
from sdk.deploy.address import parse_address, remote_folder
from sdk.deploy.board import edge_run
from sdk.deploy.folder import SCRIPTS, bundle_name, deploy_folder, fill, scripts
from sdk.deploy.needs import needs_of
from tests.loopback_ssh import SSHD, Server, cut_after, free_port, make_key, serve
from tests.native.small_models import batched_linear, batched_linear_result
from tests.tiny_bundle import LABELS, make_tiny_bundle

pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny bundle runs in onnxruntime")

RUNNER = Path(edge_run.__file__)
needs_sshd = pytest.mark.skipif(SSHD is None, reason="there is no sshd: apt-get install openssh-server")


# Fixtures.


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def bundle(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "tiny.edge"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 256, (37, 61, 4), dtype=np.uint8)
    rgb = pil.fromarray(noise[..., :3])
    turned = pil.Exif()
    turned[274] = 6
    made: dict[str, tuple[pil.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}),
        "rgba.png": (pil.fromarray(noise), {}),
        "gray.png": (rgb.convert("L"), {}),
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "turned.png": (rgb, {"exif": turned}),
        "exact.png": (rgb.crop((0, 0, 9, 9)), {}),
        "one.png": (rgb.crop((0, 0, 1, 1)), {}),
        "line.png": (rgb.crop((0, 0, 61, 1)), {}),
    }
    for name, (photo, options) in made.items():
        photo.save(folder / name, **options)
    return {name: folder / name for name in made}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def deployed(sealed: Path, tmp_path: Path) -> Path:
    deploy_folder(sealed, tmp_path / "out")
    return tmp_path / "out"


def script(path: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a deployed script under this Python."""
    settings = {**os.environ, "EDGEWRIGHT_PYTHON": sys.executable, **environment}
    command = ["sh", str(path), *map(str, arguments)]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=120)


def told(folder: Path, *arguments: object) -> dict[str, Any]:
    done = script(folder / "run.sh", "--quick", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def executable(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# To a folder.


def test_folder_holds_bundle_and_scripts(cli: Any, bundle: Path, tmp_path: Path) -> None:
    (bundle / "measurements").mkdir()
    (bundle / "measurements" / "old.json").write_text("{}")
    code, out, _ = cli("deploy", bundle, "--to", tmp_path / "out", "--json")
    said = json.loads(out)
    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*SCRIPTS, "deployment.json", "tiny.edge"}
    assert open_bundle(tmp_path / "out" / "tiny.edge").manifest_sha256 == said["manifest_sha256"]
    assert not (tmp_path / "out" / "tiny.edge" / "measurements").exists()
    assert said["bytes"] == sum(map(len, contents(tmp_path / "out").values()))
    assert said["install"] == "python3 -m pip install onnxruntime numpy Pillow"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_plain_output_says_what_comes_next(cli: Any, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = cli("deploy", bundle, "--to", tmp_path / "out")
    assert code == 0 and "every hash checked" in out and "sh install.sh; sh run.sh photo.jpg" in out


def test_packed_bundle_is_unpacked(bundle: Path, tmp_path: Path) -> None:
    names = ["manifest.json", *sorted(Bundle.open(bundle).manifest.files), "manifest.sha256"]
    pack(bundle, names, tmp_path / "packed.edgez")
    deploy_folder(tmp_path / "packed.edgez", tmp_path / "out")
    assert contents(tmp_path / "out" / "packed.edge") == contents(bundle)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/m.edge", "m.edge"),
        ("m.edgez", "m.edge"),
        ("m", "m.edge"),
        (".edge", "model.edge"),
        ("a b.edge/", "a b.edge"),
    ],
)
def test_bundle_name(path: str, name: str) -> None:
    assert bundle_name(Path(path)) == name


def test_earlier_deployment_is_replaced(sealed: Path, deployed: Path, tmp_path: Path) -> None:
    (deployed / "tiny.edge" / "model.onnx").write_bytes(b"damaged")
    deploy_folder(sealed, deployed)
    assert script(deployed / "verify.sh").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_empty_folder_is_filled(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    deploy_folder(sealed, tmp_path / "out")
    assert script(tmp_path / "out" / "verify.sh").returncode == 0


def test_deploying_a_deployment_onto_itself(deployed: Path) -> None:
    deploy_folder(deployed / "tiny.edge", deployed)
    assert script(deployed / "verify.sh").returncode == 0


def _file(out: Path, bundle: Path) -> Path:
    out.write_text("precious")
    return out


def _full(out: Path, bundle: Path) -> Path:
    out.mkdir()
    (out / "photo.jpg").write_text("precious")
    return out


def _ours_and_more(out: Path, bundle: Path) -> Path:
    deploy_folder(bundle, out)
    (out / "photo.jpg").write_text("precious")
    return out


def _lookalike(out: Path, bundle: Path) -> Path:
    out.mkdir()
    (out / "deployment.json").write_text('{"tool": "other", "files": {}, "bundle": "x.edge"}')
    return out


def _link(out: Path, bundle: Path) -> Path:
    (out.parent / "elsewhere").mkdir()
    out.symlink_to("elsewhere")
    return out


REFUSED = [
    (_file, "is not a folder"),
    (_full, "not an earlier deployment"),
    (_ours_and_more, "also holds photo.jpg"),
    (_lookalike, "not an earlier deployment"),
    (_link, "is a link"),
    (lambda out, bundle: out / "deeper", "does not exist"),
    (lambda out, bundle: bundle, "not an earlier deployment"),
    (lambda out, bundle: bundle / "out", "inside the bundle"),
    (lambda out, bundle: Path("/proc/edgewright-out"), "cannot write in /proc"),
    (lambda out, bundle: Path("/"), "not an earlier deployment"),
]


@pytest.mark.parametrize(("prepare", "message"), REFUSED)
def test_refused_output_is_left_alone(cli: Any, bundle: Path, tmp_path: Path, prepare: Any, message: str) -> None:
    out = prepare(tmp_path / "out", bundle)
    before = contents(tmp_path)
    code, _, err = cli("deploy", bundle, "--to", out)
    assert code == 1 and err.startswith("edgewright: OutputError: ") and message in err
    assert contents(tmp_path) == before


def test_folder_without_write_permission(cli: Any, bundle: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o555)
    code, _, err = cli("deploy", bundle, "--to", tmp_path / "closed" / "out")
    assert code == 1 and "OutputError" in err


def test_full_disk_leaves_nothing(cli: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    code, _, err = cli("deploy", bundle, "--to", tmp_path / "out")
    assert code == 1 and "OutputError" in err and "No space left" in err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.edge"]


@pytest.mark.parametrize("path", ["", "missing.edge", "tiny.edge/labels.txt"])
def test_not_a_bundle(cli: Any, bundle: Path, tmp_path: Path, path: str) -> None:
    code, _, err = cli("deploy", tmp_path / path, "--to", tmp_path / "out")
    assert code == 1 and err.startswith("edgewright: BundleError: ")
    assert not (tmp_path / "out").exists()


def test_damaged_bundle_is_not_deployed(cli: Any, bundle: Path, tmp_path: Path) -> None:
    with open(bundle / "model.onnx", "r+b") as file:
        file.write(b"x")
    code, _, err = cli("deploy", bundle, "--to", tmp_path / "out")
    assert code == 1 and "BundleError" in err and "model.onnx has changed" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--to", "out", "--board", "ssh://board"),
        ("--to", "out", "--photo", "a.jpg"),
        ("--to", "out", "--dir", "a", "--save"),
        ("--to", "out", "--no-install"),
        ("--board", "ssh://board", "--threads", "0"),
    ],
)
def test_wrong_usage(cli: Any, bundle: Path, arguments: tuple[str, ...]) -> None:
    assert cli("deploy", bundle, *arguments)[0] == 2


# What a board needs.


def profile(**changes: Any) -> DeviceProfile:
    fields: dict[str, Any] = {
        "id": "test-board", "name": "Test board", "kind": "board", "soc": "none", "core_groups": (),
        "memory": Memory((1 << 30,)), "engines": (EngineRow("onnxruntime", "onnx", "runs", ""),),
        "os": "Linux", "libc": "glibc 2.17", "sources": {},
    }  # fmt: skip
    return DeviceProfile(**{**fields, **changes})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes every device name lead to one profile."""

    def register(accelerator: Accelerator | None = None, **changes: Any) -> None:
        choice = needs_module.choose("host")
        chosen = type(choice)(profile(**changes), accelerator=accelerator)
        monkeypatch.setattr(needs_module, "choose", lambda name: chosen)

    return register


VENV = "python3 -m venv ~/edgewright && . ~/edgewright/bin/activate"


@pytest.mark.parametrize(
    ("install", "command"),
    [
        ("pip install onnxruntime", "python3 -m pip install onnxruntime numpy Pillow"),
        (
            "python3.6 -m pip install onnxruntime==1.10.0 Pillow numpy",
            "python3.6 -m pip install onnxruntime==1.10.0 Pillow numpy",
        ),
        ("pip3 install 'ort<2' numpy==1.19", "python3 -m pip install 'ort<2' numpy==1.19 Pillow"),
        ("sudo apt-get install x", "sudo apt-get install x && python3 -m pip install numpy Pillow"),
        ("pip install a && echo done", "pip install a && echo done && python3 -m pip install numpy Pillow"),
        (f"{VENV} && python3 -m pip install ort==2 Pillow", f"{VENV} && python3 -m pip install ort==2 Pillow numpy"),
        ("echo a; pip install b", "echo a; pip install b && python3 -m pip install numpy Pillow"),
        ("pip install $WHEEL", "pip install $WHEEL && python3 -m pip install numpy Pillow"),
        ("it's broken", "it's broken && python3 -m pip install numpy Pillow"),
        ("", "python3 -m pip install numpy Pillow"),
    ],
)
def test_install_command(known: Any, sealed: Path, install: str, command: str) -> None:
    known(engines=(EngineRow("onnxruntime", "onnx", "runs", "", install=install),))
    needs = needs_of(Bundle.open(sealed).manifest)
    assert needs.command == command
    assert fill("@INSTALL@|@PYTHON@", needs).endswith(f"|{needs.python}")


def test_bundle_without_photos_needs_no_pillow(tmp_path: Path) -> None:
    manifest = Bundle.open(make_tiny_bundle(tmp_path, preprocess=False)).manifest
    assert needs_of(manifest).command == "python3 -m pip install onnxruntime numpy"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "browser"}, "edgewright pack"),
        ({"engines": (EngineRow("litert", "tflite", "runs", ""),)}, "has: litert (tflite, runs)"),
        ({"engines": (EngineRow("onnxruntime", "onnx", "not-used", ""),)}, "has: onnxruntime (onnx, not-used)"),
        ({"engines": ()}, "has: none"),
        ({"accelerator": Accelerator("GPU", "export-only", "TensorRT", command="trtexec --onnx=m.onnx")}, "trtexec"),
    ],
)
def test_device_that_cannot_run_it(known: Any, sealed: Path, changes: dict[str, Any], message: str) -> None:
    known(**changes)
    with pytest.raises(DeviceError, match=re.escape(message)):
        needs_of(Bundle.open(sealed).manifest)


def test_unknown_device(cli: Any, tmp_path: Path) -> None:
    foreign = make_tiny_bundle(tmp_path, device="no-such-board")
    code, _, err = cli("deploy", foreign, "--to", tmp_path / "out")
    assert code == 1 and "DeviceError" in err and not (tmp_path / "out").exists()


def fake_python(path: Path, kind: str, pip: str = "[24, 0]") -> Path:
    """A Python that says what it is, logs what it is asked, and makes environments that do the same."""
    python = f"""\
        #!/bin/sh
        echo "$0 $*" >> {shlex.quote(str(path.parent / "log"))}
        case "$1 $2" in
            *EXTERNALLY-MANAGED*) echo {kind} ;;
            *"import pip"*) [ "{pip}" = "[24, 0]" ] ;;
            "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
            "-m pip") [ "{pip}" != none ] ;;
        esac
    """
    return executable(path, python)


@pytest.mark.parametrize(("kind", "inside"), [("managed", True), ("open", False), ("inside", False)])
def test_install_makes_an_environment_where_needed(deployed: Path, tmp_path: Path, kind: str, inside: bool) -> None:
    python = fake_python(tmp_path / "python", kind)
    done = script(deployed / "install.sh", EDGEWRIGHT_PYTHON=str(python), HOME=str(tmp_path))
    used = tmp_path / "edgewright" / "bin" / "python" if inside else python
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().splitlines()[-1] == f"{used} -m pip install onnxruntime numpy Pillow"


def test_install_makes_the_environment_that_the_profile_asks_for(known: Any, sealed: Path, tmp_path: Path) -> None:
    known(engines=(EngineRow("onnxruntime", "onnx", "runs", "", install=f"{VENV} && python3 -m pip install ort"),))
    deploy_folder(sealed, tmp_path / "out")
    (tmp_path / "bin").mkdir()
    fake_python(tmp_path / "bin" / "python3", "open")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = script(tmp_path / "out" / "install.sh", EDGEWRIGHT_PYTHON="", HOME=str(tmp_path), PATH=path)
    made = tmp_path / "edgewright" / "bin" / "python"
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bin" / "log").read_text().splitlines()[-1] == f"{made} -m pip install ort numpy Pillow"
    script(tmp_path / "out" / "run.sh", "x.jpg", EDGEWRIGHT_PYTHON="", HOME=str(tmp_path), PATH=path)
    assert (tmp_path / "bin" / "log").read_text().splitlines()[-1].startswith(f"{made} ")


def test_old_pip_is_renewed_first(deployed: Path, tmp_path: Path) -> None:
    python = fake_python(tmp_path / "python", "open", pip="[9, 0]")
    assert script(deployed / "install.sh", EDGEWRIGHT_PYTHON=str(python)).returncode == 0
    first, second = (tmp_path / "log").read_text().splitlines()[-2:]
    assert first.endswith("--upgrade pip<22") and ("--user" in first) == (os.geteuid() != 0)
    assert second.endswith("-m pip install onnxruntime numpy Pillow")


def test_python_without_pip_or_venv(deployed: Path, tmp_path: Path) -> None:
    python = fake_python(tmp_path / "python", "open", pip="none")
    done = script(deployed / "install.sh", EDGEWRIGHT_PYTHON=str(python))
    assert done.returncode == 4 and "apt-get install python3-pip" in done.stderr
    broken = executable(tmp_path / "broken", '#!/bin/sh\n[ "$1" = -c ] && echo managed\n')
    done = script(deployed / "install.sh", EDGEWRIGHT_PYTHON=str(broken), HOME=str(tmp_path))
    assert done.returncode == 4 and "apt-get install python3-venv" in done.stderr


BOARD_ROWS = [
    (profile, row)
    for profile in devices()
    if profile.kind in ("board", "pc")
    for row in profile.engines
    if row.status == "runs" and row.install
]


@pytest.mark.parametrize(("board", "row"), BOARD_ROWS, ids=lambda part: getattr(part, "id", getattr(part, "name", "")))
def test_every_board_is_installed_by_pip_alone(board: DeviceProfile, row: EngineRow) -> None:
    needs = needs_module._needs(board, row, ["numpy", "Pillow"])
    assert needs.script.startswith('"$PYTHON" -m pip install ') and "\n" not in needs.script
    for name, text in scripts(needs):
        if name.endswith(".sh"):
            assert "@" not in re.sub(r'"\$@"', "", text)
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)


# The runner.


def test_runner_is_python_3_6_and_needs_nothing_to_start() -> None:
    tree = ast.parse(RUNNER.read_text(encoding="utf-8"), feature_version=(3, 6))
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert top <= set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_photos_become_identical_floats(photos: dict[str, Path], resize: Any, crop: float, layout: Any) -> None:
    image = Image(
        size=9, resize=resize, crop=crop, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout=layout
    )
    record = json.loads(json.dumps(vars(image)))
    for path in photos.values():
        np.testing.assert_array_equal(edge_run.load_photo(str(path), record), image.load(path))


def test_old_pillow_turns_photos_upright_too(photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageOps

    upright = np.asarray(edge_run.open_photo(str(photos["turned.png"])))
    monkeypatch.delattr(ImageOps, "exif_transpose")
    np.testing.assert_array_equal(np.asarray(edge_run.open_photo(str(photos["turned.png"]))), upright)


def test_outputs_equal_the_sessions(sealed: Path, deployed: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    said = told(deployed, "--out", tmp_path / "o", *photos.values())
    session = load(sealed)
    for position, (path, result) in enumerate(zip(photos.values(), said["results"], strict=True)):
        expected = session.classify(path)
        assert [(g["index"], g["label"], g["score"]) for g in result["top"]] == [
            (p.index, p.label, p.score) for p in expected
        ]
        image = Bundle.open(sealed).manifest.preprocess["image"]
        logits = session.run(image.load(path))["logits"]
        np.testing.assert_array_equal(np.load(tmp_path / "o" / f"{position}-logits.npy"), logits)


def test_timing_is_complete(deployed: Path, photos: dict[str, Path]) -> None:
    done = script(deployed / "run.sh", "--json", photos["rgb.png"])
    said = json.loads(done.stdout)
    timing = said["timing"]
    assert timing["kind"] == "measured" and timing["n"] == len(said["samples_s"]) >= 50
    assert sum(said["samples_s"]) >= 1.0
    assert 0 < timing["min_s"] <= timing["median_s"] <= timing["p90_s"]
    assert said["threads"] == 1 and said["engine"] == "onnxruntime" and said["warnings"] == []


def test_plain_output_has_labels_and_milliseconds(deployed: Path, photos: dict[str, Path]) -> None:
    done = script(deployed / "run.sh", "--quick", "--threads", "2", photos["rgb.png"])
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == str(photos["rgb.png"]) and {line.split()[1] for line in lines[1:5]} == set(LABELS)
    assert " ms, n " in lines[5] and "2 threads" in lines[5] and "measured on" in lines[5]


def test_arrays_and_made_up_inputs(sealed: Path, deployed: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    expected = load(sealed).run(array)["logits"]
    for argument in (tmp_path / "x.npy", f"image={tmp_path / 'x.npy'}"):
        told(deployed, "--out", tmp_path / "o", argument)
        np.testing.assert_array_equal(np.load(tmp_path / "o" / "0-logits.npy"), expected)
    (result,) = told(deployed)["results"]
    assert result["input"] == "made-up inputs" and result["outputs"][0]["shape"] == [1, 4] and "top" not in result


def test_bundle_without_labels_or_preprocess(tmp_path: Path, photos: dict[str, Path]) -> None:
    deploy_folder(make_tiny_bundle(tmp_path, preprocess=False, labels=()), tmp_path / "out")
    assert told(tmp_path / "out")["results"][0]["outputs"][0]["name"] == "logits"
    done = script(tmp_path / "out" / "run.sh", photos["rgb.png"])
    assert done.returncode == edge_run.INPUT and "has no preprocess" in done.stderr


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "has dtype float64, expected float32"),
        (np.zeros((1, 3, 8, 9), np.float32), "has shape (1, 3, 8, 9)"),
        (np.zeros((3, 8, 8), np.float32), "has shape (3, 8, 8)"),
        (np.array([None]), "cannot read an array"),
        (b"", "cannot read an array"),
        (None, "cannot read an array"),
    ],
)
def test_wrong_arrays(deployed: Path, tmp_path: Path, array: Any, message: str) -> None:
    path = tmp_path / "x.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array)
    done = script(deployed / "run.sh", path)
    assert done.returncode == edge_run.INPUT and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("data", [b"", b"not a photo", b"\x89PNG\r\n\x1a\n", None])
def test_wrong_photos(deployed: Path, tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    done = script(deployed / "run.sh", tmp_path / "a.jpg")
    assert done.returncode == edge_run.INPUT and "cannot read a photo" in done.stderr and "Traceback" not in done.stderr


def test_several_inputs_are_named() -> None:
    inputs = [
        {"name": "a", "dtype": "float32", "shape": ["n", 2], "bounds": {"n": {"min": 1, "max": 3}}},
        {"name": "b", "dtype": "int64", "shape": ["n"], "bounds": {"n": {"min": 1, "max": 3}}},
    ]
    made = edge_run.make_up(inputs)
    assert [(m.shape, str(m.dtype)) for m in made] == [((3, 2), "float32"), ((3,), "int64")]
    edge_run.bind({"a": made[0], "b": made[1]}, inputs)
    for arrays, message in (
        ({"a": made[0]}, "'b' is missing"),
        ({"a": made[0][:2], "b": made[1]}, "dimension 'n' is 2 and 3 at once"),
        ({"a": np.zeros((4, 2), np.float32), "b": made[1]}, "has shape"),
    ):
        with pytest.raises(edge_run.Failure, match=message):
            edge_run.bind(arrays, inputs)
    with pytest.raises(edge_run.Failure, match=r"name=file\.npy"):
        edge_run.one_run("x.npy", {"entries": {"main": {"inputs": inputs}}})
    with pytest.raises(edge_run.Failure, match="not both"):
        edge_run.make_runs(["a=x.npy", "y.npy"], {"entries": {"main": {"inputs": inputs}}})


def test_missing_engine_names_the_install_command(deployed: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError(\"No module named 'onnxruntime'\")")
    done = script(deployed / "run.sh", PYTHONPATH=str(tmp_path))
    assert done.returncode == edge_run.MISSING
    assert "python3 -m pip install onnxruntime numpy Pillow" in done.stderr
    assert script(deployed / "verify.sh", PYTHONPATH=str(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    ("low", "high", "version", "warned"),
    [
        ("1.10.0", None, "1.9.0", "older"),
        ("1.10.0", None, "1.10.0", ""),
        ("1.0", "1.10", "1.10.3", ""),
        ("1.0", "1.10", "1.11", "newer"),
        ("", "", "unknown", ""),
    ],
)
def test_engine_outside_its_range_is_a_warning(low: str, high: str | None, version: str, warned: str) -> None:
    manifest = {"engine": {"name": "onnxruntime", "min_version": low, "max_version": high}}
    assert warned in " ".join(edge_run.outdated(manifest, "onnxruntime", version) or [""])
    assert edge_run.outdated(manifest, "tflite_runtime", "0.1") == []


def test_lacking_processor_features_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_run, "cpu_features", lambda: {"asimd"})
    manifest = {"engine": {"name": "onnxruntime", "cpu_features": ["asimd", "i8mm"]}}
    with pytest.raises(edge_run.Failure, match="lacks i8mm"):
        edge_run.open_engine("", manifest, 1)


# Damage: the runner refuses what the sessions refuse.


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _relink(path: Path) -> None:
    moved = path.parents[2] / "moved"
    path.rename(moved)
    path.symlink_to(moved)


def _reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads((folder / "manifest.json").read_bytes())
    change(plain)
    data = json.dumps(plain).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_text(edge_run.hashlib.sha256(data).hexdigest() + "\n")


ATTACKS: dict[str, Callable[[Path], object]] = {
    "changed": lambda f: _flip(f / "model.onnx"),
    "longer": lambda f: _append(f / "model.onnx"),
    "empty": lambda f: (f / "model.onnx").write_bytes(b""),
    "missing": lambda f: (f / "labels.txt").unlink(),
    "unlisted": lambda f: (f / "extra.bin").write_bytes(b""),
    "unlisted below": lambda f: ((f / "sub").mkdir(), (f / "sub" / "extra.bin").write_bytes(b"")),
    "linked": lambda f: _relink(f / "model.onnx"),
    "manifest changed": lambda f: _flip(f / "manifest.json"),
    "manifest missing": lambda f: (f / "manifest.json").unlink(),
    "hash missing": lambda f: (f / "manifest.sha256").unlink(),
    "hash without newline": lambda f: (f / "manifest.sha256").write_bytes((f / "manifest.sha256").read_bytes()[:-1]),
    "manifest linked": lambda f: _relink(f / "manifest.json"),
    "newer major": lambda f: _reseal(f, lambda m: m.update(schema="2.0")),
    "no schema": lambda f: _reseal(f, lambda m: m.pop("schema")),
    "no files": lambda f: _reseal(f, lambda m: m.pop("files")),
    "no main": lambda f: _reseal(f, lambda m: m.update(entries={})),
    "leaves": lambda f: _reseal(f, lambda m: m["files"].update({"../x": m["files"]["labels.txt"]})),
    "absolute": lambda f: _reseal(f, lambda m: m["files"].update({"/etc/passwd": m["files"]["labels.txt"]})),
    "reserved": lambda f: _reseal(f, lambda m: m["files"].update({"report.html": m["files"]["labels.txt"]})),
    "used but not listed": lambda f: _reseal(f, lambda m: m["files"].pop("labels.txt")),
    "not an object": lambda f: _reseal(f, lambda m: m.update(files=[])),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_damage_is_refused_as_by_the_sessions(deployed: Path, attack: str) -> None:
    folder = deployed / "tiny.edge"
    ATTACKS[attack](folder)
    with pytest.raises(BundleError):
        open_bundle(folder)
    for name in ("verify.sh", "run.sh"):
        done = script(deployed / name)
        assert (done.returncode, done.stdout) == (edge_run.DAMAGED, ""), done.stderr
        assert "Traceback" not in done.stderr and "deploy" in done.stderr


def test_files_beside_the_core_are_allowed(deployed: Path) -> None:
    (deployed / "tiny.edge" / "report.html").write_text("x")
    (deployed / "tiny.edge" / "measurements").mkdir()
    (deployed / "tiny.edge" / "measurements" / "a.json").write_text("{}")
    assert script(deployed / "verify.sh").returncode == 0


@pytest.mark.parametrize("name", ["run.sh", "install.sh", "python.sh"])
def test_changed_scripts_are_found(deployed: Path, name: str) -> None:
    _append(deployed / name)
    done = script(deployed / "verify.sh")
    assert done.returncode != 0
    assert name == "python.sh" or f"{name} has changed" in done.stderr


def test_another_bundle_in_the_folder_is_found(deployed: Path) -> None:
    _reseal(deployed / "tiny.edge", lambda m: m.update(changes=["other"]))
    done = script(deployed / "verify.sh")
    assert done.returncode == edge_run.DAMAGED and "not the one that deployment.json names" in done.stderr


def test_two_bundles_must_be_told_apart(deployed: Path) -> None:
    shutil.copytree(deployed / "tiny.edge", deployed / "other.edge")
    assert "name it with --bundle" in script(deployed / "run.sh").stderr
    assert script(deployed / "run.sh", "--quick", "--bundle", deployed / "other.edge").returncode == 0


# The native engine, which travels with the bundle.


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment with this machine's own library in place of one that is built for a board."""

    def installed_library(triple: str, output: Path) -> Path:
        assert triple == runtime.triple_of(device("host"))
        return Path(shutil.copyfile(library_path(), output))

    monkeypatch.setattr(runtime, "runtime_library", installed_library)
    deploy_folder(make_tiny_bundle(tmp_path, engine="native"), tmp_path / "out")
    return tmp_path / "out"


def test_native_engine_lies_beside_the_bundle(native: Path) -> None:
    record = json.loads((native / "deployment.json").read_text())
    brought = {"libedgewright.so", "native_library.py"}
    assert {path.name for path in native.iterdir()} == {*SCRIPTS, *brought, "deployment.json", "tiny.edge"}
    assert set(record["files"]) == {*SCRIPTS, *brought}
    assert record["install"] == "python3 -m pip install numpy Pillow"
    assert script(native / "verify.sh").returncode == 0
    _flip(native / "libedgewright.so")
    done = script(native / "verify.sh")
    assert done.returncode == edge_run.DAMAGED and "libedgewright.so has changed" in done.stderr


def check_native_run(folder: Path, photos: dict[str, Path], **environment: str) -> None:
    out = folder.parent / "o"
    done = script(
        folder / "run.sh", "--quick", "--json", "--out", out, *photos.values(), PYTHONPATH="", **environment
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["engine"], said["engine_version"], said["warnings"]) == ("native", "0.1.0", [])
    session, image = load(folder / "tiny.edge"), Bundle.open(folder / "tiny.edge").manifest.preprocess["image"]
    for position, (path, result) in enumerate(zip(photos.values(), said["results"], strict=True)):
        expected = session.run(image.load(path))["logits"]
        np.testing.assert_array_equal(np.load(out / f"{position}-logits.npy"), expected)
        assert [g["label"] for g in result["top"]] == [p.label for p in session.classify(path)]


def test_native_engine_runs_what_the_session_runs(native: Path, photos: dict[str, Path]) -> None:
    check_native_run(native, photos)


def test_native_engine_runs_under_the_oldest_python(native: Path, photos: dict[str, Path], old_python: str) -> None:
    check_native_run(native, photos, EDGEWRIGHT_PYTHON=old_python)


def test_native_engine_takes_the_bounds_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(library_path()).parent))
    (tmp_path / "m.onnx").write_bytes(batched_linear())
    spec = {"name": "x", "binding": "x", "shape": ["n", 4], "bounds": {"n": {"min": 1, "max": 5}}}
    run, engine, _ = edge_run.open_native(str(tmp_path / "m.onnx"), {"inputs": [spec]}, 1)
    assert engine == "native"
    for batch in (1, 5):
        x = np.ones((batch, 4), np.float32)
        np.testing.assert_allclose(run([x])[0], batched_linear_result(x), rtol=1e-5)


def test_a_missing_native_library_says_so(native: Path) -> None:
    (native / "libedgewright.so").unlink()
    done = script(native / "run.sh")
    assert done.returncode == edge_run.ENGINE and "libedgewright.so" in done.stderr
    (native / "native_library.py").unlink()
    done = script(native / "run.sh", PYTHONPATH="")
    assert done.returncode == edge_run.MISSING and "native_library.py is not usable" in done.stderr


def test_every_board_of_the_native_engine_has_a_build() -> None:
    boards = [
        p for p in devices() if p.kind == "board" for row in p.engines if (row.name, row.status) == ("native", "runs")
    ]
    assert {runtime.triple_of(board) for board in boards} == {"aarch64-linux-gnu.2.17"}
    with pytest.raises(DeviceError, match="built for .*browser-chromium has wasm32; pin another engine"):
        runtime.triple_of(device("browser-chromium"))


@pytest.mark.slow
def test_the_jetson_nano_gets_a_library_of_its_kind(tmp_path: Path) -> None:
    deploy_folder(make_tiny_bundle(tmp_path, device="jetson-nano", engine="native"), tmp_path / "out")
    library = (tmp_path / "out" / "libedgewright.so").read_bytes()
    aarch64 = 183
    assert (library[:4], int.from_bytes(library[18:20], "little")) == (b"\x7fELF", aarch64)
    needed = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", library)}
    assert needed and max(needed) <= (2, 17)
    assert script(tmp_path / "out" / "verify.sh").returncode == 0


# The oldest board: Python 3.6 and ONNX Runtime 1.10.


@pytest.fixture(scope="session")
def old_python() -> str:
    python = os.environ.get("EDGEWRIGHT_ORT110_PYTHON")
    if not python:
        pytest.skip("EDGEWRIGHT_ORT110_PYTHON does not name a Python 3.6 that has onnxruntime 1.10")
    if subprocess.run([python, "-c", "import PIL, numpy, onnxruntime"], check=False, capture_output=True).returncode:
        pytest.skip(f"{python} lacks onnxruntime, numpy or Pillow")
    return python


def test_old_python_runs_and_agrees(
    sealed: Path, deployed: Path, photos: dict[str, Path], tmp_path: Path, old_python: str
) -> None:
    done = script(
        deployed / "run.sh", "--quick", "--json", "--out", tmp_path / "o", *photos.values(),
        EDGEWRIGHT_PYTHON=old_python, PYTHONPATH="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    session, image = load(sealed), Bundle.open(sealed).manifest.preprocess["image"]
    for position, (path, result) in enumerate(zip(photos.values(), said["results"], strict=True)):
        expected = session.run(image.load(path))["logits"]
        np.testing.assert_allclose(np.load(tmp_path / "o" / f"{position}-logits.npy"), expected, rtol=1e-5, atol=1e-5)
        assert [g["label"] for g in result["top"]] == [p.label for p in session.classify(path)]


def test_old_python_makes_identical_floats(photos: dict[str, Path], tmp_path: Path, old_python: str) -> None:
    program = (
        "import json, sys, edge_run, numpy\n"
        "record, out, paths = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]\n"
        "numpy.savez(out, *[edge_run.load_photo(path, record) for path in paths])\n"
    )
    for resize in ("nearest", "bilinear", "bicubic", "lanczos"):
        image = Image(size=9, resize=resize, crop=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        out = tmp_path / f"{resize}.npz"
        command = [old_python, "-c", program, json.dumps(vars(image)), str(out), *map(str, photos.values())]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(RUNNER.parent)})
        with np.load(out) as arrays:
            for index, path in enumerate(photos.values()):
                np.testing.assert_array_equal(arrays[f"arr_{index}"], image.load(path), err_msg=path.name)


def test_old_python_verifies_and_refuses(deployed: Path, old_python: str) -> None:
    assert script(deployed / "verify.sh", EDGEWRIGHT_PYTHON=old_python).returncode == 0
    _flip(deployed / "tiny.edge" / "model.onnx")
    assert script(deployed / "verify.sh", EDGEWRIGHT_PYTHON=old_python).returncode == edge_run.DAMAGED


# Addresses and folders.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ssh://user@board", ("user", "board", None)),
        ("ssh://board:2222", (None, "board", 2222)),
        ("ssh://User@My-Alias:22/", ("User", "My-Alias", 22)),
        ("ssh://a@10.0.0.7", ("a", "10.0.0.7", None)),
        ("ssh://a@[fe80::1%eth0]:22", ("a", "fe80::1%eth0", 22)),
        ("ssh://[::1]", (None, "::1", None)),
    ],
)
def test_addresses(text: str, parts: tuple[Any, ...]) -> None:
    address = parse_address(text)
    assert (address.user, address.host, address.port) == parts
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "board", "http://board", "ssh://", "ssh://@board", "ssh://user@", "ssh://-oProxyCommand=x", "ssh://a@-x",
        "ssh://-l@board", "ssh://user:secret@board", "ssh://a@b@c", "ssh://board:0", "ssh://board:65536",
        "ssh://board:x", "ssh://board:", "ssh://board:-1", "ssh://board/home", "ssh://a b@board", "ssh://bo;ard",
        "ssh://$(id)@board", "ssh://board\n", "ssh://::1", "ssh://board:٢٢",
    ],
)  # fmt: skip
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", "./a"),
        ("~/a/b/", "./a/b"),
        ("-rf", "./-rf"),
        ("./a", "./a"),
        ("/opt//models/m", "/opt/models/m"),
        ("a b'$(id)", "./a b'$(id)"),
    ],
)
def test_remote_folders(text: str, path: str) -> None:
    assert remote_folder(text) == path


@pytest.mark.parametrize(
    "text", ["", "/", "//", ".", "~", "~root/x", "..", "../x", "a/../../x", "/a/..", "a\nb", "a\0b"]
)
def test_wrong_remote_folders(cli: Any, sealed: Path, text: str) -> None:
    with pytest.raises(OptionError):
        remote_folder(text)
    code, _, err = cli("deploy", sealed, "--board", "ssh://board", "--dir", text)
    assert code == 1 and err.startswith("edgewright: OptionError: --dir")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known", "no such host name"),
        ("ssh: connect to host x port 22: No route to host", "cannot be reached"),
        ("Received disconnect: Too many authentication failures", "refuses the login"),
        ("client_loop: send disconnect: Broken pipe", "was cut while copying"),
        ("", "was cut while copying"),
    ],
)
def test_faults_say_the_next_step(said: str, advice: str) -> None:
    assert advice in ssh._fault(parse_address("ssh://x"), "copying", ssh.Done(255, "", said))


def test_no_ssh_on_this_machine(cli: Any, sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_SSH", "no-such-ssh")
    code, _, err = cli("deploy", sealed, "--board", "ssh://board")
    assert code == 1 and "DependencyError" in err and "OpenSSH client" in err


def test_options_never_ask_and_never_follow_the_host() -> None:
    key = RUNNER.parent / "edge_run.py"
    command = ssh.Link(parse_address("ssh://me@board:77"), key)._command()
    assert "BatchMode=yes" in command and any(part.startswith("ConnectTimeout=") for part in command)
    assert command[-8:] == ["-p", "77", "-l", "me", "-i", str(key), "-o", "IdentitiesOnly=yes"]


# To a board.

WRAPPER = """\
    #!/bin/sh
    case "$*" in
        *"-m pip install"*) echo "$*" >> {log}; exit 0 ;;
    esac
    exec {python} "$@"
"""
CUT = """\
    #!/bin/sh
    case "$*" in
        {when})
            up=$PPID
            while [ "$(cat /proc/$up/comm)" != sshd ]; do up=$(awk '/^PPid/ {{ print $2 }}' /proc/$up/status); done
            kill -9 "$up" ;;
    esac
    exec {python} "$@"
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if SSHD is None:
        pytest.skip("there is no sshd: apt-get install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    text = WRAPPER.format(log=folder / "pip.log", python=shlex.quote(sys.executable))
    wrapper = executable(folder / "python", text)
    with serve(folder, {"EDGEWRIGHT_PYTHON": str(wrapper)}) as running:
        yield running


@pytest.fixture
def board(server: Server, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Calls ``edgewright deploy --board`` against a server, by default the one that works."""

    def call(bundle: Path, folder: object, *arguments: object, at: Server = server, port: int = 0) -> Any:
        monkeypatch.setenv("EDGEWRIGHT_SSH", at.client())
        url = at.url_at(port or at.port)
        return cli("deploy", bundle, "--board", url, "--identity", at.key, "--dir", folder, "--quick", *arguments)

    return call


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers whose sessions see another environment."""
    if SSHD is None:
        pytest.skip("there is no sshd: apt-get install openssh-server")
    running = []

    def start(**options: Any) -> Server:
        environment = {"EDGEWRIGHT_PYTHON": sys.executable, **options.pop("environment", {})}
        context = serve(tmp_path / f"sshd{len(running)}", environment, **options)
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)


def no_leftovers(folder: Path) -> None:
    for _ in range(100):
        left = [path for path in folder.iterdir() if path.name.endswith(".partial")]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {left}")


@needs_sshd
def test_board_classifies_and_measures(board: Any, bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "it's a $(board)"
    two = ("--photo", photos["rgb.png"], "--photo", photos["gray.png"])
    code, out, err = board(bundle, target, *two, "--threads", 2, "--json", "--save")
    assert code == 0, err
    said = json.loads(out)
    session = load(bundle)
    for result, path in zip(said["results"], (photos["rgb.png"], photos["gray.png"]), strict=True):
        assert result["input"] == str(path)
        assert [g["score"] for g in result["top"]] == [p.score for p in session.classify(path)]
    assert said["timing"]["kind"] == "measured" and said["timing"]["n"] >= 10 and said["threads"] == 2
    assert said["board"]["arch"] == platform.machine() and said["board"]["folder"] == str(target)
    assert {path.name for path in target.iterdir()} == {*SCRIPTS, "deployment.json", "tiny.edge"}
    no_leftovers(tmp_path)
    assert_saved(Path(said["saved"]), bundle, said)


def assert_saved(path: Path, bundle: Path, said: dict[str, Any]) -> None:
    record = structure(Measurement, json.loads(path.read_text()))
    opened = Bundle.open(bundle)
    assert path.parent == bundle / "measurements"
    assert (record.manifest_sha256, record.device, record.kind) == (opened.sha256, "host", "measured")
    assert list(record.samples_s) == said["samples_s"] and record.threads == 2 and record.machine["python"]


@needs_sshd
def test_board_prints_top_5_and_milliseconds(board: Any, bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    code, out, err = board(bundle, tmp_path / "there", "--photo", photos["rgb.png"])
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("ssh://") and "every hash checked there" in lines[1]
    assert lines[2] == str(photos["rgb.png"]) and len(lines) == 8
    assert lines[-1].startswith("median ") and "measured on" in lines[-1]


@needs_sshd
def test_board_replaces_only_its_own(board: Any, bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    assert board(bundle, target)[0] == 0
    assert board(bundle, target)[0] == 0
    (target / "photo.jpg").write_text("precious")
    code, _, err = board(bundle, target)
    assert code == 1 and "OutputError" in err and "also holds photo.jpg" in err and "--dir" in err
    assert (target / "photo.jpg").read_text() == "precious"
    no_leftovers(tmp_path)


@needs_sshd
@pytest.mark.parametrize("kind", ["file", "foreign", "below a file", "proc"])
def test_board_folder_that_cannot_be_used(board: Any, bundle: Path, tmp_path: Path, kind: str) -> None:
    target = {
        "file": tmp_path / "f",
        "foreign": tmp_path / "full",
        "below a file": tmp_path / "f" / "x",
        "proc": Path("/proc/edgewright/x"),
    }[kind]
    (tmp_path / "f").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    code, _, err = board(bundle, target)
    assert code == 1 and err.startswith("edgewright: OutputError: ssh://") and "--dir" in err
    assert (tmp_path / "f").read_text() == (tmp_path / "full" / "x").read_text() == "precious"
    no_leftovers(tmp_path)


@needs_sshd
def test_stale_copies_are_removed_and_live_ones_kept(board: Any, bundle: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    stale, live = (tmp_path / f".there.new.{pid}.partial" for pid in (ended.pid, os.getpid()))
    stale.mkdir()
    live.mkdir()
    assert board(bundle, tmp_path / "there")[0] == 0
    assert not stale.exists() and live.exists()


@needs_sshd
def test_nothing_is_installed_unless_asked(board: Any, bundle: Path, server: Server, tmp_path: Path) -> None:
    log = server.folder / "pip.log"
    log.unlink(missing_ok=True)
    assert board(bundle, tmp_path / "there", "--no-install")[0] == 0 and not log.exists()
    assert board(bundle, tmp_path / "there", "--install")[0] == 0
    assert log.read_text().strip() == "-m pip install onnxruntime numpy Pillow"


@needs_sshd
def test_failed_install_is_said(board: Any, other: Any, bundle: Path, tmp_path: Path) -> None:
    text = '#!/bin/sh\ncase "$*" in *"-m pip install"*) echo no network >&2; exit 1 ;; esac\nexec {} "$@"\n'
    broken = executable(tmp_path / "python", text.format(shlex.quote(sys.executable)))
    at = other(environment={"EDGEWRIGHT_PYTHON": str(broken)})
    code, _, err = board(bundle, tmp_path / "there", "--install", at=at)
    assert code == 1 and "DependencyError" in err and "no network" in err


@needs_sshd
def test_missing_engine_on_the_board(board: Any, other: Any, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "onnxruntime.py").write_text("raise ImportError(\"No module named 'onnxruntime'\")")
    at = other(environment={"PYTHONPATH": str(tmp_path / "lib")})
    code, _, err = board(bundle, tmp_path / "there", at=at)
    assert code == 1 and "DependencyError" in err
    assert "python3 -m pip install onnxruntime numpy Pillow" in err and "--install" in err
    assert script(tmp_path / "there" / "verify.sh").returncode == 0


@needs_sshd
@pytest.mark.parametrize(("fake", "message"), [(None, "there is no"), ("echo 3.5.2", "needs Python 3.6 or newer")])
def test_board_without_a_fitting_python(
    board: Any, other: Any, bundle: Path, tmp_path: Path, fake: str | None, message: str
) -> None:
    python = executable(tmp_path / "python", f"#!/bin/sh\n{fake}\n") if fake else tmp_path / "missing"
    code, _, err = board(bundle, tmp_path / "there", at=other(environment={"EDGEWRIGHT_PYTHON": str(python)}))
    assert code == 1 and "DependencyError" in err and message in err
    assert not (tmp_path / "there").exists()


@needs_sshd
def test_board_of_another_kind(board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Any) -> None:
    foreign = "armv8.2-a" if platform.machine() == "x86_64" else "x86-64-v3"
    core = next(iter(device("host").cores.values()))
    known(cores={"other": type(core)(**{**vars(core), "id": "other", "isa": foreign})})
    code, _, err = board(make_tiny_bundle(tmp_path), tmp_path / "there")
    assert code == 1 and "DeviceError" in err and platform.machine() in err and foreign in err
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("wanted", "found", "warned"),
    [
        ("glibc 2.27", "glibc 2.31", False),
        ("glibc 2.27", "glibc 2.17", True),
        ("glibc 2.27", "", True),
        ("", "glibc 2.17", False),
        ("musl", "", False),
    ],
)
def test_older_c_library_is_a_warning(wanted: str, found: str, warned: bool) -> None:
    assert bool(onto_board._libc_warnings(profile(libc=wanted), found)) is warned


@needs_sshd
@pytest.mark.parametrize("room", ["too small at once", "full during the copy"])
def test_full_disk_on_the_board(board: Any, other: Any, bundle: Path, tmp_path: Path, room: str) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root and mount namespaces to make a small file system")
    size = deploy_folder(bundle, tmp_path / "probe").bytes
    disk = tmp_path / "disk"
    disk.mkdir()
    pages = -(-size // 4096) if room == "full during the copy" else 4
    at = other(tmpfs=(disk, pages * 4096))
    code, _, err = board(bundle, disk / "there", at=at)
    assert code == 1 and err.startswith("edgewright: OutputError: ssh://") and "make room" in err
    assert ("disk is full" in err) == (room == "full during the copy")


@needs_sshd
def test_cable_cut_during_the_copy(board: Any, server: Server, bundle: Path, tmp_path: Path) -> None:
    with cut_after(server.port, 20_000) as port:
        code, _, err = board(bundle, tmp_path / "there", port=port)
    assert code == 1 and "DeviceError" in err and "cut while copying" in err
    assert not (tmp_path / "there").exists()
    no_leftovers(tmp_path)


@needs_sshd
@pytest.mark.parametrize(("when", "step"), [("*--may-replace*", "copying"), ("*edge_run.py?--json*", "running there")])
def test_session_killed(board: Any, other: Any, bundle: Path, tmp_path: Path, when: str, step: str) -> None:
    text = CUT.format(when=when, python=shlex.quote(sys.executable))
    at = other(environment={"EDGEWRIGHT_PYTHON": str(executable(tmp_path / "python", text))})
    code, _, err = board(bundle, tmp_path / "there", at=at)
    assert code == 1 and "DeviceError" in err and f"cut while {step}" in err


@needs_sshd
def test_board_that_hangs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_SSH", server.client())
    link = ssh.Link(parse_address(server.url), server.key)
    with pytest.raises(DeviceError, match="no answer within 2 s while waiting"):
        link.run("exec sleep 60", step="waiting", timeout_s=2)


@needs_sshd
def test_copy_damaged_on_the_way(board: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(member: Any) -> Any:
        return None if member.name.endswith("labels.txt") else member

    monkeypatch.setattr(onto_board, "_anonymous", damage)
    code, _, err = board(bundle, tmp_path / "there")
    assert code == 1 and "BundleError" in err and "labels.txt is missing" in err
    assert not (tmp_path / "there").exists()
    no_leftovers(tmp_path)


@needs_sshd
def test_wrong_port(board: Any, bundle: Path, tmp_path: Path) -> None:
    code, _, err = board(bundle, tmp_path / "there", port=free_port())
    assert code == 1 and "DeviceError" in err and "cannot be reached" in err and "refused" in err


@needs_sshd
def test_port_that_speaks_no_ssh(board: Any, server: Server, bundle: Path, tmp_path: Path) -> None:
    with cut_after(server.port, 1) as port:
        code, _, err = board(bundle, tmp_path / "there", port=port)
    assert code == 1 and "DeviceError" in err and err.count("\n") == 1


@needs_sshd
def test_refused_login(cli: Any, server: Server, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_SSH", server.client())
    make_key(tmp_path / "stranger")
    code, _, err = cli("deploy", bundle, "--board", server.url, "--identity", tmp_path / "stranger")
    assert code == 1 and "DeviceError" in err and "ssh-copy-id" in err


@needs_sshd
@pytest.mark.parametrize(
    ("known_hosts", "advice"), [("no_hosts", "accept it once: ssh -p"), ("changed_hosts", "has changed")]
)
def test_host_key_that_does_not_match(
    cli: Any, server: Server, bundle: Path, monkeypatch: pytest.MonkeyPatch, known_hosts: str, advice: str
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_SSH", server.client(known_hosts))
    code, _, err = cli("deploy", bundle, "--board", server.url, "--identity", server.key)
    assert code == 1 and "DeviceError" in err and advice in err


@needs_sshd
@pytest.mark.parametrize(
    ("option", "error"),
    [
        (("--photo", "missing.jpg"), "InputError: --photo missing.jpg: No such file"),
        (("--photo", RUNNER), "InputError"),
        (("--identity", "missing.key"), "OptionError: --identity missing.key"),
    ],
)
def test_wrong_files_for_the_board(
    board: Any, bundle: Path, tmp_path: Path, option: tuple[Any, ...], error: str
) -> None:
    code, _, err = board(bundle, tmp_path / "there", *option)
    assert code == 1 and err.startswith(f"edgewright: {error}")
    assert str(option[1]) in err


def test_packed_bundle_cannot_keep_measurements(cli: Any, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "m.edgez").write_bytes(b"x")
    code, _, err = cli("deploy", tmp_path / "m.edgez", "--board", "ssh://board", "--save")
    assert code == 1 and "OptionError: --save" in err


@needs_sshd
def test_damaged_bundle_never_leaves_this_machine(board: Any, bundle: Path, tmp_path: Path) -> None:
    _flip(bundle / "model.onnx")
    code, _, err = board(bundle, tmp_path / "there")
    assert code == 1 and "BundleError" in err and not (tmp_path / "there").exists()
