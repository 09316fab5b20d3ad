"""The native engine through its binding: sessions, bounds, errors, memory, corrupt files."""

from __future__ import annotations

import json
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_profiles.record import unstructure
from edgewright_runtime.bundle.seal import core_file
from edgewright_runtime.native_library import Model, NativeError
from sdk import Bundle
from tests.native.small_models import batched_linear, batched_linear_result, convolutions, model, transformer
from tests.tiny_bundle import make_tiny_bundle

INVALID_ARGUMENT, INVALID_MODEL, UNSUPPORTED, SHAPE_MISMATCH, NO_MEMORY, IO, HASH_MISMATCH, CANCELLED = range(1, 9)


def refused(status: int, *words: str):
    """The error of a status whose sentence has all the words."""
    return pytest.raises(NativeError, match="(?s)" + ".*".join(words), check=lambda error: error.status == status)


# Sessions


def test_an_open_batch_runs_at_every_size_within_its_bounds():
    session = Model(batched_linear()).session(bounds={"batch": (1, 5)})
    assert session.inputs == [("x", np.dtype("float32"), ((1, 5), (4, 4)))]
    for batch in (5, 1, 3, 2, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 4)).astype(np.float32)
        np.testing.assert_allclose(session.run([x])[0], batched_linear_result(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eight", [False, True], ids=["float", "8 bits"])
@pytest.mark.parametrize("network", [convolutions, transformer])
def test_a_batch_of_none_gives_none(network, eight):
    session = Model(network(eight, "batch")).session(bounds={"batch": (0, 2)})
    _, _, ((_, most), *others) = session.inputs[0]
    for batch in (0, most, 0):
        found = session.run([np.ones((batch, *(length for _, length in others)), np.float32)])[0]
        assert found.shape[0] == batch and np.isfinite(found).all()


def test_beyond_its_bounds_is_refused():
    session = Model(batched_linear()).session(bounds={"batch": (2, 5)})
    for batch in (0, 1, 6):
        with refused(SHAPE_MISMATCH, "axis 0 of input 'x'", "2 to 5", str(batch)):
            session.run([np.zeros((batch, 4), np.float32)])
    assert session.run([np.zeros((2, 4), np.float32)])[0].shape == (2, 6)


def test_an_open_dimension_without_bounds_is_refused():
    with refused(INVALID_ARGUMENT, "axis 0 of input 'x'", "bounds", "'batch'"):
        Model(batched_linear()).session()


def test_bounds_may_name_an_axis_instead_of_a_dimension():
    session = Model(batched_linear()).session(bounds={"x:0": (2, 3)})
    assert session.inputs[0][2] == ((2, 3), (4, 4))


def test_a_wrong_input_is_refused_with_what_was_expected():
    session = Model(batched_linear()).session(bounds={"batch": (1, 5)})
    with refused(SHAPE_MISMATCH, "float32", "float64"):
        session.run([np.zeros((1, 4))])
    with refused(SHAPE_MISMATCH, "2 axes", "given were 1"):
        session.run([np.zeros(4, np.float32)])
    with refused(INVALID_ARGUMENT, "1 inputs", "given were 2"):
        session.run([np.zeros((1, 4), np.float32)] * 2)


def test_a_shape_that_comes_in_must_be_fixed():
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="r")
    content = model([node], {"x": (6,), "shape": (2,)}, ["y"], dtype=TensorProto.INT64)
    with refused(UNSUPPORTED, "node 'r'", "fix that input"):
        Model(content).session()
    session = Model(content).session(fixed={"shape": np.array([3, -1])})
    assert [name for name, _, _ in session.inputs] == ["x"]
    np.testing.assert_array_equal(session.run([np.arange(6)])[0], np.arange(6).reshape(3, 2))
    with refused(INVALID_ARGUMENT, "no input 'other'"):
        Model(content).session(fixed={"other": np.array([1])})


def test_what_depends_on_data_is_planned_at_its_bound():
    content = model([helper.make_node("NonZero", ["x"], ["y"])], {"x": (2, 3)}, ["y"])
    session = Model(content).session()
    assert session.outputs[0][2] == ((0, 2), (0, 6))
    for x in (np.zeros((2, 3)), np.eye(2, 3), np.ones((2, 3))):
        np.testing.assert_array_equal(session.run([x.astype(np.float32)])[0], np.array(np.nonzero(x)))


def test_an_output_that_is_an_input_or_a_constant():
    content = model(
        [helper.make_node("Identity", ["c"], ["z"])], {"x": (2,)}, ["x", "z"], {"c": np.ones(2, np.float32)}
    )
    results = Model(content).session().run([np.array([3, 4], np.float32)])
    np.testing.assert_array_equal(results, [[3, 4], [1, 1]])


def test_memory_is_reused_along_a_chain():
    def bytes_of(length: int) -> int:
        names = [f"v{i}" for i in range(length + 1)]
        nodes = [helper.make_node("Transpose", [a], [b], perm=[1, 0]) for a, b in zip(names, names[1:], strict=False)]
        return Model(model(nodes, {"v0": (512, 512)}, [names[-1]])).session().memory_bytes

    assert bytes_of(20) - bytes_of(4) < 2**20


def test_a_memory_budget_is_kept():
    with refused(NO_MEMORY, "budget is 1000"):
        Model(batched_linear()).session(bounds={"batch": (1, 5)}, memory_budget_bytes=1000)


def test_sessions_of_one_model_run_at_once():
    opened = Model(batched_linear())
    wrong = []

    def work(seed: int) -> None:
        session = opened.session(bounds={"batch": (1, 5)})
        draw = np.random.default_rng(seed)
        for _ in range(50):
            x = draw.standard_normal((1 + seed % 5, 4)).astype(np.float32)
            if not np.allclose(session.run([x])[0], batched_linear_result(x), rtol=1e-4, atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_same_bits(threads):
    draw = np.random.default_rng(0)
    constants = {"w": draw.standard_normal((64, 96)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Softmax", ["p"], ["y"])]
    opened = Model(model(nodes, {"x": (128, 64)}, ["y"], constants))
    x = draw.standard_normal((128, 64)).astype(np.float32)
    session, expected = opened.session(threads=threads), opened.session().run([x])[0]
    for _ in range(200):
        np.testing.assert_array_equal(session.run([x])[0], expected)


def test_more_threads_than_possible_are_refused():
    with refused(INVALID_ARGUMENT, "65 threads", "64"):
        Model(batched_linear()).session(bounds={"batch": (1, 2)}, threads=65)


# Models


def test_every_missing_operator_is_told_at_once():
    nodes = [
        helper.make_node("Foo", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Bar", ["b"], ["y"], name="second", domain="com.example"),
    ]
    with refused(UNSUPPORTED, "2 nodes", "Foo", "'first'", "com.example.Bar", "'second'"):
        Model(model(nodes, {"x": (2,)}, ["y"]))


def test_a_dtype_that_an_operator_does_not_run_is_told():
    content = model([helper.make_node("Sqrt", ["x"], ["y"], name="root")], {"x": (2,)}, ["y"], dtype=TensorProto.INT32)
    with refused(UNSUPPORTED, "'root'", "int32"):
        Model(content).session()


def test_more_outputs_than_the_operator_has_are_refused():
    with refused(INVALID_MODEL, "'n'", "no output 1"):
        Model(model([helper.make_node("Transpose", ["x"], ["y", "z"], name="n")], {"x": (2,)}, ["y", "z"])).session()


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Relu", ["later"], ["y"], name="n"), helper.make_node("Relu", ["x"], ["later"])], "before"),
        ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["y"])], "made twice"),
        ([helper.make_node("Relu", ["x"], ["z"])], "nothing makes output 'y'"),
    ],
)
def test_a_graph_that_contradicts_itself_is_refused(nodes, words):
    with refused(INVALID_MODEL, words):
        Model(model(nodes, {"x": (2,)}, ["y"]))


