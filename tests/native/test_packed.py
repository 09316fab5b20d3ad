"""Packed weights: shared by sessions, written for any instruction set, used in place or not at all."""

from __future__ import annotations

import ctypes
import hashlib
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from edgewright_runtime import kernels, native_library
from edgewright_runtime.bundle.lowered import Entry, TensorSpec
from edgewright_runtime.bundle.seal import open_bundle, seal
from edgewright_runtime.native_library import Model, NativeError
from sdk import Bundle
from tests.native.small_models import model
from tests.native.test_engine import INVALID_ARGUMENT, INVALID_MODEL, IO, NO_MEMORY, refused
from tests.native.test_four_bits import Small, widened
from tests.native.test_memory import Memory
from tests.native.test_prepare_int8 import Graph
from tests.native.test_sparse_s8 import thin_weights
from tests.tiny_bundle import make_tiny_bundle

HEADER = struct.Struct("<8sIIQQ32s")
ENTRY = struct.Struct("<QQQII")
EVERY_ISA = ("scalar", "avx2", "avx512vnni", "neon", "neon_dot", "wasm", "wasm_relaxed")


def of_floats(seed: int = 0) -> bytes:
    """Every way in which weights of f32 are packed."""
    draw = np.random.default_rng(seed)
    shapes = {"a": (40, 3, 3, 3), "b": (40, 1, 3, 3), "c": (50, 40, 1, 1), "d": (700, 50), "e": (700, 33), "zz": (33,)}
    constants = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["1", "b"], ["2"], kernel_shape=[3, 3], group=40),
        helper.make_node("Conv", ["2", "c"], ["3"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "d"], ["6"], transB=1),
        helper.make_node("MatMul", ["6", "e"], ["7"]),
        helper.make_node("Add", ["7", "zz"], ["y"]),
    ]
    return model(nodes, {"image": (1, 3, 8, 8)}, ["y"], constants)


def of_bytes() -> bytes:
    """Every way in which weights of 8 bits are packed."""
    graph = Graph(image=(1, 3, 8, 8))
    x = graph.through("image", "u8")
    x = graph.through(graph.node("Conv", [x, graph.weights(40, 3, 3, 3)], pads=[1, 1, 1, 1]), "u8", 0.05)
    x = graph.through(graph.node("Conv", [x, graph.weights(40, 1, 3, 3)], group=40), "u8", 0.1)
    x = graph.through(graph.node("Conv", [x, graph.weights(50, 40, 1, 1)]), "u8", 0.2)
    x = graph.through(graph.node("Reshape", [x, graph.constant(np.array([1, -1]))]), "u8", 0.2)
    x = graph.through(graph.node("Gemm", [x, graph.weights(70, 1800)], transB=1), "u8", 0.5)
    return graph.model(graph.node("MatMul", [x, graph.weights(70, 33, axis=1)]))


def of_small_weights() -> bytes:
    """Every way in which weights of less than 8 bits, and groups of bytes, are packed."""
    graph = Small(image=(1, 3, 8, 8))
    x = graph.node("Reshape", ["image", graph.constant(np.array([1, -1]))])
    x = graph.node("MatMul", [x, graph.grouped("int4", 192, 700, group=32)])
    x = graph.node("Gemm", [x, graph.grouped("int8", 700, 90, turned=True)], transB=1)
    weights = graph.draw.integers(-8, 8, (90, 33)).astype(ml_dtypes.int4)
    return graph.model(widened(graph, x, "MatMulInteger", weights, np.float32(0.01)))


def of_sparse_weights() -> bytes:
    """Both ways in which sparse weights of f32 are packed, and dense ones before, like them, and behind."""
    draw = np.random.default_rng(0)
    shapes = {"a": (64, 3, 3, 3), "b": (102, 64, 1, 1), "c": (90, 102, 1, 1), "d": (700, 90), "e": (700, 33)}
    constants = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants["b"] *= np.repeat(draw.random((26, 64)) < 0.2, 4, axis=0)[:102, :, None, None]
    constants["c"] *= draw.random((90, 102, 1, 1)) < 0.1
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["1", "b"], ["2"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["2", "c"], ["3"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "d"], ["6"], transB=1),
        helper.make_node("MatMul", ["6", "e"], ["y"]),
    ]
    return model(nodes, {"image": (1, 3, 8, 8)}, ["y"], constants)


