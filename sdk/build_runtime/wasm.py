"""A WebAssembly module in fewer bytes: every number in its code as short as it is.

A linker leaves five bytes for each address and index, whatever their size is.  Nothing but the width of numbers changes.

    python -m sdk.build_runtime.wasm linked.wasm short.wasm
"""

from __future__ import annotations

import sys
from pathlib import Path

from device_profiles.errors import DependencyError
from edgewright_runtime.bundle.paths import write_file

_HEADER = b"\0asm\1\0\0\0"
_CODE = 10
# What follows an opcode: u and s are numbers without and with sign, m is an alignment and an offset, a digit is so many
# bytes as they are, v is a count and so many numbers, t a count and so many bytes.
_PLAIN = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x41, 0x42, 0xD0), "s"),
    **dict.fromkeys((0x0C, 0x0D, 0x10, 0x12, *range(0x20, 0x27), 0x3F, 0x40, 0xD2), "u"),
    **dict.fromkeys((0x11, 0x13), "uu"),
    **dict.fromkeys(range(0x28, 0x3F), "m"),
    0x0E: "vu",
    0x1C: "t",
    0x43: "4",
    0x44: "8",
}
_BULK = {8: "uu", 9: "u", 10: "uu", 11: "u", 12: "uu", 13: "u", 14: "uu", 15: "u", 16: "u", 17: "u"}
_VECTOR = {
    **dict.fromkeys((*range(12), 92, 93), "m"),
    **dict.fromkeys(range(84, 92), "m1"),
    **dict.fromkeys(range(21, 35), "1"),
    12: "88",
    13: "88",
}
_PREFIXED = {0xFC: _BULK, 0xFD: _VECTOR}


class _Reader:
    """A place in the module, and what was written of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.out = data, 0, bytearray()

    def number(self, signed: bool = False) -> int:
        value, shift = 0, 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value

    def keep(self, count: int) -> None:
        self.out += self.data[self.at : self.at + count]
        self.at += count

    def keep_number(self, signed: bool = False) -> int:
        value = self.number(signed)
        self.out += _signed(value) if signed else _unsigned(value)
        return value


def compact(module: bytes) -> bytes:
    """The module with short numbers.

    Args:
        module: A linked WebAssembly 1.0 module, SIMD and bulk memory included.

    Raises:
        DependencyError: It is no such module.
    """
    if not module.startswith(_HEADER):
        raise DependencyError(f"no WebAssembly module: it begins with {module[:8]!r}")
    reader, out = _Reader(module), bytearray(_HEADER)
    reader.at = len(_HEADER)
    try:
        while reader.at < len(module):
            section = module[reader.at]
            reader.at += 1
            content = _take(reader)
            content = _code(content) if section == _CODE else content
            out += bytes([section]) + _unsigned(len(content)) + content
    except IndexError:
        raise DependencyError("the WebAssembly module is cut off") from None
    return bytes(out)


def _take(reader: _Reader) -> bytes:
    size = reader.number()
    if reader.at + size > len(reader.data):
        raise IndexError
    reader.at += size
    return reader.data[reader.at - size : reader.at]


def _code(section: bytes) -> bytes:
    reader = _Reader(section)
    for _ in range(reader.keep_number()):
        body = _body(_take(reader))
        reader.out += _unsigned(len(body)) + body
    return bytes(reader.out)


def _body(body: bytes) -> bytes:
    reader = _Reader(body)
    for _ in range(reader.keep_number()):
        reader.keep_number()  # so many locals
        reader.keep(1)  # of this type
    while reader.at < len(body):
        _instruction(reader)
    return bytes(reader.out)


def _instruction(reader: _Reader) -> None:
    opcode = reader.data[reader.at]
    reader.keep(1)
    if opcode >= 0xFB and opcode not in _PREFIXED:
        raise DependencyError(f"instructions of prefix 0x{opcode:x} are not known here")
    follows = _PREFIXED[opcode].get(reader.keep_number(), "") if opcode in _PREFIXED else _PLAIN.get(opcode, "")
    for what in follows:
        if what in "us":
            reader.keep_number(signed=what == "s")
        elif what == "m":
            reader.keep_number()
            reader.keep_number()
        elif what == "v":
            for _ in range(reader.keep_number()):
                reader.keep_number()
        elif what == "t":
            reader.keep(reader.keep_number())
        else:
            reader.keep(int(what))


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _signed(value: int) -> bytes:
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])


if __name__ == "__main__":
    write_file(Path(sys.argv[2]), compact(Path(sys.argv[1]).read_bytes()))
