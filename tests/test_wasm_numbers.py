"""``sdk/build_runtime/wasm.py``: a module's numbers without padding."""

from __future__ import annotations

import pytest

from device_profiles.errors import DependencyError
from sdk.build_runtime.wasm import compact

HEADER = b"\0asm\1\0\0\0"


def padded(value: int) -> bytes:
    """Five bytes, as linkers write."""
    return bytes([*((value >> (7 * i) & 0x7F) | 0x80 for i in range(4)), value >> 28 & 0x7F])


def module(code: bytes) -> bytes:
    body = b"\x01" + b"\x02\x7f" + code + b"\x0b"
    section = b"\x01" + padded(len(body)) + body
    return HEADER + b"\x0a" + padded(len(section)) + section


def short(code: bytes) -> bytes:
    body = b"\x01" + b"\x02\x7f" + code + b"\x0b"
    section = b"\x01" + bytes([len(body)]) + body
    return HEADER + b"\x0a" + bytes([len(section)]) + section


@pytest.mark.parametrize(
    "long, wanted",
    [
        (b"\x10" + padded(7), b"\x10\x07"),
        (b"\x10" + padded(300), b"\x10\xac\x02"),
        (b"\x11" + padded(3) + padded(0), b"\x11\x03\x00"),
        (b"\x28\x02" + padded(1024), b"\x28\x02\x80\x08"),
        (b"\x41" + padded(63), b"\x41\x3f"),
        (b"\x41" + padded(64), b"\x41\xc0\x00"),
        (b"\x41\xff\xff\xff\xff\x7f", b"\x41\x7f"),
        (b"\x42\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", b"\x42\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f"),
        (b"\x44" + b"\x80" * 8, b"\x44" + b"\x80" * 8),
        (b"\x0e" + padded(2) + padded(1) + padded(0) + padded(3), b"\x0e\x02\x01\x00\x03"),
        (b"\xfc\x0a" + padded(0) + padded(0), b"\xfc\x0a\x00\x00"),
        (b"\xfd\x0c" + b"\x80" * 16, b"\xfd\x0c" + b"\x80" * 16),
        (b"\xfd\x54" + b"\x00" + padded(5) + b"\x0f", b"\xfd\x54\x00\x05\x0f"),
        (b"\xfd" + padded(0x105), b"\xfd\x85\x02"),
        (b"\x1c\x01\x7b", b"\x1c\x01\x7b"),
    ],
)
def test_every_kind_of_number_becomes_short(long, wanted):
    assert compact(module(long)) == short(wanted)
    assert compact(short(wanted)) == short(wanted)


def test_other_sections_stay():
    custom = b"\x00\x04\x03abc"
    assert compact(HEADER + custom) == HEADER + custom


@pytest.mark.parametrize("data", [b"", b"\0asm\2\0\0\0", b"\x7fELF...."])
def test_what_is_no_module_is_refused(data):
    with pytest.raises(DependencyError, match="no WebAssembly module"):
        compact(data)


@pytest.mark.parametrize("cut", range(9, 20))
def test_a_module_that_is_cut_off_is_refused(cut):
    whole = module(b"\x41" + padded(5) + b"\x1a")
    with pytest.raises(DependencyError):
        compact(whole[:cut])


def test_unknown_instructions_are_refused():
    with pytest.raises(DependencyError, match="0xfe"):
        compact(module(b"\xfe\x00\x02\x00"))