def of_sparse_linear() -> bytes:
    """All ways in which weights of linear layers with zeros are packed, and dense ones behind."""
    draw = np.random.default_rng(0)
    kept = {"b": np.repeat(draw.random((26, 192)) < 0.1, 4, axis=0)[:102], "c": np.repeat(draw.random((26, 102)) < 0.1, 4, axis=0)}
    kept |= {"d": draw.random((700, 104)) < 0.005, "e": draw.random((90, 700)) < 0.1}
    constants = {name: (draw.standard_normal(one.shape) * one).astype(np.float32) for name, one in kept.items()}
    constants |= {"c": constants["c"].T.copy(), "f": draw.standard_normal((90, 200)).astype(np.float32), "one": np.array([1, 192], np.int64)}
    nodes = [
        helper.make_node("Reshape", ["image", "one"], ["1"]),
        helper.make_node("Gemm", ["1", "b"], ["2"], transB=1),
        helper.make_node("MatMul", ["2", "c"], ["3"]),
        helper.make_node("Gemm", ["3", "d"], ["4"], transB=1),
        helper.make_node("Gemm", ["4", "e"], ["5"], transB=1),
        helper.make_node("MatMul", ["5", "f"], ["y"]),
    ]
    return model(nodes, {"image": (1, 3, 8, 8)}, ["y"], constants)


def of_sparse_bytes() -> bytes:
    """Every way in which weights of 8 bits with zeros are packed, and dense ones before."""
    graph = Graph(image=(1, 3, 8, 8))
    inputs = [graph.through("image", "u8"), graph.weights(64, 3, 3, 3), graph.bias(64)]
    value = graph.node("Conv", inputs, pads=[1, 1, 1, 1])
    for shape, pads in (((102, 64, 1, 1), [0] * 4), ((90, 102, 3, 3), [1] * 4)):
        weights = thin_weights(graph, 0.3, *shape)
        value = graph.node("Conv", [graph.through(value, "u8", 0.5), weights, graph.bias(shape[0])], pads=pads)
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [graph.through(value, "u8", 5)])])
    weights = thin_weights(graph, 0.3, 700, 90)
    value = graph.node("Gemm", [graph.through(value, "u8", 0.5), weights], transB=1)
    weights = thin_weights(graph, 0.3, 700, 200, outputs=1, axis=1)
    return graph.model(graph.node("MatMul", [graph.through(value, "u8", 0.5), weights]))


MODELS = {"sparse s8": of_sparse_bytes, "sparse": of_sparse_weights, "linear": of_sparse_linear, "f32": of_floats, "s8": of_bytes, "s4": of_small_weights}
KINDS = pytest.mark.parametrize("kind", list(MODELS))


def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)


