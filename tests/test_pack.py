"""The packed bundle: same files, same bytes; every entry's data at a multiple of 64."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from device_profiles.errors import BundleError, OutputError
from edgewright_runtime.bundle import pack as pack_module
from edgewright_runtime.bundle.pack import ALIGNMENT, pack
from edgewright_runtime.bundle.seal import MANIFEST, MANIFEST_HASH, open_bundle
from sdk.bundle import Bundle
from tests.tiny_bundle import make_tiny_bundle

pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")

NAMES = ("a", "ab/c.bin", "größe 权重.bin", "n" * 63, "n" * 64, "n" * 65, "deep/" * 40 + "x")
SIZES = (0, 1, 63, 64, 65, 4096, 4097)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path)


def data_offset(raw: bytes, info: zipfile.ZipInfo) -> int:
    """Where the data of an entry begins, read from its local header."""
    name_bytes, extra_bytes = struct.unpack_from("<HH", raw, info.header_offset + 26)
    return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)


def check_aligned(path: Path, folder: Path, names: list[str]) -> None:
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [info.filename for info in archive.infolist()] == names
        for info in archive.infolist():
            start = data_offset(raw, info)
            assert start % ALIGNMENT == 0
            assert raw[start : start + info.file_size] == (folder / info.filename).read_bytes()
            assert info.compress_type == zipfile.ZIP_STORED


def test_manifest_first_hash_last(bundle: Path, tmp_path: Path) -> None:
    path = Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    check_aligned(path, bundle, [MANIFEST, "labels.txt", "model.onnx", MANIFEST_HASH])


def test_padding_is_an_extra_field_of_its_own(bundle: Path, tmp_path: Path) -> None:
    path = Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            field, size = struct.unpack_from("<HH", raw, info.header_offset + 30 + len(info.filename.encode()))
            assert field == 0xED6E
            assert size < ALIGNMENT
            assert not any(info.extra[4 : 4 + size])
            assert info.date_time == (1980, 1, 1, 0, 0, 0)


def test_same_files_same_bytes(bundle: Path, tmp_path: Path) -> None:
    one = Bundle.open(bundle).pack(tmp_path / "one.edgez").read_bytes()
    copy = Path(shutil.copytree(bundle, tmp_path / "elsewhere.edge"))
    for path in copy.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert Bundle.open(copy).pack(tmp_path / "two.edgez").read_bytes() == one


def test_same_bytes_from_another_process(bundle: Path, tmp_path: Path) -> None:
    one = Bundle.open(bundle).pack(tmp_path / "one.edgez").read_bytes()
    code = f"from sdk.bundle import Bundle; Bundle.open({str(bundle)!r}).pack({str(tmp_path / 'two.edgez')!r})"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "two.edgez").read_bytes() == one


@pytest.mark.parametrize("beside", ["report.html", "measurements/a.json"])
def test_only_the_core_is_packed(bundle: Path, tmp_path: Path, beside: str) -> None:
    one = Bundle.open(bundle).pack(tmp_path / "one.edgez").read_bytes()
    (bundle / beside).parent.mkdir(exist_ok=True)
    (bundle / beside).write_text("x")
    assert Bundle.open(bundle).pack(tmp_path / "two.edgez").read_bytes() == one


def test_a_packed_bundle_can_be_packed_again(bundle: Path, tmp_path: Path) -> None:
    one = Bundle.open(bundle).pack(tmp_path / "one.edgez")
    two = Bundle.open(one).pack(tmp_path / "two.edgez")
    assert one.read_bytes() == two.read_bytes()
    assert Bundle.open(one).sha256 == Bundle.open(bundle).sha256


@pytest.mark.parametrize("size", SIZES)
def test_names_and_sizes_of_all_kinds_are_aligned(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "files"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    pack(folder, NAMES, tmp_path / "x.edgez")
    check_aligned(tmp_path / "x.edgez", folder, list(NAMES))
    pack_module.unpack(tmp_path / "x.edgez", tmp_path / "out")
    assert all((tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes() for name in NAMES)


@pytest.mark.parametrize("limit", [10, 100, 1000])
def test_entries_beyond_the_zip64_limit_are_aligned(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is 2 GiB; lowered, small files take the way of large ones."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    for size in (*SIZES, int(limit / 1.05), int(limit / 1.05) + 1, limit):
        (tmp_path / f"{size}.bin").write_bytes(bytes(size))
    names = [path.name for path in sorted(tmp_path.iterdir())]
    pack(tmp_path, names, tmp_path / "x.edgez")
    check_aligned(tmp_path / "x.edgez", tmp_path, names)


def test_no_files_are_an_empty_archive(tmp_path: Path) -> None:
    pack(tmp_path, [], tmp_path / "x.edgez")
    pack_module.unpack(tmp_path / "x.edgez", tmp_path / "out")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(tmp_path / "x.edgez")


def test_an_older_archive_is_replaced(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "tiny.edgez"
    target.write_bytes(b"something that was there")
    Bundle.open(bundle).pack(target)
    assert open_bundle(target).manifest == open_bundle(bundle).manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.edge", "tiny.edgez"]


def test_what_a_killed_process_left_is_removed(bundle: Path, tmp_path: Path) -> None:
    left = tmp_path / ".tiny.edgez.999999999.partial"
    left.write_bytes(b"half")
    Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    assert not left.exists()


def test_a_damaged_bundle_is_not_packed(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    (bundle / "labels.txt").write_text("cat\ndog\nfox\nemu\n")
    with pytest.raises(BundleError):
        opened.pack(tmp_path / "tiny.edgez")
    assert not (tmp_path / "tiny.edgez").exists()


def output_errors() -> list[str]:
    return ["missing/x.edgez", "file/x.edgez", "folder", "n" * 255, "n" * 250 + ".edgez", "n" * 5000]


@pytest.mark.parametrize("name", output_errors(), ids=lambda name: name[:20])
def test_an_output_that_cannot_be_written_is_an_output_error(bundle: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"keep")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "keep").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OutputError, match="cannot write"):
        Bundle.open(bundle).pack(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_bytes() == b"keep"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_output_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        Bundle.open(bundle).pack(tmp_path / "closed" / "x.edgez")


def test_a_device_that_is_full_is_an_output_error_and_keeps_the_old_archive(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    before = target.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    opened = Bundle.open(bundle)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        opened.pack(target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.edge", "tiny.edgez"]


def test_unpacking_onto_a_full_device_is_a_bundle_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Bundle.open(bundle).pack(tmp_path / "tiny.edgez")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not" / "there"))
    with pytest.raises(BundleError, match="cannot open the bundle"):
        open_bundle(path)