@pytest.mark.parametrize("dims", [(0, 1 << 40, 1 << 40), (1 << 62, 0, 1 << 62), (0, 1 << 61)], ids=str)
def test_an_empty_constant_whose_other_lengths_fit_into_no_memory_is_refused(dims):
    empty = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=dims)
    content = onnx.ModelProto.FromString(model([helper.make_node("Flatten", ["c"], ["y"])], {}, ["y"]))
    content.graph.initializer.append(empty)
    with refused(INVALID_MODEL, "too large"):
        Model(content.SerializeToString())


def test_a_file_cut_off_anywhere_is_refused_or_runs():
    content = batched_linear()
    for length in range(len(content)):
        try:
            Model(content[:length]).session(bounds={"batch": (1, 2)})
        except NativeError as error:
            assert str(error)


def test_a_file_with_a_wrong_byte_is_refused_or_runs():
    content = bytearray(batched_linear())
    draw = np.random.default_rng(0)
    for _ in range(3000):
        place, value = int(draw.integers(len(content))), int(draw.integers(256))
        before, content[place] = content[place], value
        try:
            session = Model(bytes(content)).session(bounds={"batch": (1, 2)}, memory_budget_bytes=1 << 26)
            session.run([np.ones([high for _, high in shape], dtype) for _, dtype, shape in session.inputs])
        except NativeError as error:
            assert str(error)
        content[place] = before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\0" * 100, b"not a model"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(NativeError):
        Model(content or b"\0")


def test_a_path_that_is_not_there_is_named(tmp_path):
    with refused(IO, "nothing.onnx"):
        Model(tmp_path / "nothing.onnx")


# Bundles


@pytest.fixture
def tiny(tmp_path):
    return make_tiny_bundle(tmp_path)


