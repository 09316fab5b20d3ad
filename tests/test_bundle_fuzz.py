"""Random damage: a bundle that opens is the one that was sealed; every other is a BundleError."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sdk
from device_profiles.errors import BundleError
from edgewright_runtime.bundle.manifest import Manifest
from edgewright_runtime.bundle.seal import open_bundle
from sdk.bundle import Bundle
from tests.tiny_bundle import make_tiny_bundle

pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")

LONGER = int(os.environ.get("EDGEWRIGHT_FUZZ", "0"))
"""So many times as many examples, and other ones each time; 0: the same ones in every run."""
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
INTERESTING = (b"\0", b"\xff", b"\xff" * 2, b"\xff" * 4, b"\0" * 4, b"\x01\0", b"\xff\xff\xff\x7f", LOCAL, CENTRAL, END)
LIMIT_BYTES = 1 << 30


def examples(count: int) -> settings:
    return settings(
        max_examples=count * max(1, LONGER),
        derandomize=not LONGER,
        print_blob=bool(LONGER),
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def archive(sealed: Path) -> bytes:
    return Bundle.open(sealed).pack(sealed.with_suffix(".edgez")).read_bytes()


@pytest.fixture(scope="module")
def contents(sealed: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sealed.iterdir()}


def check_folder(path: Path, contents: dict[str, bytes]) -> bool:
    """Opens a damaged bundle; True if it opened, and then it is the sealed one."""
    try:
        opened = open_bundle(path)
    except BundleError:
        return False
    core = {name: (opened.folder / name).read_bytes() for name in contents}
    assert core == contents
    return True


def check_archive(path: Path, data: bytes, contents: dict[str, bytes]) -> bool:
    path.write_bytes(data)
    return check_folder(path, contents)


# Bytes.

Edit = Callable[[bytes], bytes]


@st.composite
def edits(draw: Any) -> Edit:
    """One change of a byte string, at a place given as a share so that it fits any length."""
    place = draw(st.integers(0, 1 << 20))
    kind = draw(st.sampled_from(("flip", "set", "cut", "drop", "insert", "copy", "swap")))
    size = draw(st.integers(1, 64))
    value = draw(st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=8)))

    def edit(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        if kind == "flip" and at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << size % 8)]) + data[at + 1 :]
        if kind == "set":
            return data[:at] + value + data[at + len(value) :]
        if kind == "cut":
            return data[:at]
        if kind == "drop":
            return data[:at] + data[at + size :]
        if kind == "insert":
            return data[:at] + value + data[at:]
        if kind == "copy":
            return data + data[at:]
        return data[at:] + data[:at]

    return edit


def applied(data: bytes, changes: list[Edit]) -> bytes:
    for change in changes:
        data = change(data)
    return data


@examples(250)
@given(changes=st.lists(edits(), min_size=1, max_size=4))
def test_damaged_archives(changes: list[Edit], archive: bytes, contents: dict[str, bytes], tmp_path: Path) -> None:
    check_archive(tmp_path / "x.edgez", applied(archive, changes), contents)


@examples(250)
@given(change=st.lists(edits(), min_size=1, max_size=3), tail=st.integers(1, 700))
def test_damaged_directories_of_archives(
    change: list[Edit], tail: int, archive: bytes, contents: dict[str, bytes], tmp_path: Path
) -> None:
    at = max(archive.index(CENTRAL), len(archive) - tail)
    check_archive(tmp_path / "x.edgez", archive[:at] + applied(archive[at:], change), contents)


@examples(250)
@given(name=st.sampled_from(("manifest.json", "manifest.sha256", "model.onnx", "labels.txt")), change=edits())
def test_damaged_files_of_folders(
    name: str, change: Edit, sealed: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "x.edge"
    if not folder.exists():
        shutil.copytree(sealed, folder)
    (folder / name).write_bytes(change(contents[name]))
    opened = check_folder(folder, contents)
    (folder / name).write_bytes(contents[name])
    assert check_folder(folder, contents)
    assert opened == (change(contents[name]) == contents[name])


@examples(300)
@given(changes=st.lists(edits(), min_size=1, max_size=2))
def test_damaged_manifests_never_raise_anything_else(changes: list[Edit], contents: dict[str, bytes]) -> None:
    with suppress(BundleError):
        Manifest.from_json(applied(contents["manifest.json"], changes))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in plain data."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in below for path in paths(inner, (*at, key)))]


@examples(200)
@given(data=st.data())
def test_believable_manifests_with_any_value_in_any_field(data: Any, sealed: Path, tmp_path: Path) -> None:
    """The hash is right, the value is not: the worst that happens is a BundleError."""
    folder = tmp_path / "x.edge"
    if not folder.exists():
        shutil.copytree(sealed, folder)
    plain = json.loads((sealed / "manifest.json").read_bytes())
    place = data.draw(st.sampled_from(paths(plain)[1:]))
    inner = plain
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(JSON)
    written = json.dumps(plain).encode("utf-8", "surrogatepass")
    (folder / "manifest.json").write_bytes(written)
    (folder / "manifest.sha256").write_text(hashlib.sha256(written).hexdigest() + "\n")
    try:
        opened = open_bundle(folder)
    except BundleError:
        return
    assert set(opened.manifest.files) == {"model.onnx", "labels.txt"}


# The structure of a zip: each field of each record set to each odd value.

LOCAL_FIELDS = {"version": 4, "flags": 6, "method": 8, "crc": 14, "packed": 18, "size": 22, "name": 26, "extra": 28}
CENTRAL_FIELDS = {
    "version made": 4,
    "version": 6,
    "flags": 8,
    "method": 10,
    "crc": 16,
    "packed": 20,
    "size": 24,
    "name": 28,
    "extra": 30,
    "comment": 32,
    "disk": 34,
    "attributes": 38,
    "offset": 42,
}
END_FIELDS = {"disk": 4, "start disk": 6, "here": 8, "total": 10, "size": 12, "offset": 16, "comment": 20}
WIDE = {"crc", "packed", "size", "offset", "attributes"}
VALUES = (0, 1, 2, 8, 9, 12, 14, 63, 64, 65, 99, 0x21, 0x40, 0x800, 0x7FFF, 0xFFFE, 0xFFFF)
WIDE_VALUES = (*VALUES, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0xA1ED0000)


def records(archive: bytes, signature: bytes) -> list[int]:
    found, at = [], archive.find(signature)
    while at >= 0:
        found.append(at)
        at = archive.find(signature, at + 4)
    return found


def every_field(archive: bytes) -> list[tuple[int, str]]:
    rows = []
    for signature, fields in ((LOCAL, LOCAL_FIELDS), (CENTRAL, CENTRAL_FIELDS), (END, END_FIELDS)):
        starts = records(archive, signature)
        for start in {starts[0], starts[-1]}:
            rows += [(start + offset, "<I" if name in WIDE else "<H") for name, offset in fields.items()]
    return rows


def test_every_field_of_the_zip_set_to_odd_values(archive: bytes, contents: dict[str, bytes], tmp_path: Path) -> None:
    for at, form in every_field(archive):
        for value in WIDE_VALUES if form == "<I" else VALUES:
            damaged = bytearray(archive)
            struct.pack_into(form, damaged, at, value)
            check_archive(tmp_path / "x.edgez", bytes(damaged), contents)


def test_every_truncation(archive: bytes, contents: dict[str, bytes], tmp_path: Path) -> None:
    for size in range(0, len(archive), 23):
        assert not check_archive(tmp_path / "x.edgez", archive[:size], contents)


def rebuilt(entries: list[tuple[str, bytes]], **options: Any) -> bytes:
    """A zip of the same entries as another program would write it."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", options.pop("method", zipfile.ZIP_STORED)) as made:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = made.compression
            info.external_attr = options.get("attributes", 0o100644 << 16)
            with made.open(info, "w", force_zip64=options.get("zip64", False)) as entry:
                entry.write(data)
        made.comment = options.get("comment", b"")
    return raw.getvalue()


