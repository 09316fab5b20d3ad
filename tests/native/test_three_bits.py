"""Weights of 3 bits: each product beside ONNX Runtime's of the same bytes on every instruction set, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright_export.targets.native import _move_weights
from edgewright_export.targets.onnx_small import bits_of, packed_in_three, shrink
from edgewright_runtime.native_library import Model
from tests.native import test_four_bits as four
from tests.native.eight_bits import dynamic
from tests.native.test_engine import INVALID_MODEL, UNSUPPORTED, refused
from tests.native.test_four_bits import GROUPED, S8, Arrays, Small
from tests.native.test_prepare_int8 import drawn


def small_and_wide(graph: Small, output: str) -> tuple[bytes, bytes]:
    """The file as the exporter writes it, and with the same weights in bytes."""
    wide = graph.model(output)
    model = onnx.load_from_string(wide)
    shrink(model)
    assert [node.op_type for node in model.graph.node].count("UnpackInt3") == 1
    return model.SerializeToString(), wide


def compare(graph: Small, output: str, arrays: Arrays, monkeypatch: Any, ran: list[tuple[str, str]]) -> None:
    small, wide = small_and_wide(graph, output)
    four.assert_runs(small, four.by_onnxruntime(wide, arrays), arrays, monkeypatch, ran)


@pytest.mark.parametrize("rows", [1, 3, 75])
@pytest.mark.parametrize("group", [0, 16, 32, 128])
def test_a_product_of_floats_with_grouped_weights(group, rows, monkeypatch):
    compare(*four.grouped_product("int3", group, rows), monkeypatch, [("MatMul", GROUPED)])


@pytest.mark.parametrize("group", [0, 8, 40])
def test_a_linear_layer_with_turned_weights(group, monkeypatch):
    compare(*four.turned_layer("int3", group), monkeypatch, [("Gemm", GROUPED)])


@pytest.mark.parametrize("groups", [1, 24])
def test_a_calibrated_convolution_widens_its_weights(groups, monkeypatch):
    kernel = "edge_depthwise_s8" if groups > 1 else S8
    ran = [("QuantizeLinear", None), ("Transpose", None), ("Conv", kernel), ("Transpose", None)]
    compare(*four.calibrated_convolution(groups, "int3"), monkeypatch, ran)


def test_a_dynamic_product_widens_its_weights(monkeypatch):
    graph = Small(x=(3, 40))
    scale = graph.draw.uniform(-0.05, 0.05, 33).astype(np.float32)
    output = dynamic(graph, "x", "MatMulInteger", graph.draw.integers(-4, 4, (40, 33)).astype(np.int8), scale)
    compare(graph, output, [drawn(3, 40)], monkeypatch, [("DynamicQuantizeLinear", None), ("MatMulInteger", S8)])


def test_scales_below_zero_in_a_calibrated_product(monkeypatch):
    graph = Small(x=(5, 37))
    scale = graph.constant(graph.draw.uniform(-0.06, 0.06, 21).astype(np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole("int3", 37, 21), scale], axis=1)
    output = graph.quantize(graph.node("MatMul", [graph.through("x", "u8"), weights]), "s8", 0.04)
    compare(graph, output, [drawn(5, 37)], monkeypatch, [("QuantizeLinear", None), ("MatMul", S8)])


def bits_by_hand(values: list[int]) -> bytes:
    whole = sum((value & 7) << 3 * i for i, value in enumerate(values))
    return whole.to_bytes((3 * len(values) + 7) // 8, "little")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9, 1001])
def test_bits_lie_as_the_page_says(count):
    values = np.random.default_rng(count).integers(-4, 4, count).astype(np.int8)
    assert packed_in_three(values).tobytes() == bits_by_hand(values.tolist())
    assert packed_in_three(np.array([[1, -1], [-4, 3]], np.int8)).tolist() == [0b00111001, 0b00000111]


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([0, 0], 2),
        ([-2, 1], 2),
        ([2, 0], 3),
        ([-3, 1], 3),
        ([-4, 3], 3),
        ([4, 0], 4),
        ([-7, 7], 4),
        ([-8, 0], 8),
        ([], 8),
    ],
)
def test_the_fewest_bits_that_hold_all_values(values, bits):
    assert bits_of(np.array(values, np.int8)) == bits


def unpacked(values: np.ndarray, *, to: int = TensorProto.INT32, **changes: Any) -> bytes:
    """A file that casts values of 3 bits; changes: of ``bits``, ``shape``, ``inputs``, ``outputs``, ``version``, ``given``."""
    bits = changes.get("bits", packed_in_three(values))
    inputs, outputs = changes.get("inputs", ["bits"]), changes.get("outputs", ["w"])
    shape = changes.get("shape", values.shape)
    nodes = [
        helper.make_node("UnpackInt3", inputs, outputs, domain="edgewright"),
        helper.make_node("Cast", ["w"], ["y"], to=to),
    ]
    if shape is not None:
        nodes[0].attribute.append(helper.make_attribute("shape", list(shape), attr_type=onnx.AttributeProto.INTS))
    x = helper.make_tensor_value_info("x", changes.get("given", TensorProto.UINT8), (2,))
    graph = helper.make_graph(
        nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], [numpy_helper.from_array(bits, "bits")]
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("edgewright", changes.get("version", 1))]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 0), (0,), (5, 1, 3), (2, 2, 2, 2)])
@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32])
def test_a_constant_of_any_shape(shape, to):
    values = np.random.default_rng(3).integers(-4, 4, shape).astype(np.int8)
    found = Model(unpacked(values, to=to)).session().run([np.zeros(2, np.uint8)])[0]
    np.testing.assert_array_equal(found, values.astype(helper.tensor_dtype_to_np_dtype(to)))


def test_a_constant_that_is_a_result_has_bytes():
    values = np.arange(-4, 4, dtype=np.int8)
    model = onnx.load_from_string(unpacked(values))
    model.graph.output[0].name = "w"
    found = Model(model.SerializeToString()).session().run([np.zeros(2, np.uint8)])[0]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.int8


EIGHT = np.zeros(8, np.int8)
BROKEN: list[tuple[Callable[[], bytes], int, str]] = [
    (
        lambda: unpacked(EIGHT, bits=np.zeros(2, np.uint8)),
        INVALID_MODEL,
        "another number of bytes than its shape needs",
    ),
    (
        lambda: unpacked(EIGHT, bits=np.zeros(4, np.uint8)),
        INVALID_MODEL,
        "another number of bytes than its shape needs",
    ),
    (
        lambda: unpacked(EIGHT, bits=np.zeros(0, np.uint8)),
        INVALID_MODEL,
        "another number of bytes than its shape needs",
    ),
    (lambda: unpacked(EIGHT, bits=np.zeros(3, np.int8)), INVALID_MODEL, "no constant of uint8 with one axis"),
    (lambda: unpacked(EIGHT, bits=np.zeros((3, 1), np.uint8)), INVALID_MODEL, "no constant of uint8 with one axis"),
    (lambda: unpacked(EIGHT, inputs=["x"]), INVALID_MODEL, "no constant of uint8 with one axis"),
    (lambda: unpacked(EIGHT, inputs=["nothing"]), INVALID_MODEL, "no constant of uint8 with one axis"),
    (lambda: unpacked(EIGHT, inputs=[""]), INVALID_MODEL, "one input and one output"),
    (lambda: unpacked(EIGHT, inputs=[]), INVALID_MODEL, "one input and one output"),
    (lambda: unpacked(EIGHT, inputs=["bits", "bits"]), INVALID_MODEL, "one input and one output"),
    (lambda: unpacked(EIGHT, outputs=["w", "v"]), INVALID_MODEL, "one input and one output"),
    (lambda: unpacked(EIGHT, outputs=["bits"]), INVALID_MODEL, "made twice"),
    (lambda: unpacked(EIGHT, outputs=["x"]), INVALID_MODEL, "made twice"),
    (lambda: unpacked(EIGHT, outputs=["y"]), INVALID_MODEL, "reads 'w' before anything makes it"),
    (lambda: unpacked(EIGHT, shape=None), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(EIGHT, shape=[-8]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(EIGHT, shape=[2] * 9), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(EIGHT, shape=[1 << 62, 0, 8]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(EIGHT, shape=[1 << 40, 1 << 40]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(EIGHT, version=3), UNSUPPORTED, r"edgewright.UnpackInt3 \(version 3\)"),
]


def entries() -> list[bytes]:
    """Such graphs for machines without Python, as those of :mod:`tests.native.test_four_bits`."""
    cases = {
        **{f"3 bits {group} {rows}": four.grouped_product("int3", group, rows) for group, rows in ((0, 75), (16, 1))},
        "3 bits turned": four.turned_layer("int3", 40),
        "3 bits calibrated": four.calibrated_convolution(1, "int3"),
    }
    found = []
    for name, (graph, output, arrays) in cases.items():
        small, wide = small_and_wide(graph, output)
        found.append(four.entry_with(name, small, four.by_onnxruntime(wide, arrays), output, arrays))
    return found


def files() -> Iterator[bytes]:
    """A product, a constant alone and files that are refused."""
    graph, output, _ = four.turned_layer("int3", 40)
    yield small_and_wide(graph, output)[0]
    yield unpacked(np.arange(-4, 4, dtype=np.int8))
    yield from (model() for model, *_ in BROKEN)


@pytest.mark.parametrize(("model", "status", "message"), BROKEN, ids=range(len(BROKEN)))
def test_files_that_contradict_themselves_are_refused(model, status, message):
    with refused(status, message):
        Model(model())


def test_no_file_names_the_dtype_itself():
    model = onnx.load_from_string(unpacked(EIGHT))
    model.graph.initializer[0].data_type = 30
    with refused(UNSUPPORTED, "constant 'bits' has ONNX dtype 30"):
        Model(model.SerializeToString())
    with refused(UNSUPPORTED, "'x' has ONNX dtype 30"):
        Model(unpacked(EIGHT, given=30))
    with refused(UNSUPPORTED, "Cast to dtype 30"):
        Model(unpacked(EIGHT, to=30)).session()


def test_the_exporter_moves_weights_as_they_are(tmp_path: Path):
    graph, output, arrays = four.grouped_product("int3", 32, 2)
    small, wide = small_and_wide(graph, output)
    (tmp_path / "whole.onnx").write_bytes(small)
    with (tmp_path / "weights.bin").open("wb") as weights:
        _move_weights(tmp_path / "whole.onnx", tmp_path / "moved.onnx", weights, {})
    assert 768 * 45 * 3 // 8 <= (tmp_path / "weights.bin").stat().st_size < 768 * 45 * 3 // 8 + 24 * 45 * 4 + 500
    result, whole = (Model(tmp_path / name).session().run(arrays)[0] for name in ("moved.onnx", "whole.onnx"))
    np.testing.assert_array_equal(result, whole)
    np.testing.assert_allclose(result, four.by_onnxruntime(wide, arrays), rtol=1e-4, atol=1e-4)


def test_weights_take_half_a_byte_in_memory_which_sessions_share():
    depth, outputs = 1024, 512
    graph = Small(x=(1, depth))
    small, _ = small_and_wide(graph, graph.node("MatMul", ["x", graph.grouped("int3", depth, outputs, group=32)]))
    model = Model(small)
    before = model.memory_bytes
    session, block = model.session(), 1 << 17
    weights = depth * outputs // 2 + depth // 32 * outputs * 4
    assert weights <= model.memory_bytes - before <= weights + block
    assert session.memory_bytes <= block
    after = model.memory_bytes
    model.session()
    assert model.memory_bytes - after <= block


@pytest.mark.parametrize("first", [0, 1, 2])
def test_constants_of_other_bits_in_the_same_bytes(first, tmp_path):
    """Packed they are as large; each product must find its own."""
    content = np.random.default_rng(5).integers(0, 256, 12).astype(np.uint8)
    scale = numpy_helper.from_array(np.ones(4, np.float32), "scale")
    (tmp_path / "w.bin").write_bytes(content.tobytes())
    kinds = [("four", TensorProto.INT4, 6), ("two", TensorProto.INT2, 12), ("three", TensorProto.UINT8, 8)]
    kinds = kinds[first:] + kinds[:first]
    nodes, constants, inputs, outputs = [], [scale], [], []
    for name, dtype, depth in kinds:
        tensor = TensorProto(name=name, data_type=dtype, dims=[12] if name == "three" else [depth, 4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        constants.append(tensor)
        if name == "three":
            nodes.append(helper.make_node("UnpackInt3", [name], [f"{name}_w"], domain="edgewright", shape=[depth, 4]))
        weights = f"{name}_w" if name == "three" else name
        nodes.append(helper.make_node("DequantizeLinear", [weights, "scale"], [f"{name}_f"], axis=1))
        nodes.append(helper.make_node("MatMul", [f"{name}_x", f"{name}_f"], [f"{name}_y"]))
        inputs.append(helper.make_tensor_value_info(f"{name}_x", TensorProto.FLOAT, (1, depth)))
        outputs.append(helper.make_empty_tensor_value_info(f"{name}_y"))
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 25), helper.make_opsetid("edgewright", 1)],
        ir_version=13,
    )
    x = [np.eye(1, depth, dtype=np.float32) + 1 for _, _, depth in kinds]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    found = Model(tmp_path / "m.onnx").session().run(x)
    for (_, dtype, depth), given, result in zip(kinds, x, found, strict=True):
        bits = {TensorProto.INT4: 4, TensorProto.INT2: 2}.get(dtype, 3)
        whole = int.from_bytes(content.tobytes(), "little")
        values = [(whole >> bits * i & (1 << bits) - 1) for i in range(depth * 4)]
        signed = np.array([v - (1 << bits) if v >> bits - 1 else v for v in values], np.float32).reshape(depth, 4)
        np.testing.assert_array_equal(result, given @ signed)
