"""The zip reader: what zipfile and our packer write, every refusal, every cut, random damage, 5 GiB, no memory."""

from __future__ import annotations

import ctypes
import io
import itertools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_runtime.bundle.consistency import is_inside
from edgewright_runtime.bundle.pack import ALIGNMENT, pack

from .inside import INVALID_MODEL, IO, NO_MEMORY, OK, EngineError, engine

LOCAL, CENTRAL, END, END64, LOCATOR64 = (b"PK" + code for code in (b"\3\4", b"\1\2", b"\5\6", b"\6\6", b"\6\7"))
EXAMPLES = settings(max_examples=150, derandomize=True, database=None, deadline=None)
READ_AT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t)


class Entry(ctypes.Structure):
    """``ew_zip_entry``"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("offset", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("crc", ctypes.c_uint32),
    ]


class Zip(ctypes.Structure):
    """``ew_zip``"""

    _fields_ = [("entries", ctypes.POINTER(Entry)), ("count", ctypes.c_size_t)]


C = engine("zip.c", "sort.c", structs=("ew_zip", "ew_zip_entry"))
C.c.ew_zip_open.argtypes = [READ_AT, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.POINTER(Zip)]
C.c.ew_zip_find.argtypes = [ctypes.POINTER(Zip), ctypes.c_char_p]
C.c.ew_zip_find.restype = ctypes.POINTER(Entry)


@dataclass
class Source:
    """An archive with holes of zeros: pieces by their offset.  Read number ``fail_at`` fails."""

    pieces: dict[int, bytes]
    size: int
    fail_at: int | None = None
    reads: int = 0
    wrong: list[tuple[int, int]] = field(default_factory=list)

    def read_at(self, _user: int | None, offset: int, into: int, count: int) -> int:
        self.reads += 1
        if offset + count > self.size:
            self.wrong.append((offset, count))
            return IO
        if self.reads == self.fail_at:
            return IO
        ctypes.memset(into, 0, count)
        for start, piece in self.pieces.items():
            first, last = max(offset, start), min(offset + count, start + len(piece))
            if first < last:
                ctypes.memmove(into + first - offset, piece[first - start : last - start], last - first)
        return OK


def read(archive: bytes | Source, blocks: int | None = None) -> dict[str, tuple[int, int, int]]:
    """Offset, bytes and CRC of every entry by its name."""
    source = archive if isinstance(archive, Source) else Source({0: archive}, len(archive))
    opened = Zip()
    with C.arena(blocks) as arena:
        try:
            C.check(C.c.ew_zip_open(READ_AT(source.read_at), None, source.size, arena, ctypes.byref(opened)))
        finally:
            assert not source.wrong
        entries = [opened.entries[i] for i in range(opened.count)]
        assert [e.name for e in entries] == sorted(e.name for e in entries)
        for entry in entries[:: max(1, len(entries) // 100)]:
            assert C.c.ew_zip_find(opened, entry.name).contents.offset == entry.offset
        assert not C.c.ew_zip_find(opened, b"no such entry")
        return {e.name.decode(): (e.offset, e.bytes, e.crc) for e in entries}


def contents(archive: bytes) -> dict[str, bytes]:
    return {name: archive[offset : offset + count] for name, (offset, count, _) in read(archive).items()}


def refusal(archive: bytes | Source) -> str:
    with pytest.raises(EngineError) as caught:
        read(archive)
    assert caught.value.status == INVALID_MODEL
    return str(caught.value)


def test_mirrored_structs() -> None:
    assert len(C.new("ew_zip")) == ctypes.sizeof(Zip) and len(C.new("ew_zip_entry")) == ctypes.sizeof(Entry)


# What others write.

FILES = {
    "manifest.json": b"{}",
    "a": b"",
    "deep/er/model.bin": bytes(range(256)) * 5,
    "é€😀.txt": b"names",
    "...": b"3",
}


def zipped(files: dict[str, bytes], comment: bytes = b"", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.comment = comment
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("files", [{}, {"a": b""}, FILES, {f"{i}/{i % 7}": b"x" * i for i in range(300)}], ids=len)
@pytest.mark.parametrize("comment", [b"", b"hello", END + b"x" * 30, b"c" * 65535], ids=len)
def test_zipfile(files: dict[str, bytes], comment: bytes) -> None:
    archive = zipped(files, comment)
    assert contents(archive) == files
    assert {name: crc for name, (_, _, crc) in read(archive).items()} == {n: zlib.crc32(d) for n, d in files.items()}


def test_zipfile_that_cannot_seek() -> None:
    class Pipe(io.BytesIO):
        def seek(self, *_: Any) -> int:
            raise OSError("a pipe")

        def tell(self) -> int:
            raise OSError("a pipe")

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=name == "a") as entry:
                entry.write(data)
    assert contents(pipe.getvalue()) == FILES


def test_zip64_sizes_in_the_local_header() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(b"data")
    assert contents(buffer.getvalue()) == {"a": b"data"}


def test_our_packer(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_bytes(data)
    pack(tmp_path / "b", FILES, tmp_path / "b.edgez")
    archive = (tmp_path / "b.edgez").read_bytes()
    assert contents(archive) == FILES
    assert all(offset % ALIGNMENT == 0 for offset, _, _ in read(archive).values())


# Archives made by hand: each field of each header can be wrong.


@dataclass
class Part:
    """An entry; ``local`` and ``central`` overrule fields of the one header or the other."""

    name: bytes
    data: bytes = b"data"
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)


def local_header(part: Part) -> bytes:
    f = {"sig": LOCAL, "flags": 0x800, "method": 0, "crc": 0, "stored": len(part.data), "bytes": len(part.data)}
    f |= {"name": part.name, "extra": b""} | part.local
    fixed = struct.pack("<HHHHHIIIHH", 20, f["flags"], f["method"], 0, 0, f["crc"], f["stored"], f["bytes"],
                        len(f["name"]), len(f["extra"]))  # fmt: skip
    return bytes(f["sig"] + fixed + f["name"] + f["extra"])


def central_header(part: Part, offset: int) -> bytes:
    f = {"sig": CENTRAL, "flags": 0x800, "method": 0, "crc": 0, "stored": len(part.data), "bytes": len(part.data)}
    f |= {"name": part.name, "extra": b"", "comment": b"", "disk": 0, "offset": offset} | part.central
    fixed = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, f["flags"], f["method"], 0, 0, f["crc"], f["stored"], f["bytes"],
                        len(f["name"]), len(f["extra"]), len(f["comment"]), f["disk"], 0, 0, f["offset"])  # fmt: skip
    return bytes(f["sig"] + fixed + f["name"] + f["extra"] + f["comment"])


def end_record(count: int, size: int, offset: int, disks: Sequence[int] = (0, 0), here: int | None = None) -> bytes:
    return END + struct.pack("<HHHHIIH", *disks, count if here is None else here, count, size, offset, 0)


def end64(count: int, size: int, offset: int, **changes: int) -> bytes:
    """Both zip64 records and an end record that refers to them; they follow the directory."""
    f = {
        "bytes": 44,
        "disk": 0,
        "start": 0,
        "here": count,
        "locator_disk": 0,
        "at": offset + size,
        "disks": 1,
    } | changes
    record = END64 + struct.pack(
        "<QHHIIQQQQ", f["bytes"], 45, 45, f["disk"], f["start"], f["here"], count, size, offset
    )
    locator = LOCATOR64 + struct.pack("<IQI", f["locator_disk"], f["at"], f["disks"])
    return record + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def build(*parts: Part, end: Any = end_record, **changes: Any) -> bytes:
    bodies = [local_header(part) + part.data for part in parts]
    starts = itertools.accumulate(map(len, bodies), initial=0)
    body, directory = b"".join(bodies), b"".join(map(central_header, parts, starts))
    return body + directory + bytes(end(len(parts), len(directory), len(body), **changes))


def zip64_field(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)


TWO = (Part(b"one"), Part(b"two", b"2" * 9))
ALL = 0xFFFFFFFF


def test_by_hand() -> None:
    assert contents(build(*TWO)) == contents(build(*TWO, end=end64)) == {"one": b"data", "two": b"2" * 9}


def test_zip64_fields() -> None:
    other = struct.pack("<HH3s", 7, 3, b"xyz")
    sizes = {"stored": ALL, "bytes": ALL}
    parts = (
        Part(
            b"one",
            local=sizes | {"extra": other + zip64_field(4, 4)},
            central=sizes | {"extra": zip64_field(4, 4) + other},
        ),
        Part(b"two", central={"offset": ALL, "extra": zip64_field(33 + 4 + len(other) + 20)}),
        Part(b"six", central={"bytes": ALL, "extra": zip64_field(4)}),
    )
    assert contents(build(*parts, end=end64)) == dict.fromkeys(("one", "two", "six"), b"data")


FIVE_GIB = 5 << 30


def test_beyond_4_gib(tmp_path: Path) -> None:
    sizes = {"stored": ALL, "bytes": ALL, "extra": zip64_field(FIVE_GIB, FIVE_GIB)}
    big, small = Part(b"big", b"", sizes, sizes), Part(b"small")
    start = len(local_header(big)) + FIVE_GIB
    small.central = {"offset": ALL, "extra": zip64_field(start)}
    rear = local_header(small) + small.data
    directory = central_header(big, 0) + central_header(small, start)
    tail = rear + directory + end64(2, len(directory), start + len(rear))
    found = read(Source({0: local_header(big), start: tail}, start + len(tail)))
    assert found == {"big": (start - FIVE_GIB, FIVE_GIB, 0), "small": (start + 35, 4, 0)}
    with open(tmp_path / "sparse.zip", "wb") as file:
        file.write(local_header(big))
        file.seek(start)
        file.write(tail)
    with zipfile.ZipFile(tmp_path / "sparse.zip") as archive:
        assert [(i.filename, i.file_size) for i in archive.infolist()] == [("big", FIVE_GIB), ("small", 4)]


def test_zipfile_between_2_and_4_gib() -> None:
    """There zipfile writes zip64 records behind which the end record is right all the same."""
    size = 3 << 30
    big = Part(b"big", b"", {"stored": size, "bytes": size}, {"stored": size, "bytes": size})
    directory, start = central_header(big, 0), len(local_header(big)) + size
    tail = directory + end64(1, len(directory), start)[:-22] + end_record(1, len(directory), start)
    assert read(Source({0: local_header(big), start: tail}, start + len(tail))) == {"big": (33, size, 0)}


def twice(**changes: Any) -> Part:
    return Part(b"x", local=changes, central=changes)


def streamed(**local: Any) -> Part:
    return Part(b"x", local={"flags": 0x808} | local, central={"flags": 0x808})


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "no zip file"),
    "text": (b"no zip file at all " * 9, "no zip file"),
    "signature alone": (END, "no zip file"),
    "end record as comment": (zipped(FILES, END + bytes(18)), "does not lie before"),
    "something behind": (build(*TWO) + b"x", "something behind it"),
    "something behind the comment": (zipped(FILES, b"comment") + b"x", "something behind it"),
    "something before": (b"x" + build(*TWO), "does not lie before its end record"),
    "gap before the end": (build(*TWO)[:-22] + b"x" + build(*TWO)[-22:], "does not lie before its end record"),
    "compressed": (zipped(FILES, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "compressed here": (build(Part(b"x", central={"method": 8})), "is compressed"),
    "compressed there": (build(Part(b"x", local={"method": 8})), "is compressed"),
    "patch": (build(twice(flags=0x20)), "is compressed"),
    "encrypted": (build(twice(flags=1)), "is encrypted"),
    "encrypted here": (build(Part(b"x", central={"flags": 1})), "is encrypted"),
    "encrypted there": (build(Part(b"x", local={"flags": 1})), "is encrypted"),
    "strongly encrypted": (build(twice(flags=0x41)), "is encrypted"),
    "masked": (build(twice(flags=0x2000)), "is encrypted"),
    "sizes differ": (build(Part(b"x", central={"stored": 3})), "a stored size that is not its size"),
    "sizes differ there": (build(Part(b"x", local={"stored": 3})), "a stored size that is not its size"),
    "another size there": (build(Part(b"x", local={"stored": 3, "bytes": 3})), "another size"),
    "no size there": (build(Part(b"x", local={"stored": 0, "bytes": 0})), "another size"),
    "streamed, another size": (build(streamed(stored=3, bytes=3)), "another size"),
    "another name there": (build(Part(b"x", local={"name": b"y"})), "another name"),
    "longer name there": (build(Part(b"x", local={"name": b"xx"})), "is not where the directory says"),
    "no local header": (build(Part(b"x", local={"sig": CENTRAL})), "is not where the directory says"),
    "beyond the file": (build(Part(b"x", central={"offset": 10_000})), "is cut off"),
    "far beyond the file": (build(Part(b"x", central={"offset": ALL, "extra": zip64_field(2**64 - 1)})), "is cut off"),
    "no zip64 field": (build(Part(b"x", central={"offset": ALL})), "a broken directory"),
    "short zip64 field": (build(Part(b"x", central={"bytes": ALL, "stored": ALL, "extra": zip64_field(4)})), "broken"),
    "extra field too long": (build(Part(b"x", central={"extra": b"\7\0\1\0"})), "a broken directory"),
    "extra field too long there": (build(Part(b"x", local={"extra": b"\7\0\1\0"})), "broken fields"),
    "no zip64 field there": (build(Part(b"x", local={"bytes": ALL, "stored": ALL})), "broken fields"),
    "zip64 size there": (build(Part(b"x", local={"bytes": ALL, "stored": ALL, "extra": zip64_field(5, 5)})), "another size"),
    "into the directory": (build(twice(stored=5, bytes=5)), "reaches into the directory"),
    "huge": (build(twice(stored=ALL, bytes=ALL, extra=zip64_field(2**64 - 1, 2**64 - 1))), "reaches into the directory"),
    "header twice": (build(TWO[0], Part(b"one", central={"offset": 0})), "overlaps"),
    "name twice": (build(TWO[0], TWO[1], TWO[0]), '"one" occurs twice'),
    "bad entry signature": (build(TWO[0], Part(b"x", central={"sig": LOCAL})), "a broken directory"),
    "name beyond the directory": (build(TWO[0])[:-22].replace(b"\3\0\0\0\0\0\0\0", b"\3\1\0\0\0\0\0\0") + build(TWO[0])[-22:], "broken directory"),
    "fewer entries": (build(*TWO, end=lambda n, s, o: end_record(n - 1, s, o)), "more in its directory"),
    "more entries": (build(*TWO, end=lambda n, s, o: end_record(n + 1, s, o)), "a broken directory"),
    "disk of an entry": (build(Part(b"x", central={"disk": 1})), "several disks"),
    "disk of the end": (build(*TWO, disks=(1, 0)), "several disks"),
    "disk of the directory": (build(*TWO, disks=(0, 1)), "several disks"),
    "entries elsewhere": (build(*TWO, here=1), "several disks"),
    "zip64: disk": (build(*TWO, end=end64, disk=1), "several disks"),
    "zip64: start disk": (build(*TWO, end=end64, start=1), "several disks"),
    "zip64: locator's disk": (build(*TWO, end=end64, locator_disk=1), "several disks"),
    "zip64: disks": (build(*TWO, end=end64, disks=2), "several disks"),
    "zip64: entries elsewhere": (build(*TWO, end=end64, here=1), "several disks"),
    "zip64: record elsewhere": (build(*TWO, end=end64, at=0), "no zip64 end record"),
    "zip64: record beyond": (build(*TWO, end=end64, at=2**64 - 40), "no zip64 end record"),
    "zip64: record size": (build(*TWO, end=end64, bytes=45), "no zip64 end record"),
    "zip64: no locator": (build(*TWO, end=lambda n, s, o: end_record(0xFFFF, ALL, ALL)), "does not lie before"),
    "zip64: too many": (build(*TWO, end=lambda n, s, o: end64(65537, s, o)), "more than 65536 entries"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    archive, problem = REFUSED[case]
    assert problem in refusal(archive)


def test_overlapping_data() -> None:
    """An entry whose data hold the header and data of the other."""
    inner = local_header(Part(b"in")) + b"data"
    outer = Part(b"out", inner)
    start = len(local_header(outer))
    body, directory = local_header(outer) + inner, central_header(outer, 0) + central_header(Part(b"in"), start)
    assert '"in" overlaps' in refusal(body + directory + end_record(2, len(directory), len(body)))


def test_order_and_gaps_do_not_matter() -> None:
    one, two = Part(b"one"), Part(b"two")
    body = b"gap" + local_header(two) + b"22" + b"22" + b"gap" + local_header(one) + b"1111" + b"gap"
    directory = central_header(one, body.index(b"gap", 3) + 3) + central_header(two, 3)
    assert contents(body + directory + end_record(2, len(directory), len(body))) == {"one": b"1111", "two": b"2222"}


def test_sizes_behind_the_data() -> None:
    assert contents(build(streamed(stored=0, bytes=0))) == contents(build(streamed())) == {"x": b"data"}


BAD_NAMES = [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"./a", b"../a", b"a/.", b"a/..", b"a/./b", b"a/../b"]
BAD_NAMES += [b"a\\b", b"c:", b"c:/a", b"a\0b", b"\0", b"\xff", b"\xc3", b"a/\xed\xa0\x80", b"\xc0\xae\xc0\xae/a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: bytes) -> None:
    assert "name is not that of a file inside a bundle" in refusal(build(Part(b"fine"), Part(name)))


@EXAMPLES
@given(name=st.text("ab./\\:\0é", max_size=6))
def test_names_as_python_judges_them(name: str) -> None:
    archive = build(Part(name.encode()))
    if is_inside(name):
        assert contents(archive) == {name: b"data"}
    else:
        refusal(archive)


def test_names_beyond_ascii_need_the_flag() -> None:
    assert contents(build(Part("é".encode()))) == {"é": b"data"}
    refusal(build(Part("é".encode(), central={"flags": 0})))


def many(count: int) -> bytes:
    """Empty entries 000000, 000001, ..."""
    part = Part(b"", b"", {"name": b"number"}, {"name": b"number"})
    local, central = local_header(part)[:-6], central_header(part, 0)[:-10]
    names = [b"%06d" % number for number in range(count)]
    body = b"".join(local + name for name in names)
    entries = (central + struct.pack("<I6s", i * len(local + name), name) for i, name in enumerate(names))
    directory = b"".join(entries)
    return body + directory + end64(count, len(directory), len(body))


def test_most_entries() -> None:
    found = read(many(65536))
    assert len(found) == 65536
    assert "more than 65536" in refusal(many(65537))


def test_largest_directory() -> None:
    for size, problem in ((64 << 20, "broken directory"), ((64 << 20) + 1, "64 MiB")):
        assert problem in refusal(Source({size: end_record(1, size, 0)}, size + 22))


# Damage.

SMALL = zipped({"a": b"12", "b/c": b""}, b"x")
SMALL64 = build(*TWO, Part(b"z", b"", {"bytes": ALL, "stored": ALL, "extra": zip64_field(0, 0)}), end=end64)
TEXTS = [SMALL, SMALL64, zipped(FILES, b"comment"), build(streamed(stored=0, bytes=0))]


@pytest.mark.parametrize("archive", [SMALL, SMALL64])
def test_cut_anywhere(archive: bytes) -> None:
    for end in range(len(archive)):
        refusal(archive[:end])


def theirs(archive: bytes) -> dict[str, tuple[int, int, int]] | None:
    """What zipfile reads of an archive that is ours to accept, None where it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                return {i.filename: (i.header_offset, i.file_size, i.CRC) for i in opened.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError):
        return None