ORDER = ("manifest.json", "labels.txt", "model.onnx", "manifest.sha256")


@pytest.fixture
def entries(contents: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name, contents[name]) for name in ORDER]


@pytest.mark.parametrize("options", [{}, {"zip64": True}, {"comment": b"x" * 65535}, {"attributes": 0o120777 << 16}])
def test_a_zip_by_another_program_holds_the_same_bundle(
    entries: list[tuple[str, bytes]], contents: dict[str, bytes], options: dict[str, Any], tmp_path: Path
) -> None:
    assert check_archive(tmp_path / "x.edgez", rebuilt(entries, **options), contents)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused(
    entries: list[tuple[str, bytes]], contents: dict[str, bytes], method: int, tmp_path: Path
) -> None:
    assert not check_archive(tmp_path / "x.edgez", rebuilt(entries, method=method), contents)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/tmp/outside",
        "a/../../outside",
        "..\\outside",
        "C:\\outside",
        "folder/",
        ".",
        "..",
        "./model.onnx",
        "a//b",
        "\x7f/../x",
        "model.onnx/below",
        "extra",
        "measurements",
    ],
)
def test_entries_with_other_names_are_refused_and_write_nothing_outside(
    entries: list[tuple[str, bytes]], contents: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    before = set(Path("/tmp").glob("outside*")) | set(tmp_path.parent.iterdir())
    for position in (0, len(entries)):
        with_extra = [*entries[:position], (name, b"owned"), *entries[position:]]
        assert not check_archive(tmp_path / "x.edgez", rebuilt(with_extra), contents)
    assert set(Path("/tmp").glob("outside*")) | set(tmp_path.parent.iterdir()) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ORDER)
