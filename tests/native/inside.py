"""The inside of the native engine for tests: chosen sources as one library, each function of them callable by ctypes."""

from __future__ import annotations

import atexit
import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NATIVE = Path(__file__).parents[2] / "runtime" / "native"
KERNELS = Path(__file__).parents[2] / "kernels_arm"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-w", "-shared", "-fPIC"]
SANITIZER = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]

OK, INVALID_MODEL, NO_MEMORY, IO = 0, 2, 5, 6
"""Statuses of ``edgewright.h``."""

ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class EngineError(Exception):
    """A status other than OK; the text is that of ``edge_last_error``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class GivenAllocator(ctypes.Structure):
    """``edge_allocator``"""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("allocate", ALLOCATE),
        ("release", RELEASE),
        ("user", ctypes.c_void_p),
    ]


class Allocator(GivenAllocator):
    """Grants a number of blocks and then nothing more."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks
        self.held: dict[int, Any] = {}
        super().__init__(ctypes.sizeof(Allocator), ALLOCATE(self._allocate), RELEASE(self._release), None)

    def _allocate(self, _user: int | None, count: int, alignment: int) -> int | None:
        if self.left == 0:
            return None
        self.left -= 1
        buffer = ctypes.create_string_buffer(count + alignment)
        address = -(-ctypes.addressof(buffer) // alignment) * alignment
        self.held[address] = buffer
        return address

    def _release(self, _user: int | None, pointer: int, _count: int) -> None:
        del self.held[pointer]


class Engine:
    """A library of some of the engine's sources, ``c``, and what calls of them need."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.edge_last_error.restype = ctypes.c_char_p

    def new(self, struct: str) -> ctypes.Array[ctypes.c_char]:
        """A zeroed C struct, one of those named to ``engine()``."""
        size = getattr(self.c, f"inside_sizeof_{struct}")
        size.restype = ctypes.c_size_t
        return ctypes.create_string_buffer(size())

    def check(self, status: int) -> None:
        if status != OK:
            raise EngineError(status, self.c.edge_last_error().decode(errors="replace"))

    @contextmanager
    def arena(self, blocks: int | None = None) -> Iterator[ctypes.Array[ctypes.c_char]]:
        """An ``ew_arena``; with a number of blocks its allocator grants no more than these."""
        allocator = None if blocks is None else Allocator(blocks)
        arena = self.new("ew_arena")
        self.c.ew_arena_init(arena, None if allocator is None else ctypes.byref(allocator))
        yield arena
        self.c.ew_arena_free(arena)
        assert allocator is None or not allocator.held


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="edgewright-inside-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def engine(*sources: str, structs: tuple[str, ...] = ()) -> Engine:
    """Builds ``base.c`` and other sources, once a session.

    Args:
        sources: File names in ``runtime/native/src``.
        structs: Types whose size is needed besides ``ew_arena``; from the headers named like the sources.

    Returns:
        The library; checked for undefined behaviour where the compiler ($CC) can do that; $CFLAGS are added.
    """
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip(f"needs a C compiler, there is no {compiler[0]}", allow_module_level=True)
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    sizes, library = folder / "sizes.c", folder / "inside.so"
    sizes.write_text(_sizes(("base.c", *sources), ("ew_arena", *structs)))
    files = [sizes, *(NATIVE / "src" / source for source in ("base.c", *sources))]
    folders = [f"-I{folder}" for folder in (NATIVE / "include", NATIVE / "src", KERNELS / "include")]
    command = [*compiler, *FLAGS, *folders, *map(str, files)]
    command += ["-o", str(library), "-lm", *os.environ.get("CFLAGS", "").split()]
    built = subprocess.run([*command, *SANITIZER], capture_output=True, text=True)
    if built.returncode:
        built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return Engine(library)


def _sizes(sources: tuple[str, ...], structs: tuple[str, ...]) -> str:
    headers = [name for name in (f"{Path(source).stem}.h" for source in sources) if (NATIVE / "src" / name).exists()]
    lines = [f'#include "{header}"' for header in headers]
    lines += [
        f"size_t inside_sizeof_{s}(void);\nsize_t inside_sizeof_{s}(void) {{ return sizeof({s}); }}" for s in structs
    ]
    return "\n".join([*lines, ""])


_protect = ctypes.CDLL(None).mprotect
_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@contextmanager
def at_page_end(data: bytes) -> Iterator[ctypes.c_void_p]:
    """The address of a copy that no byte follows: who reads beyond it crashes."""
    room = -(-len(data) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, room + mmap.PAGESIZE)
    pages[room - len(data) : room] = data
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert _protect(start + room, mmap.PAGESIZE, 0) == 0
    try:
        yield ctypes.c_void_p(start + room - len(data))
    finally:
        _protect(start + room, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)


_CONSTANTS = {1: None, 2: False, 3: True}
_INTEGER, _REAL, _STRING, _ARRAY, _OBJECT = range(4, 9)
"""``ew_json_type``."""


def json_engine() -> Engine:
    """The engine with ``json.c``, its functions typed."""
    built = engine("json.c", "sort.c")
    node, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("ew_json_parse", ctypes.c_int, [node, ctypes.c_size_t, ctypes.c_void_p, ctypes.POINTER(node)]),
        ("ew_json_type_of", ctypes.c_int, [node]),
        ("ew_json_count", ctypes.c_size_t, [node]),
        ("ew_json_at", node, [node, ctypes.c_size_t]),
        ("ew_json_name", text, [node]),
        ("ew_json_get", node, [node, text]),
        ("ew_json_string", ctypes.c_bool, [node, ctypes.POINTER(text)]),
        ("ew_json_int", ctypes.c_bool, [node, ctypes.POINTER(ctypes.c_int64)]),
        ("ew_json_number", ctypes.c_bool, [node, ctypes.POINTER(ctypes.c_double)]),
    ):
        function = getattr(built.c, name)
        function.restype, function.argtypes = result, arguments
    return built


def json_value(c: Any, node: int | None) -> Any:
    """What ``json.loads`` would have made of a parsed value; a number that is no int64 is a float."""
    kind = c.ew_json_type_of(node)
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]
    if kind in (_ARRAY, _OBJECT):
        children = [c.ew_json_at(node, i) for i in range(c.ew_json_count(node))]
        values = [json_value(c, child) for child in children]
        if kind == _ARRAY:
            return values
        return dict(zip((c.ew_json_name(child).decode() for child in children), values, strict=True))
    getter, box = {
        _INTEGER: (c.ew_json_int, ctypes.c_int64()),
        _REAL: (c.ew_json_number, ctypes.c_double()),
        _STRING: (c.ew_json_string, ctypes.c_char_p()),
    }[kind]
    assert getter(node, ctypes.byref(box))
    return box.value.decode() if kind == _STRING else box.value