@st.composite
def damaged(draw: Any) -> bytes:
    data = bytearray(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[at] ^= 1 << draw(st.integers(0, 7))
        else:
            value = draw(st.sampled_from((b"\0", b"\1", b"\xff\xff", b"\xff" * 4, b"\xff" * 8, END, LOCATOR64, LOCAL)))
            data[at : at + len(value)] = value
    return bytes(data)


@settings(EXAMPLES, max_examples=600)
@given(archive=damaged())
def test_damaged(archive: bytes) -> None:
    """Ours refuses, or what it accepts lies in the archive and is what zipfile reads."""
    try:
        found = read(archive)
    except EngineError as error:
        assert error.status == INVALID_MODEL
        return
    ranges = sorted((offset, offset + count) for offset, count, _ in found.values())
    assert all(one[1] <= two[0] for one, two in zip(ranges, ranges[1:], strict=False))
    assert all(30 <= start <= end <= len(archive) for start, end in ranges)
    assert all(is_inside(name) for name in found)
    wanted = theirs(archive)
    assert wanted is None or {n: v[1:] for n, v in wanted.items()} == {n: v[1:] for n, v in found.items()}


def test_reads_that_fail() -> None:
    whole = Source({0: SMALL64}, len(SMALL64))
    read(whole)
    assert whole.reads > 5
    for number in range(1, whole.reads + 1):
        with pytest.raises(EngineError) as caught:
            read(Source({0: SMALL64}, len(SMALL64), fail_at=number))
        assert caught.value.status == IO


def test_no_memory() -> None:
    archive = many(3000)
    for blocks in range(3):
        with pytest.raises(EngineError) as caught:
            read(archive, blocks)
        assert caught.value.status == NO_MEMORY
    assert len(read(archive, 3)) == 3000