def test_an_entry_that_occurs_twice_is_refused(
    entries: list[tuple[str, bytes]], contents: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    for other in (contents[name], b"other"):
        assert not check_archive(tmp_path / "x.edgez", rebuilt([*entries, (name, other)]), contents)
        assert not check_archive(tmp_path / "x.edgez", rebuilt([(name, other), *entries]), contents)


def test_an_entry_beside_the_core_travels(entries: list[tuple[str, bytes]], contents: dict[str, bytes], tmp_path: Path) -> None:
    beside = [*entries, ("report.html", b"<html>"), ("measurements/a.json", b"{}")]
    assert check_archive(tmp_path / "x.edgez", rebuilt(beside), contents)


@pytest.mark.parametrize("missing", ORDER)
def test_an_archive_without_one_of_the_files_is_refused(
    entries: list[tuple[str, bytes]], contents: dict[str, bytes], missing: str, tmp_path: Path
) -> None:
    left = [(name, data) for name, data in entries if name != missing]
    assert not check_archive(tmp_path / "x.edgez", rebuilt(left), contents)


def set_everywhere(archive: bytes, local: str, central: str, form: str, value: int) -> bytes:
    damaged = bytearray(archive)
    for start in records(archive, LOCAL):
        struct.pack_into(form, damaged, start + LOCAL_FIELDS[local], value)
    for start in records(archive, CENTRAL):
        struct.pack_into(form, damaged, start + CENTRAL_FIELDS[central], value)
    return bytes(damaged)


def test_encrypted_entries_are_refused(archive: bytes, contents: dict[str, bytes], tmp_path: Path) -> None:
    for flags in (1, 0x41, 0x2001):
        damaged = set_everywhere(archive, "flags", "flags", "<H", flags)
        assert not check_archive(tmp_path / "x.edgez", damaged, contents)


def entry_pointing_at(offset: int, size: int, crc: int, name: bytes) -> bytes:
    """A central directory record of a stored entry that lies anywhere."""
    numbers = (20, 20, 0, 0, 0, 0x21, crc, size, size, len(name), 0, 0, 0, 0, 0, offset)
    return CENTRAL + struct.pack("<6H3I5H2I", *numbers) + name


def test_many_entries_over_the_same_bytes_are_refused(contents: dict[str, bytes], tmp_path: Path) -> None:
    """A bomb without compression: each of many entries claims the whole file."""
    kernel = bytes(1 << 20)
    name = b"a" * 8
    local = LOCAL + struct.pack("<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(kernel), len(kernel), len(kernel), 8, 0) + name
    directory = b"".join(
        entry_pointing_at(0, len(kernel), zlib.crc32(kernel), b"%08d" % i) for i in range(4000)
    )
    start = len(local) + len(kernel)
    end = END + struct.pack("<4H2IH", 0, 0, 4000, 4000, len(directory), start, 0)
    assert not check_archive(tmp_path / "x.edgez", local + kernel + directory + end, contents)


@pytest.mark.parametrize("size", [1 << 31, (1 << 32) - 2])
def test_sizes_that_are_not_there_take_no_memory(archive: bytes, contents: dict[str, bytes], size: int, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, limits[1]))
    try:
        for local, central in (("size", "size"), ("packed", "packed")):
            damaged = set_everywhere(archive, local, central, "<I", size)
            assert not check_archive(tmp_path / "x.edgez", damaged, contents)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def zip64_extra(size: int, packed: int, offset: int) -> bytes:
    return struct.pack("<HHQQQ", 1, 24, size, packed, offset)


@pytest.mark.parametrize("value", [0, 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["size", "packed", "offset"])
def test_odd_zip64_fields_are_refused(
    archive: bytes, contents: dict[str, bytes], field: str, value: int, tmp_path: Path
) -> None:
    start = records(archive, CENTRAL)[-1]
    size, packed, offset = (
        struct.unpack_from("<I", archive, start + CENTRAL_FIELDS[f])[0] for f in ("size", "packed", "offset")
    )
    true = {"size": size, "packed": packed, "offset": offset}
    name_bytes, extra_bytes = struct.unpack_from("<HH", archive, start + 28)
    record = bytearray(archive[start : start + 46 + name_bytes])
    for f in true:
        struct.pack_into("<I", record, CENTRAL_FIELDS[f], 0xFFFFFFFF)
    extra = zip64_extra(**{**true, field: value})
    struct.pack_into("<H", record, CENTRAL_FIELDS["extra"], len(extra))
    end = bytearray(archive[records(archive, END)[-1] :])
    grown = len(record) + len(extra) - (46 + name_bytes + extra_bytes)
    struct.pack_into("<I", end, 12, struct.unpack_from("<I", end, 12)[0] + grown)
    damaged = archive[:start] + bytes(record) + extra + bytes(end)
    assert check_archive(tmp_path / "x.edgez", damaged, contents) == (value == true[field])


def test_loading_what_was_fuzzed_is_refused_too(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.edgez"
    path.write_bytes(archive[:-30])
    with pytest.raises(BundleError, match="not an .edgez archive"):
        sdk.load(path)
