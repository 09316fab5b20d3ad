"""What the native engine takes and gives back: no allocation in a run, an allocator that fails at every call in turn."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper

from edgewright_runtime import native_library
from edgewright_runtime.native_library import Bound, ModelOptions, SessionOptions, Tensor, TensorInfo
from sdk import Bundle
from tests.native import programs
from tests.native.inside import ALLOCATE, NO_MEMORY, OK, RELEASE, GivenAllocator
from tests.native.small_models import SMALL, batched_linear, model
from tests.tiny_bundle import make_tiny_bundle


class Memory:
    """An allocator that counts, and fails at one call."""

    def __init__(self, fails_at: int = -1) -> None:
        self.calls, self.fails_at, self.live, self.wrong = 0, fails_at, {}, []
        self.used = self.most_used = 0
        size = ctypes.sizeof(GivenAllocator)
        self.allocator = GivenAllocator(size, ALLOCATE(self._allocate), RELEASE(self._release), None)

    def _allocate(self, user, size, alignment):
        self.calls += 1
        if self.calls - 1 == self.fails_at:
            return None
        block = ctypes.create_string_buffer(size + alignment)
        place = -(-ctypes.addressof(block) // alignment) * alignment
        self.live[place] = (block, size)
        self.used += size
        self.most_used = max(self.used, self.most_used)
        return place

    def _release(self, user, pointer, size):
        self.used -= size
        if self.live.pop(pointer, (None, None))[1] != size:
            self.wrong.append((pointer, size))


def describe(function: Callable, session: ctypes.c_void_p, count: int) -> list[TensorInfo]:
    infos = [TensorInfo() for _ in range(count)]
    assert not any(function(session, index, ctypes.byref(info)) for index, info in enumerate(infos))
    return infos


def run_twice(session: ctypes.c_void_p) -> None:
    """At the largest inputs, which hold zeros."""
    lib = native_library.library()
    infos = describe(lib.edge_session_input, session, lib.edge_session_input_count(session))
    inputs, held = (Tensor * len(infos))(), []
    for given, info in zip(inputs, infos, strict=True):
        count = native_library.DTYPES[info.dtype].itemsize
        given.dtype, given.rank, given.shape = info.dtype, info.rank, info.max_shape
        for length in info.max_shape[: info.rank]:
            count *= length
        held.append(ctypes.create_string_buffer(count + 64))
        given.data, given.bytes = -(-ctypes.addressof(held[-1]) // 64) * 64, count
    outputs = (Tensor * lib.edge_session_output_count(session))()
    for _ in range(2):
        assert not lib.edge_session_run(session, inputs, len(inputs), outputs, len(outputs))


def open_and_run(content: bytes, memory: Memory, *, budget_bytes: int = 0) -> int:
    """The first status that is not OK, of opening, planning and two runs; everything is freed."""
    lib = native_library.library()
    handle, session = ctypes.c_void_p(), ctypes.c_void_p()
    options = ModelOptions(ctypes.sizeof(ModelOptions), ctypes.addressof(memory.allocator), 0)
    status = lib.edge_model_open_memory(content, len(content), ctypes.byref(options), ctypes.byref(handle))
    if status:
        return status
    bound = Bound(b"batch", 1, 5)
    wanted = SessionOptions(ctypes.sizeof(SessionOptions), 1, None, None, 0, ctypes.pointer(bound), 1, budget_bytes)
    status = lib.edge_session_create(handle, ctypes.byref(wanted), ctypes.byref(session))
    if not status:
        before = memory.calls
        run_twice(session)
        assert memory.calls == before, "a run allocated memory"
        lib.edge_session_free(session)
    lib.edge_model_free(handle)
    return status


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> bytes:
    """An archive."""
    bundle = make_tiny_bundle(tmp_path_factory.mktemp("tiny"))
    return Bundle.open(bundle).pack(bundle.with_suffix(".edgez")).read_bytes()


@pytest.fixture(params=["archive", "open batch", *SMALL])
def content(request) -> bytes:
    """A model of each kind."""
    if request.param == "archive":
        return request.getfixturevalue("tiny")
    return batched_linear() if request.param == "open batch" else SMALL[request.param]()


def test_runs_allocate_nothing_and_all_memory_comes_back(content):
    memory = Memory()
    assert open_and_run(content, memory) == OK
    assert memory.calls > 1 and not memory.live and not memory.wrong


def test_an_allocator_that_fails_at_any_call_gives_a_status(content):
    """Of a library that sanitizers watch, every block of memory is a call."""
    whole = Memory()
    open_and_run(content, whole)
    for call in range(whole.calls):
        memory = Memory(call)
        assert open_and_run(content, memory) == NO_MEMORY and not memory.live and not memory.wrong, call


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="what is preloaded counts calls itself")
def test_runs_call_no_malloc_by_whatever_way(tiny, tmp_path):
    models = {"tiny.edgez": tiny, **{f"{name}.onnx": make() for name, make in SMALL.items()}}
    for name, content in models.items():
        (tmp_path / name).write_bytes(content)
    program = programs.build("check_allocations", tmp_path)
    found = programs.run(program, *(str(tmp_path / name) for name in models))
    assert found.returncode == 0 and found.stdout.count(", 0 calls in 3 runs") == 2 * len(models), found.stdout


def test_a_budget_holds_while_constants_are_made():
    """1 MiB of constants from 8 bytes, and each of the next ones four times as large."""
    names = [f"v{i}" for i in range(7)]
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["v0"])]
    nodes += [helper.make_node("Tile", [a, "four"], [b]) for a, b in zip(names, names[1:], strict=False)]
    content = model(nodes, {}, names[-1:], {"shape": np.array([1 << 18]), "four": np.array([4])})
    memory = Memory()
    assert open_and_run(content, memory, budget_bytes=8 << 20) == NO_MEMORY and not memory.live
    assert b"budget" in native_library.library().edge_last_error()
    assert memory.most_used <= (8 << 20) + (1 << 18)  # the model itself is in no budget