def bundle_of(folder: Path, content: bytes, packed: dict[str, bytes]) -> Path:
    """A sealed bundle of a model of one image and its packed files."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = open_bundle(make_tiny_bundle(folder, preprocess=False, labels=())).manifest
    (name, dtype, shape), *_ = Model(content).session().outputs
    output = TensorSpec(name, dtype.name, tuple(high for _, high in shape), {}, name)
    entry = Entry("model.onnx", manifest.entries["main"].inputs, (output,))
    unsealed = folder / "unsealed"
    (unsealed / "packed").mkdir(parents=True)
    (unsealed / "model.onnx").write_bytes(content)
    for isa, data in packed.items():
        (unsealed / f"packed/{isa}-v1.bin").write_bytes(data)
    files = ["model.onnx", *(f"packed/{isa}-v1.bin" for isa in packed)]
    seal(unsealed, replace(manifest, entries={"main": entry}), files, folder / "packed.edge")
    return folder / "packed.edge"


def grown_by_a_session(opened: Model) -> int:
    """Bytes that the first session adds to its model."""
    before = opened.memory_bytes
    opened.session()
    return opened.memory_bytes - before


def entries_of(packed: bytes) -> list[tuple[int, ...]]:
    count = HEADER.unpack_from(packed)[2]
    return [ENTRY.unpack_from(packed, HEADER.size + i * ENTRY.size) for i in range(count)]


# Sharing


@KINDS
def test_a_second_session_packs_and_takes_nothing_again(kind: str) -> None:
    opened = Model(MODELS[kind]())
    first = opened.session()
    size = opened.memory_bytes
    second = opened.session()
    assert opened.memory_bytes == size and second.memory_bytes == first.memory_bytes
    np.testing.assert_array_equal(first.run([image()]), second.run([image()]))


def test_sessions_that_are_made_at_once_share_too() -> None:
    alone = Model(of_floats())
    expected, size = alone.session().run([image()])[0], alone.memory_bytes
    for _ in range(10):
        opened, found = Model(of_floats()), []
        threads = [threading.Thread(target=lambda o=opened, f=found: f.append(o.session())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8 and opened.memory_bytes == size
        for session in found:
            np.testing.assert_array_equal(session.run([image()])[0], expected)


def test_a_session_does_not_hold_the_weights_and_the_budget_counts_them() -> None:
    content = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (1, 512)}, ["y"], {"w": np.ones((512, 512), np.float32)},
    )  # fmt: skip
    opened = Model(content)
    needed = opened.session().memory_bytes
    assert needed < 512 * 512 * 4 <= opened.memory_bytes
    with refused(NO_MEMORY, "budget"):
        opened.session(memory_budget_bytes=512 * 512 * 4)
    assert opened.session(memory_budget_bytes=needed + opened.memory_bytes).memory_bytes == needed


def test_a_constant_at_an_odd_place_of_the_file_serves_every_reader() -> None:
    """A weight that is also added and given out, at every offset of the file."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "w"], ["y"]),
        helper.make_node("Transpose", ["w"], ["t"]),
    ]
    w = np.random.default_rng(3).standard_normal((8, 8)).astype(np.float32)
    x = np.eye(8, dtype=np.float32)
    for shift in range(8):
        content = model([*nodes], {"x": (8, 8)}, ["y", "t", "w"], {"n" * shift + "n": np.float32(shift), "w": w})
        results = Model(content).session().run([x])
        np.testing.assert_allclose(results[0], 2 * w, rtol=1e-6)
        np.testing.assert_array_equal(results[1], w.T)
        np.testing.assert_array_equal(results[2], w)


# Packed files


@KINDS
@pytest.mark.parametrize("isa", kernels.isas())
def test_a_packed_file_is_used_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, isa: str) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
    content = MODELS[kind]()
    plain = Model(content)
    expected = plain.session().run([image()])[0]
    packed = plain.pack()
    assert packed == plain.pack(isa)
    path = bundle_of(tmp_path, content, {isa: packed})
    archive = Bundle.open(path).pack(tmp_path / "packed.edgez")
    without = grown_by_a_session(Model(bundle_of(tmp_path / "plain", content, {})))
    assert len(entries_of(packed)) == 5 and without > 65536
    for source in (path, archive):
        opened = Model(source)
        assert grown_by_a_session(opened) == 0
        np.testing.assert_array_equal(opened.session().run([image()])[0], expected)