def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def test_a_bundle_opens_as_folder_archive_and_memory(tiny):
    archive = Bundle.open(tiny).pack(tiny.with_suffix(".edgez"))
    results = [Model(source).session().run([image()])[0] for source in (tiny, archive, archive.read_bytes())]
    assert results[0].shape == (1, 4)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_changed_file_is_refused_unless_hashes_are_skipped(tiny):
    labels = tiny / "labels.txt"
    labels.write_bytes(labels.read_bytes().swapcase())
    with refused(HASH_MISMATCH, "'labels.txt'"):
        Model(tiny)
    assert Model(tiny, check=False).session().run([image()])[0].shape == (1, 4)


@pytest.mark.parametrize("change", ["longer", "shorter", "missing"])
def test_a_file_of_another_length_is_refused_always(tiny, change):
    labels = tiny / "labels.txt"
    content = labels.read_bytes()
    labels.unlink() if change == "missing" else labels.write_bytes(
        content + b"\n" if change == "longer" else content[:-1]
    )
    with pytest.raises(NativeError, match=r"labels\.txt"):
        Model(tiny, check=False)


def test_a_changed_manifest_is_refused_always(tiny):
    manifest = tiny / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with refused(HASH_MISMATCH, "manifest.json"):
        Model(tiny, check=False)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("schema", "2.0", "schema 2.0"),
        ("format", "tflite", "format 'tflite'"),
        ("files", {"../labels.txt": {"bytes": 0, "sha256": ""}}, r"\.\./labels\.txt"),
        ("entries", {}, "no entry 'main'"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tiny, field, value, words):
    reseal(tiny, lambda manifest: manifest.update({field: value}))
    with pytest.raises(NativeError, match=words):
        Model(tiny)


def reseal(bundle, change):
    """Writes the manifest again as a function changes it, and its hash."""
    import hashlib

    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    content = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(content)
    (bundle / "manifest.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")


@pytest.mark.parametrize("chunks", [[], ["0" * 64, "0" * 64], None, "0" * 64, {"0": "0" * 64}])
@pytest.mark.parametrize("check", [True, False])
def test_a_file_without_as_many_chunk_hashes_as_it_needs_is_refused(tiny, chunks, check):
    reseal(tiny, lambda manifest: manifest["files"]["labels.txt"].update(chunk_sha256=chunks))
    with refused(INVALID_MODEL, "chunk hashes of 'labels.txt'"):
        Model(tiny, check=check)


@pytest.mark.parametrize("wrong", ["0" * 64, "0" * 63, "", 7])
def test_a_wrong_chunk_hash_is_refused(tiny, wrong):
    reseal(tiny, lambda manifest: manifest["files"]["labels.txt"].update(chunk_sha256=[wrong]))
    with refused(HASH_MISMATCH, "'labels.txt'"):
        Model(tiny)


@pytest.mark.parametrize("size", [(17 << 20) + 5, 20 << 20])
def test_a_flipped_bit_in_any_chunk_of_a_large_file_is_found(tiny, size):
    content = bytearray(np.random.default_rng(size).bytes(size))
    (tiny / "large.bin").write_bytes(content)
    reseal(tiny, lambda manifest: manifest["files"].update({"large.bin": unstructure(core_file(tiny / "large.bin"))}))
    assert Model(tiny)
    with open(tiny / "large.bin", "r+b") as file:
        for place in (0, (1 << 20) - 1, 1 << 20, 15 << 20, 16 << 20, (17 << 20) - 1, size - 1):
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << place % 8]))
            file.flush()
            with refused(HASH_MISMATCH, "'large.bin'"):
                Model(tiny)
            file.seek(place)
            file.write(content[place : place + 1])
            file.flush()


@pytest.fixture
def archive(tiny) -> bytes:
    return Bundle.open(tiny).pack(tiny.with_suffix(".edgez")).read_bytes()


def test_an_archive_cut_off_anywhere_is_refused(archive):
    for length in range(1, len(archive)):
        with pytest.raises(NativeError):
            Model(archive[:length], check=False)


def test_an_archive_with_a_wrong_bit_is_refused_or_gives_the_same(archive):
    expected, same = Model(archive).session().run([image()])[0], 0
    content = bytearray(archive)
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        try:
            found = Model(bytes(content)).session().run([image()])[0]
        except NativeError as error:
            assert str(error)
        else:
            np.testing.assert_array_equal(found, expected)
            same += 1
        content[bit // 8] ^= 1 << bit % 8
    assert 0 < same < 8 * len(content) / 2  # times, padding and checksums of the archive's own, which nobody reads


def test_an_archive_with_a_wrong_bit_whose_hashes_are_skipped_runs_or_is_refused(archive):
    content, ran = bytearray(archive), 0
    for bit in range(0, 8 * len(content), 3):
        content[bit // 8] ^= 1 << bit % 8
        try:
            session = Model(bytes(content), check=False).session(memory_budget_bytes=1 << 26)
            session.run([np.ones([high for _, high in shape], dtype) for _, dtype, shape in session.inputs])
            ran += 1
        except NativeError as error:
            assert str(error)
        content[bit // 8] ^= 1 << bit % 8
    assert ran
