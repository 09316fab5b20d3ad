"""A bundle opens as sealed or not at all: any change of the core is a BundleError and never a run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdk
from device_profiles.errors import BundleError, DependencyError, EdgewrightError, OutputError
from edgewright_runtime.bundle.consistency import is_inside
from edgewright_runtime.bundle.manifest import CHUNK_BYTES, MAJOR, MINOR, Manifest, Segment, digest
from edgewright_runtime.bundle.paths import partial_folder
from edgewright_runtime.bundle.seal import MANIFEST, MANIFEST_HASH, Opened, core_file, is_bundle, open_bundle, seal
from sdk.bundle import Bundle
from tests.tiny_bundle import make_tiny_bundle

pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
pytest.importorskip("onnxruntime", reason="the tiny bundle runs in onnxruntime")

CORE = ("labels.txt", "manifest.json", "manifest.sha256", "model.onnx")
PACKED_STRIDE = 5
ANYTHING = np.zeros((1, 3, 8, 8), np.float32)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def bundle(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "tiny.edge"))


@pytest.fixture
def packed(bundle: Path) -> Path:
    return Bundle.open(bundle).pack(bundle.with_suffix(".edgez"))


def refused(path: Path, *, by: str = "") -> str:
    """Opening, describing and loading all refuse; the common message comes back."""
    messages = set()
    for opens in (open_bundle, Bundle.open, sdk.load):
        with pytest.raises(BundleError) as caught:
            opens(path)
        messages.add(str(caught.value))
    (message,) = {text.replace(str(path), "BUNDLE") for text in messages}
    assert by in message
    return message


def forge(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Rewrites the manifest and its hash, as somebody who wants it to be believed would."""
    plain = json.loads((bundle / MANIFEST).read_bytes())
    change(plain)
    return write_manifest(bundle, json.dumps(plain).encode())


def write_manifest(bundle: Path, data: bytes) -> Path:
    (bundle / MANIFEST).write_bytes(data)
    (bundle / MANIFEST_HASH).write_text(digest(data) + "\n")
    return bundle