@KINDS
def test_every_instruction_set_can_be_packed_for(kind: str) -> None:
    opened = Model(MODELS[kind]())
    packed = {isa: opened.pack(isa) for isa in EVERY_ISA}
    same = {"scalar", "neon", "neon_dot", "wasm", "wasm_relaxed"}
    assert len({packed[isa] for isa in same}) == 1 and len(set(packed.values())) == (2 if kind.endswith("s8") else 3)
    for content in packed.values():
        magic, version, count, size, _, _ = HEADER.unpack_from(content)
        assert (magic, version, count, size) == (b"EDGEPACK", 1, 5, len(content))
        end = -(-(HEADER.size + count * ENTRY.size) // 64) * 64
        for _, offset, length, _, zero in entries_of(content):
            assert (offset, zero) == (end, 0)
            end += -(-length // 64) * 64
        assert end == len(content)


@pytest.mark.parametrize(
    ("kind", "isa", "digest"),
    [
        ("f32", "scalar", "dc62a085ba73234d"),
        ("f32", "avx2", "1cc7d4a4f1298602"),
        ("f32", "avx512vnni", "ba723dba136cc73c"),
        ("sparse", "scalar", "b84b0dfdc6e60528"),
        ("linear", "scalar", "4a338353e49d7cdd"),
        ("sparse s8", "scalar", "2c57d848600bff5f"),
        ("s8", "scalar", "598eba07b36a80a8"),
        ("s8", "avx512vnni", "2bc080463848628f"),
        ("s4", "scalar", "314dbf7d02d241cf"),
        ("s4", "avx512vnni", "0ca632e37a2040cb"),
    ],
)
def test_what_is_written_changes_only_with_its_version(
    kind: str, isa: str, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes what packing writes raises EW_PACKING_VERSION, and then these digests: older files are not used."""
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")  # whether zeros pay is judged for the machine that packs
    packed = Model(MODELS[kind]()).pack(isa)
    assert hashlib.sha256(packed[entries_of(packed)[0][1] :]).hexdigest().startswith(digest)


def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    with refused(INVALID_ARGUMENT, "'mmx'", "neon_dot"):
        Model(of_floats()).pack("mmx")


def test_a_file_for_other_kernels_or_another_model_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")
    content, other = of_floats(), of_floats(seed=1)
    expected = Model(content).session().run([image()])[0]
    packed = Model(content).pack("scalar")
    foreign = {
        "other kernels": Model(content).pack("avx2"),
        "another model": Model(other).pack("scalar"),
        "a newer version": packed[:8] + struct.pack("<I", 2) + packed[12:],
        "no such file": b"EDGEPAKC" + packed[8:],
        "nothing": b"",
        "a few bytes": packed[:20],
    }
    for name, data in foreign.items():
        opened = Model(bundle_of(tmp_path / name, content, {"scalar": data}))
        assert grown_by_a_session(opened) > 65536, name
        np.testing.assert_array_equal(opened.session().run([image()])[0], expected)


def changed(packed: bytes, place: int, fields: Sequence[int]) -> bytes:
    """With 64-bit numbers at a place."""
    return packed[:place] + struct.pack(f"<{len(fields)}Q", *fields) + packed[place + 8 * len(fields) :]


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")
    content = of_floats()
    packed = Model(content).pack("scalar")
    source, offset, length, _, _ = entries_of(packed)[0]
    wrong = {
        "header": changed(packed, 16, [len(packed) + 64]),
        "cut": packed[:-64],
        "entries": packed[:12] + struct.pack("<I", 0xFFFFFFFF) + packed[16:],
        "beyond": changed(packed, HEADER.size, [source, len(packed), 64]),
        "overflow": changed(packed, HEADER.size, [source, offset, 2**64 - 64]),
        "far": changed(packed, HEADER.size, [source, 2**64 - 64, length]),
        "odd": changed(packed, HEADER.size, [source, offset + 4, length]),
    }
    for name, data in wrong.items():
        with refused(INVALID_MODEL, "packed weights"):
            Model(bundle_of(tmp_path / name, content, {"scalar": data}))


def test_a_wrong_byte_in_a_packed_file_is_refused_or_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")
    content = of_floats()
    path = bundle_of(tmp_path, content, {"scalar": Model(content).pack("scalar")})
    file = path / "packed/scalar-v1.bin"
    data, draw = bytearray(file.read_bytes()), np.random.default_rng(5)
    table = HEADER.size + 5 * ENTRY.size
    for _ in range(300):
        place, bit = int(draw.integers(table)), 1 << int(draw.integers(8))
        data[place] ^= bit
        file.write_bytes(data)
        with pytest.raises(NativeError, match="differs from its hashes"):
            Model(path)
        try:
            assert np.isfinite(Model(path, check=False).session().run([image()])[0]).all()
        except NativeError as error:
            assert error.status == INVALID_MODEL
        data[place] ^= bit


@pytest.mark.parametrize(("kind", "name", "entry"), [("sparse", "b", 1), ("linear", "b", 0), ("linear", "c", 1)])
def test_places_of_sparse_weights_that_lead_outside_are_refused(
    kind: str, name: str, entry: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")
    content = MODELS[kind]()
    packed = Model(content).pack("scalar")
    offset = entries_of(packed)[entry][1]
    groups = 26
    start, index = offset, offset + (groups + 1) * 4
    wrongs = (("start", start, "<i"), ("middle", start + 8, "<i"), ("end", start + groups * 4, "<i"), ("index", index, "<H"))
    for part, place, value in wrongs:
        wrong = bytearray(packed)
        struct.pack_into(value, wrong, place, 0x7FFF)
        opened = Model(bundle_of(tmp_path / part, content, {"scalar": bytes(wrong)}))
        with refused(INVALID_MODEL, f"packed weights of '{name}' are damaged"):
            opened.session()


@pytest.mark.parametrize("entry", [1, 2, 3, 4])
def test_places_of_blocks_of_bytes_that_lead_outside_are_refused(
    entry: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "scalar")
    content = of_sparse_bytes()
    packed = Model(content).pack("scalar")
    counts = entries_of(packed)[entry][1]
    groups, blocks = struct.unpack_from("<2i", packed, counts)
    start = counts + 8 + 16 * groups
    index = start + 4 * (groups + 1)
    places = {"groups": (counts, "<i"), "blocks": (counts + 4, "<i"), "start": (start, "<i"), "middle": (start + 8, "<i")}
    places |= {"end": (start + 4 * groups, "<i"), "index": (index, "<H"), "last index": (index + 2 * (blocks - 1), "<H")}
    for part, (place, value) in places.items():
        wrong = bytearray(packed)
        struct.pack_into(value, wrong, place, 0x7FFF)
        opened = Model(bundle_of(tmp_path / part, content, {"scalar": bytes(wrong)}))
        with refused(INVALID_MODEL, "packed weights of 'c", "are damaged"):
            opened.session()


def test_a_writer_that_fails_ends_it() -> None:
    lib, opened = native_library.library(), Model(of_floats())
    for good in (0, 1, 7):
        calls: list[int] = []

        def write(_user: int, _data: int, size: int, calls: list[int] = calls, good: int = good) -> int:
            calls.append(size)
            return IO if len(calls) > good else 0

        options = native_library.PackOptions(ctypes.sizeof(native_library.PackOptions), b"neon")
        options.write = type(options.write)(write)
        assert lib.edge_model_pack(opened._handle, ctypes.byref(options)) == IO and len(calls) == good + 1
    options.write = type(options.write)()
    assert lib.edge_model_pack(opened._handle, ctypes.byref(options)) == INVALID_ARGUMENT


@KINDS
def test_packing_without_memory_gives_a_status_and_all_of_it_back(kind: str) -> None:
    lib, content = native_library.library(), MODELS[kind]()

    def pack(memory: Memory) -> int:
        handle = ctypes.c_void_p()
        given = native_library.ModelOptions(
            ctypes.sizeof(native_library.ModelOptions), ctypes.addressof(memory.allocator)
        )
        status = lib.edge_model_open_memory(content, len(content), ctypes.byref(given), ctypes.byref(handle))
        if status == 0:
            options = native_library.PackOptions(ctypes.sizeof(native_library.PackOptions), b"neon")
            options.write = type(options.write)(lambda *_: 0)
            status = lib.edge_model_pack(handle, ctypes.byref(options))
        if status == 0:
            session = ctypes.c_void_p()
            status = lib.edge_session_create(handle, None, ctypes.byref(session))
            lib.edge_session_free(session)
        lib.edge_model_free(handle)
        return int(status)

    whole = Memory()
    assert pack(whole) == 0 and not whole.live
    for call in range(whole.calls):
        memory = Memory(call)
        assert pack(memory) == NO_MEMORY and not memory.live