def add_core(bundle: Path, name: str, data: bytes) -> None:
    """A further core file, listed as it should be."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(data)
    core = core_file(bundle / name)
    row = {"bytes": core.bytes, "sha256": core.sha256, "chunk_sha256": list(core.chunk_sha256)}
    forge(bundle, lambda m: m["files"].update({name: row}))


def flipped(data: bytes, position: int, mask: int = 0xFF) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


# As sealed.


def test_what_was_sealed_comes_back(sealed: Path) -> None:
    opened = open_bundle(sealed)
    assert sorted(path.name for path in sealed.iterdir()) == sorted(CORE)
    assert opened.manifest_sha256 == hashlib.sha256((sealed / MANIFEST).read_bytes()).hexdigest()
    assert (sealed / MANIFEST_HASH).read_text() == opened.manifest_sha256 + "\n"
    assert Manifest.from_json(opened.manifest.to_json()) == opened.manifest
    assert opened.manifest.to_json() == (sealed / MANIFEST).read_bytes()
    assert opened.lowered.path().read_bytes() == (sealed / "model.onnx").read_bytes()
    assert is_bundle(sealed)


def test_sealing_again_gives_the_same_bytes(sealed: Path, tmp_path: Path) -> None:
    again = make_tiny_bundle(tmp_path)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in sealed.iterdir()}


def test_a_bundle_can_be_read_by_others_and_its_manifest_runs_on_any_platform(bundle: Path) -> None:
    assert bundle.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in bundle.iterdir()} == {0o644}
    assert b"\r" not in (bundle / MANIFEST).read_bytes()
    assert str(bundle.parent).encode() not in (bundle / MANIFEST).read_bytes()


def test_folder_and_packed_bundle_are_the_same_bundle(bundle: Path, packed: Path) -> None:
    folder, file = open_bundle(bundle), open_bundle(packed)
    assert (folder.manifest, folder.manifest_sha256) == (file.manifest, file.manifest_sha256)
    assert file.temporary is not None
    with sdk.load(bundle) as one, sdk.load(packed) as other:
        assert np.array_equal(one.run(ANYTHING)["logits"], other.run(ANYTHING)["logits"])


def test_the_unpacked_files_live_as_long_as_somebody_reads_them(packed: Path) -> None:
    opened: Opened | None = open_bundle(packed)
    assert opened is not None
    folder = opened.folder
    assert (folder / "model.onnx").is_file()
    opened = None
    assert not folder.exists()


def test_an_unpacked_bundle_leaves_nothing_in_the_temporary_folder(packed: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = f"import sdk, os; s = sdk.load({str(packed)!r}); print(len(os.listdir({str(scratch)!r})) > 0)"
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert list(scratch.glob("edgewright*")) == []


def test_large_files_have_a_hash_for_each_mebibyte(bundle: Path) -> None:
    data = np.random.default_rng(1).bytes(2 * CHUNK_BYTES + 5)
    add_core(bundle, "weights/experts.bin", data)
    core = open_bundle(bundle).manifest.files["weights/experts.bin"]
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    assert core.chunk_sha256 == tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks)
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 5]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_core_file_of_any_size_comes_back(bundle: Path, size: int) -> None:
    add_core(bundle, "weights.bin", bytes(size))
    core = open_bundle(bundle).manifest.files["weights.bin"]
    assert (core.bytes, len(core.chunk_sha256)) == (size, -(-size // CHUNK_BYTES))


def test_names_may_be_in_any_script(bundle: Path) -> None:
    add_core(bundle, "gewichte/größe 权重.bin", b"123")
    assert "gewichte/größe 权重.bin" in open_bundle(bundle).manifest.files


# Any byte.


@pytest.mark.parametrize("name", CORE)
def test_any_changed_byte_of_the_folder_is_refused(bundle: Path, name: str) -> None:
    path = bundle / name
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(flipped(data, position))
        with pytest.raises(BundleError):
            sdk.load(bundle)
    path.write_bytes(data)
    open_bundle(bundle)


def test_any_changed_bit_of_the_hash_is_refused(bundle: Path) -> None:
    path = bundle / MANIFEST_HASH
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        path.write_bytes(flipped(data, bit // 8, 1 << bit % 8))
        with pytest.raises(BundleError):
            open_bundle(bundle)


def test_a_changed_byte_of_the_packed_bundle_is_refused_or_changes_nothing(packed: Path) -> None:
    data, before = packed.read_bytes(), open_bundle(packed)
    harmless: list[int] = []
    for position in range(0, len(data), PACKED_STRIDE):
        packed.write_bytes(flipped(data, position))
        try:
            opened = open_bundle(packed)
        except BundleError:
            continue
        harmless.append(position)
        assert (opened.manifest, opened.manifest_sha256) == (before.manifest, before.manifest_sha256)
        assert {n: core_file(opened.folder / n) for n in opened.manifest.files} == before.manifest.files
    core = sum(entry.bytes for entry in before.manifest.files.values())
    assert len(harmless) * PACKED_STRIDE < len(data) - core, "padding, dates and attributes are no part of a bundle"


def test_any_changed_byte_of_the_content_of_a_packed_bundle_is_refused(packed: Path, bundle: Path) -> None:
    data = packed.read_bytes()
    for name in CORE:
        start = data.index((bundle / name).read_bytes())
        size = (bundle / name).stat().st_size
        for position in range(start, start + size, max(1, size // 60)):
            packed.write_bytes(flipped(data, position))
            with pytest.raises(BundleError):
                open_bundle(packed)


@pytest.mark.parametrize("position", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 4])
def test_a_changed_byte_of_any_chunk_is_refused(bundle: Path, position: int) -> None:
    data = bytes(2 * CHUNK_BYTES + 5)
    add_core(bundle, "weights.bin", data)
    (bundle / "weights.bin").write_bytes(flipped(data, position))
    refused(bundle, by="weights.bin has changed")


@pytest.mark.parametrize("chunks", [[], ["0" * 64], "twice"])
def test_chunk_hashes_that_do_not_match_are_refused(bundle: Path, chunks: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        core = manifest["files"]["model.onnx"]
        core["chunk_sha256"] = 2 * core["chunk_sha256"] if chunks == "twice" else chunks

    refused(forge(bundle, change), by="chunk hashes do not match")


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-1], lambda d: d[1:], lambda d: d + b"\0", lambda d: d + b"\n", lambda d: b"", lambda d: d + d],
    ids=["last byte lost", "first byte lost", "one more", "a line feed more", "empty", "twice"],
)
def test_a_file_of_another_length_is_refused(bundle: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = bundle / name
    path.write_bytes(change(path.read_bytes()))
    message = refused(bundle)
    assert "bytes, sealed were" in message or "manifest" in message


def test_files_that_swapped_their_names_are_refused(bundle: Path) -> None:
    add_core(bundle, "one.bin", b"1111")
    add_core(bundle, "two.bin", b"2222")
    os.rename(bundle / "one.bin", bundle / "x")
    os.rename(bundle / "two.bin", bundle / "one.bin")
    os.rename(bundle / "x", bundle / "two.bin")
    refused(bundle, by="one.bin has changed; two.bin has changed")


# The list of files.


@pytest.mark.parametrize("name", CORE)
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refused(bundle)
    assert is_bundle(bundle) == (name not in (MANIFEST, MANIFEST_HASH))


@pytest.mark.parametrize(
    "name",
    [
        "extra.bin",
        ".hidden",
        "sub/extra.bin",
        "measurements",
        "report.html/x",
        "report.htm",
        "REPORT.HTML",
        ".report.html.partial/x",
        "Measurements/x.json",
        "labels.txt~",
        "line\nfeed",
    ],
)
def test_an_unlisted_file_is_refused(bundle: Path, name: str) -> None:
    path = bundle / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    refused(bundle, by=f"{name} is not listed")


@pytest.mark.parametrize("name", ["report.html", "measurements/2026.json", "measurements/deep/er.json"])
def test_the_report_and_measurements_may_lie_beside_the_core(bundle: Path, name: str) -> None:
    before = open_bundle(bundle).manifest_sha256
    path = bundle / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for content in (b"", b"one", b"two"):
        path.write_bytes(content)
        assert open_bundle(bundle).manifest_sha256 == before
    sdk.load(bundle).close()


def test_a_report_that_was_not_finished_does_not_damage_the_bundle(bundle: Path) -> None:
    left = bundle / ".report.html.999999999.partial"
    left.write_bytes(b"<html>")
    open_bundle(bundle)
    Bundle.open(bundle).report(bundle / "report.html")
    assert not left.exists()


def test_all_problems_are_told_at_once(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "labels.txt").write_bytes(b"")
    (bundle / "extra").touch()
    message = refused(bundle)
    assert all(part in message for part in ("model.onnx is missing", "labels.txt has 0 bytes", "extra is not listed"))


def plant_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    os.rename(path, path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / target.name)


def plant_dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def plant_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def plant_socket(path: Path) -> None:
    path.unlink()
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # the path of a socket is at most some hundred bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)
        os.close(here)


def plant_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("plant", [plant_link, plant_dangling, plant_pipe, plant_socket, plant_folder])
def test_something_else_in_place_of_a_file_is_refused(bundle: Path, name: str, plant: Callable[[Path], None]) -> None:
    plant(bundle / name)
    refused(bundle)


@pytest.mark.parametrize("name", ["report.html", "measurements", "extra", "measurements/x.json"])
@pytest.mark.parametrize("target", ["/etc/hostname", "/", "model.onnx", "."])
def test_a_link_beside_the_core_is_refused(bundle: Path, name: str, target: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).symlink_to(target)
    refused(bundle, by="is a link or device")


def test_a_bundle_may_itself_be_reached_by_a_link(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.edge"
    link.symlink_to(bundle, target_is_directory=True)
    assert open_bundle(link).manifest == open_bundle(bundle).manifest


OUTSIDE = [
    "../outside.bin",
    "..",
    ".",
    "",
    "/etc/passwd",
    "//etc/passwd",
    "a/../../outside.bin",
    "a/..",
    "./model.onnx",
    "a//b",
    "a/",
    "a/.",
    "..\\outside.bin",
    "a\\b",
    "C:\\outside.bin",
    "C:outside.bin",
    "model.onnx:stream",
    "nul\0byte",
    "half \ud800 a pair",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_the_folder_is_refused(bundle: Path, name: str) -> None:
    assert not is_inside(name)
    (bundle.parent / "outside.bin").write_bytes(b"123")
    row = {"bytes": 3, "sha256": digest(b"123"), "chunk_sha256": [digest(b"123")]}
    refused(forge(bundle, lambda m: m["files"].update({name: row})), by="leaves the bundle")


@pytest.mark.parametrize("name", ["model.onnx", "a/b/c.bin", ".hidden", "a..b", "...", "weights 1.bin", "größe"])
def test_a_name_inside_the_folder_is_allowed(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize(
    "name", [MANIFEST, MANIFEST_HASH, "report.html", "measurements/x.json", "measurements", "manifest.json/x"]
)
def test_what_may_be_replaced_cannot_be_core(bundle: Path, name: str) -> None:
    row = {"bytes": 0, "sha256": digest(b""), "chunk_sha256": []}
    refused(forge(bundle, lambda m: m["files"].update({name: row})), by="cannot be a core file")


# The manifest.


def test_another_hash_is_refused(bundle: Path) -> None:
    (bundle / MANIFEST_HASH).write_text(digest(b"something else") + "\n")
    refused(bundle, by="does not match manifest.sha256")


@pytest.mark.parametrize("form", [str.upper, lambda h: h.strip(), lambda h: h.strip() + "  manifest.json\n"])
def test_the_hash_has_one_spelling(bundle: Path, form: Callable[[str], str]) -> None:
    path = bundle / MANIFEST_HASH
    path.write_text(form(path.read_text()))
    refused(bundle, by="does not match manifest.sha256")


@pytest.mark.parametrize("major", [0, MAJOR + 1, MAJOR + 41])
def test_another_major_schema_is_refused(bundle: Path, major: int) -> None:
    refused(forge(bundle, lambda m: m.update(schema=f"{major}.0")), by=f"this runtime reads {MAJOR}.x")


def test_a_newer_minor_schema_is_read_with_fields_that_are_not_known(bundle: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest.update(schema=f"{MAJOR}.{MINOR + 1}", carbon={"grams": 3})
        manifest["engine"]["gpu"] = "none"
        manifest["entries"]["main"]["inputs"][0]["unit"] = "pixels"

    opened = open_bundle(forge(bundle, change))
    assert opened.manifest.schema == f"{MAJOR}.{MINOR + 1}"
    assert opened.manifest_sha256 == digest((bundle / MANIFEST).read_bytes())
    with sdk.load(bundle) as session:
        assert session.run(ANYTHING)["logits"].shape == (1, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(carbon=3),
        lambda m: m["engine"].update(gpu="none"),
        lambda m: m["entries"]["main"]["inputs"][0].update(unit="pixels"),
        lambda m: m["files"]["model.onnx"].update(mode=0o644),
    ],
)
def test_unknown_fields_of_the_same_schema_are_refused(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    refused(forge(bundle, change), by="extra fields found")


@pytest.mark.parametrize("minor", [MINOR, MINOR + 1])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("device"),
        lambda m: m.update(device=3),
        lambda m: m.update(files=None),
        lambda m: m.update(entries=[]),
        lambda m: m.update(model=[]),
        lambda m: m["model"].update(parameters=1.5),
        lambda m: m["model"].update(parameters=True),
        lambda m: m["memory"].update(kind="guessed"),
        lambda m: m["memory"].pop("kind"),
        lambda m: m["recipe"].update(methods=[3]),
        lambda m: m["preprocess"]["image"].update(size=0),
        lambda m: m["preprocess"]["image"].update(crop=2),
        lambda m: m["postprocess"].update(top_k=0),
        lambda m: m["entries"]["main"]["inputs"][0].update(shape=[1.5]),
    ],
)
def test_fields_that_are_missing_or_wrong_are_refused(
    bundle: Path, change: Callable[[dict[str, Any]], None], minor: int
) -> None:
    forge(bundle, lambda m: m.update(schema=f"{MAJOR}.{minor}"))
    refused(forge(bundle, change), by="does not fit schema")


@pytest.mark.parametrize(
    "schema", ["", "1", "1.", ".0", "1.0.0", "-1.0", "1.-0", "+1.0", " 1.0", "1.0\n", "1_0.0", "a.b", "\u0661.0", 1.0, None]
)
def test_a_schema_that_is_no_version_is_refused(bundle: Path, schema: Any) -> None:
    refused(forge(bundle, lambda m: m.update(schema=schema)), by="manifest")


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"null", b"3", b"[]", b'"1.0"', b"{}", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"schema": "1.0"}', b"\0"],
    ids=lambda data: repr(data[:16]),
)
def test_a_manifest_that_is_none_is_refused(bundle: Path, data: bytes) -> None:
    refused(write_manifest(bundle, data), by="manifest.json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_manifest_is_plain_utf8(bundle: Path, encoding: str) -> None:
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    refused(write_manifest(bundle, text.encode(encoding)), by="is not a manifest")


@pytest.mark.parametrize("what", ["a file", "a field", "a nested field"])
def test_a_name_that_occurs_twice_in_the_json_is_refused(bundle: Path, what: str) -> None:
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    core = json.dumps(json.loads(text)["files"]["model.onnx"])
    insert = {
        "a file": ('"files": {', f'"files": {{"model.onnx": {core}, '),
        "a field": ('"device": ', '"device": "other", "device": '),
        "a nested field": ('"threads": ', '"threads": 64, "threads": '),
    }[what]
    assert insert[0] in text
    refused(write_manifest(bundle, text.replace(*insert).encode()), by="occurs twice")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(bundle: Path, number: str) -> None:
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    changed = text.replace('"threshold_db": 60.0', f'"threshold_db": {number}')
    assert changed != text
    refused(write_manifest(bundle, changed.encode()), by=f"{number} is not JSON")


def test_a_manifest_of_unreasonable_size_is_refused_unread(bundle: Path) -> None:
    with open(bundle / MANIFEST, "r+b") as file:
        file.truncate(1 << 40)
    refused(bundle, by="larger than")


def spec(manifest: dict[str, Any]) -> Any:
    return manifest["entries"]["main"]["inputs"][0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.update(labels="other.txt"), "'other.txt' is used but not listed"),
        (lambda m: m.update(labels=""), "'' is used but not listed"),
        (lambda m: m["entries"]["main"].update(file="../model.onnx"), "is used but not listed"),
        (lambda m: m.update(entries={"prefill": m["entries"]["main"]}), "there is no entry 'main'"),
        (lambda m: m.update(entries={}), "there is no entry 'main'"),
        (lambda m: spec(m).update(dtype="float33"), "dtype 'float33'"),
        (lambda m: spec(m).update(dtype="f4"), "dtype 'f4'"),
        (lambda m: m["entries"]["main"]["inputs"].append(spec(m)), "input 'image' of 'main' occurs twice"),
        (lambda m: m.update(preprocess={"photo": m["preprocess"]["image"]}), "preprocess names 'photo'"),
        (lambda m: m["postprocess"].update(output="scores"), "postprocess names 'scores'"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    refused(forge(bundle, change), by=why)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, 65), (64, 1), (1 << 63, 1), (-5, 3)])
def test_a_segment_outside_its_file_is_refused(bundle: Path, offset: int, size: int) -> None:
    add_core(bundle, "model.bin", bytes(64))
    row = Segment("model.bin", offset, size, "bytes", "raw", None, None, "mapped")
    refused(forge(bundle, lambda m: m.update(segments=[vars(row)])), by="ends outside the file")


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, 64), (64, 0), (32, 32)])
def test_a_segment_inside_its_file_is_read(bundle: Path, offset: int, size: int) -> None:
    add_core(bundle, "model.bin", bytes(64))
    row = Segment("model.bin", offset, size, "bytes", "raw", 0, 1, "paged")
    assert open_bundle(forge(bundle, lambda m: m.update(segments=[vars(row)]))).manifest.segments == (row,)


def test_labels_that_are_not_text_are_refused(bundle: Path) -> None:
    add_core(bundle, "labels.txt", b"\xff\xfe\xff")
    open_bundle(bundle)
    with pytest.raises(BundleError, match="labels"):
        sdk.load(bundle)


def test_an_engine_of_another_version_is_refused(bundle: Path) -> None:
    forge(bundle, lambda m: m["engine"].update(name="abacus"))
    with pytest.raises(BundleError, match="needs engine 'abacus'; this version has executorch, litert, native, onnxruntime"):
        sdk.load(bundle)


def test_an_engine_that_is_not_installed_is_named_with_its_command(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright_runtime.engines.installed", lambda package: None)
    with pytest.raises(DependencyError, match=r'pip install "edgewright\[onnx\]"'):
        sdk.load(bundle)


# Without checking the content.


def test_unchecked_content_may_differ(bundle: Path) -> None:
    path = bundle / "labels.txt"
    path.write_bytes(flipped(path.read_bytes(), 0, 0x20))
    refused(bundle, by="labels.txt has changed")
    assert sdk.load(bundle, check=False).run(ANYTHING)["logits"].shape == (1, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: (b / "labels.txt").unlink(),
        lambda b: (b / "extra").touch(),
        lambda b: (b / "labels.txt").write_bytes(b"x"),
        lambda b: plant_link(b / "model.onnx"),
        lambda b: plant_pipe(b / "model.onnx"),
        lambda b: (b / MANIFEST).write_bytes((b / MANIFEST).read_bytes() + b" "),
        lambda b: (b / MANIFEST_HASH).write_bytes(b""),
        lambda b: forge(b, lambda m: m.update(schema="2.0")),
        lambda b: forge(b, lambda m: m.update(extra=1)),
        lambda b: forge(b, lambda m: m["entries"]["main"].update(file="../x")),
    ],
)
def test_unchecked_bundles_are_still_whole(bundle: Path, damage: Callable[[Path], None]) -> None:
    damage(bundle)
    with pytest.raises(BundleError):
        sdk.load(bundle, check=False)


# Paths that are no bundle.


@pytest.mark.parametrize("name", ["missing.edge", "missing/tiny.edge", "a\0b.edge", "n" * 5000, "x/" * 3000])
def test_a_path_without_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name)


def test_other_things_are_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "file", "loop", "pipe"):
        refused(tmp_path / name)
    refused(Path("/dev/null"), by="neither a folder nor a file")


def test_a_file_of_a_bundle_is_no_bundle(bundle: Path) -> None:
    refused(bundle / MANIFEST)


# Sealing.


def test_sealing_what_is_missing_is_an_output_error(sealed: Path, tmp_path: Path) -> None:
    manifest = open_bundle(sealed).manifest
    with pytest.raises(OutputError, match="No such file"), partial_folder(tmp_path / "x.edge") as folder:
        seal(folder, manifest, ["model.onnx"], tmp_path / "x.edge")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_not_sealed(sealed: Path, tmp_path: Path, number: float) -> None:
    manifest = open_bundle(sealed).manifest
    wrong = replace(manifest, parity=replace(manifest.parity, threshold_db=number))
    with pytest.raises(OutputError, match="not JSON"), partial_folder(tmp_path / "x.edge") as folder:
        seal(folder, wrong, [], tmp_path / "x.edge")
    assert list(tmp_path.iterdir()) == []


def test_sealing_over_a_bundle_replaces_it_whole(sealed: Path, bundle: Path) -> None:
    (bundle / "report.html").write_text("of the old one")
    make_tiny_bundle(bundle.parent, labels=("yes", "no"))
    assert sorted(path.name for path in bundle.iterdir()) == sorted(CORE)
    assert open_bundle(bundle).manifest_sha256 != open_bundle(sealed).manifest_sha256
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny.edge"]


def test_all_refusals_are_one_kind_of_error() -> None:
    assert issubclass(BundleError, EdgewrightError)
    assert sdk.BundleError is BundleError
