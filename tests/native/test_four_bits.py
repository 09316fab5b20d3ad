"""Weights of 4 bits and less: each product beside ONNX Runtime on every instruction set, and what is refused."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright_export.targets.native import _move_weights
from edgewright_runtime import kernels
from edgewright_runtime.native_library import Model
from tests.native import case_file
from tests.native.eight_bits import Graph, dynamic
from tests.native.test_engine import INVALID_MODEL, SHAPE_MISMATCH, UNSUPPORTED, refused
from tests.native.test_prepare_int8 import drawn, steps

ISAS = kernels.isas()
RANGES = {"int8": (-128, 128), "uint8": (0, 256), "int4": (-8, 8), "uint4": (0, 16), "int2": (-2, 2), "uint2": (0, 4)}
NUMPY = {name: getattr(ml_dtypes, name, None) or np.dtype(name) for name in RANGES}
RANGES["int3"], NUMPY["int3"] = (-4, 4), np.dtype("int8")  # test_three_bits.py makes 3 bits of the bytes
SMALL = ("int4", "uint4", "int2", "uint2")
Arrays = list[np.ndarray]


class Small(Graph):
    """A graph whose constants may have less than 8 bits."""

    def whole(self, dtype: str, *shape: int) -> str:
        """Random whole numbers."""
        return self.constant(self.draw.integers(*RANGES[dtype], shape).astype(NUMPY[dtype]))

    def grouped(self, dtype: str, depth: int, outputs: int, *, group: int = 0, turned: bool = False) -> str:
        """Random weights made float, with a scale for each group, or for each output, and the middle as zero point."""
        shape = (outputs, depth) if turned else (depth, outputs)
        values, along = self.whole(dtype, *shape), int(turned)
        scales = list(shape)
        scales[along] = depth // group if group else 1
        scale = self.draw.uniform(0.01, 0.1, scales if group else outputs).astype(np.float32)
        inputs = [values, self.constant(scale)]
        if dtype.startswith("u"):
            inputs.append(self.constant(np.full(scale.shape, RANGES[dtype][1] // 2).astype(NUMPY[dtype])))
        blocks = {"axis": along, "block_size": group} if group else {"axis": 1 - along}
        return self.node("DequantizeLinear", inputs, **blocks)

    def model(self, output: str) -> bytes:
        return as_proto(super().model(output)).SerializeToString()


def as_proto(content: bytes) -> onnx.ModelProto:
    """With the operator set that has these dtypes."""
    model = onnx.load_from_string(content)
    model.opset_import[0].version, model.ir_version = 25, 13
    return model


def by_onnxruntime(model: bytes, arrays: Arrays) -> np.ndarray:
    """Operator by operator: else it takes products of small weights together, with x in 8 bits."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([value.name for value in session.get_inputs()], arrays, strict=True)))[0]


def compare(graph: Graph, output: str, arrays: Arrays, monkeypatch, ran: list[tuple[str, str]]) -> None:
    model = graph.model(output)
    assert_runs(model, by_onnxruntime(model, arrays), arrays, monkeypatch, ran)


def assert_runs(model: bytes, wanted: np.ndarray, arrays: Arrays, monkeypatch, ran: list[tuple[str, str]]) -> None:
    """On every instruction set: the operators of the session with stems of their kernels, and the result."""
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        session = Model(model).session()
        found = session.run(arrays)[0]
        assert [(op, kernel and kernel.removesuffix(f"_{isa}")) for op, kernel in steps(session)] == ran
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        if wanted.dtype == np.float32:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
        else:
            assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


GROUPED = "edge_gemm_grouped_f32"
S8 = "edge_gemm_s8"


Case = tuple[Small, str, Arrays]
"""A graph, its output and its inputs."""


def grouped_product(dtype: str, group: int, rows: int) -> Case:
    graph = Small(x=(rows, 768))
    product = graph.node("MatMul", ["x", graph.grouped(dtype, 768, 45, group=group)])
    return graph, graph.node("Relu", [graph.node("Add", [product, graph.bias(45)])]), [drawn(rows, 768)]


def turned_layer(dtype: str, group: int) -> Case:
    graph = Small(x=(2, 120))
    weights = graph.grouped(dtype, 120, 19, group=group, turned=True)
    return graph, graph.node("Gemm", ["x", weights, graph.bias(19)], transB=1), [drawn(2, 120)]


@pytest.mark.parametrize("rows", [1, 3, 75])
@pytest.mark.parametrize("group", [0, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("dtype", ["int4", "int8", "uint4", "uint8"])
def test_a_product_of_floats_with_grouped_weights(dtype, group, rows, monkeypatch):
    compare(*grouped_product(dtype, group, rows), monkeypatch, [("MatMul", GROUPED)])


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "int2"])
@pytest.mark.parametrize("group", [0, 8, 40])
def test_a_linear_layer_with_turned_weights(dtype, group, monkeypatch):
    compare(*turned_layer(dtype, group), monkeypatch, [("Gemm", GROUPED)])


def test_one_scale_for_all_weights_and_an_odd_depth(monkeypatch):
    graph = Small(x=(2, 3, 77), more=(2, 3, 21))
    weights = graph.node("DequantizeLinear", [graph.whole("int4", 77, 21), graph.constant(np.float32(0.03))])
    output = graph.node("Add", [graph.node("MatMul", ["x", weights]), "more"])
    compare(graph, output, [drawn(2, 3, 77), drawn(2, 3, 21)], monkeypatch, [("MatMul", GROUPED)])


def test_weights_that_two_products_read_and_that_are_read_themselves(monkeypatch):
    graph = Small(x=(3, 64))
    values, scale = graph.whole("int4", 64, 64), graph.constant(np.full((2, 64), 0.05, np.float32))
    blocks = {"axis": 0, "block_size": 32}
    first, second = (graph.node("DequantizeLinear", [values, scale], **blocks) for _ in range(2))
    product = graph.node("MatMul", [graph.node("MatMul", ["x", first]), first])
    read = graph.node("ReduceMax", [second], keepdims=0)
    ran = [("MatMul", GROUPED), ("MatMul", GROUPED), ("Mul", None)]
    compare(graph, graph.node("Mul", [product, read]), [drawn(3, 64)], monkeypatch, ran)


@pytest.mark.parametrize(
    "blocks",
    [
        {"axis": 0, "block_size": 12},  # no multiple of what a word holds
        {"axis": 0, "block_size": 32},  # the last block is shorter
        {"axis": 1, "block_size": 16},  # along the outputs
        {"axis": 0},  # a scale for each row
    ],
    ids=str,
)
def test_groups_that_the_kernel_does_not_have_are_made_float(blocks, monkeypatch):
    graph, size = Small(x=(2, 48)), blocks.get("block_size", 0)
    shape = [48, 32] if size else [48]
    if size:
        shape[blocks["axis"]] = math.ceil(shape[blocks["axis"]] / size)
    scale = graph.constant(graph.draw.uniform(0.01, 0.1, shape).astype(np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole("int4", 48, 32), scale], **blocks)
    compare(graph, graph.node("MatMul", ["x", weights]), [drawn(2, 48)], monkeypatch, [("MatMul", "edge_gemm_f32")])


def test_zero_points_beside_the_middle_are_made_float(monkeypatch):
    graph = Small(x=(2, 48))
    zero = graph.constant(graph.draw.integers(0, 16, 20).astype(ml_dtypes.uint4))
    scale = graph.constant(graph.draw.uniform(0.01, 0.1, 20).astype(np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole("uint4", 48, 20), scale, zero], axis=1)
    compare(graph, graph.node("MatMul", ["x", weights]), [drawn(2, 48)], monkeypatch, [("MatMul", "edge_gemm_f32")])


def test_a_convolution_of_floats_makes_its_weights_float(monkeypatch):
    graph = Small(x=(1, 6, 9, 9))
    scale = graph.constant(graph.draw.uniform(0.01, 0.06, 10).astype(np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole("int4", 10, 6, 3, 3), scale], axis=0)
    ran = [("Transpose", None), ("Conv", "edge_gemm_f32"), ("Transpose", None)]
    compare(graph, graph.node("Conv", ["x", weights]), [drawn(1, 6, 9, 9)], monkeypatch, ran)


def test_rows_of_a_table_made_float_before_or_after(monkeypatch):
    graph = Small(x=(2, 40))
    table, rows = graph.whole("int4", 70, 40), graph.constant(np.array([69, 3]))
    scale = graph.constant(graph.draw.uniform(0.01, 0.06, (70, 5)).astype(np.float32))
    floats = graph.node("DequantizeLinear", [table, scale], axis=1, block_size=8)
    output = graph.node("Add", [graph.node("Gather", [floats, rows]), "x"])
    compare(graph, output, [drawn(2, 40)], monkeypatch, [("Add", None)])
    scale = graph.node("Gather", [scale, rows])
    taken = graph.node("DequantizeLinear", [graph.node("Gather", [table, rows]), scale], axis=1, block_size=8)
    same = Model(graph.model(graph.node("Sub", [graph.node("Add", [taken, "x"]), output]))).session()
    np.testing.assert_array_equal(same.run([drawn(2, 40)])[0], np.zeros((2, 40), np.float32))


def calibrated_convolution(groups: int, dtype: str) -> Case:
    graph = Small(x=(1, 24, 9, 11))
    scale = graph.constant(graph.draw.uniform(0.01, 0.06, 24).astype(np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole(dtype, 24, 24 // groups, 3, 3), scale], axis=0)
    conv = graph.node("Conv", [graph.through("x", "u8"), weights, graph.bias(24)], pads=[1, 1, 1, 1], group=groups)
    return graph, graph.quantize(conv, "u8", 0.05), [drawn(1, 24, 9, 11)]


@pytest.mark.parametrize("dtype", ["int4", "int2"])
@pytest.mark.parametrize("groups", [1, 24])
def test_a_calibrated_convolution_widens_its_weights(groups, dtype, monkeypatch):
    kernel = "edge_depthwise_s8" if groups > 1 else S8
    ran = [("QuantizeLinear", None), ("Transpose", None), ("Conv", kernel), ("Transpose", None)]
    compare(*calibrated_convolution(groups, dtype), monkeypatch, ran)


def calibrated_product(kind: str) -> Case:
    graph, turned = Small(x=(5, 37)), kind == "Gemm"
    scale = graph.constant(graph.draw.uniform(0.01, 0.06, 21).astype(np.float32))
    zero = graph.constant(np.zeros(21).astype(ml_dtypes.int4))
    values = graph.whole("int4", *((21, 37) if turned else (37, 21)))
    weights = graph.node("DequantizeLinear", [values, scale, zero], axis=0 if turned else 1)
    product = graph.node(kind, [graph.through("x", "u8"), weights], **({"transB": 1} if turned else {}))
    return graph, graph.quantize(product, "s8", 0.04), [drawn(5, 37)]


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_a_calibrated_product_widens_its_weights(kind, monkeypatch):
    compare(*calibrated_product(kind), monkeypatch, [("QuantizeLinear", None), (kind, S8)])


def widened(graph: Small, value: str, kind: str, weights: np.ndarray, scale: np.ndarray) -> str:
    """A dynamic product, before which small weights become bytes."""
    output = dynamic(graph, value, kind, weights, scale)
    product = next(node for node in graph.nodes if node.op_type == kind)
    graph.nodes.insert(0, helper.make_node("Cast", [product.input[1]], ["wide"], to=TensorProto.INT8))
    product.input[1] = "wide"
    return output


def dynamic_product(kind: str) -> Case:
    conv = kind == "ConvInteger"
    image, shape = ((1, 6, 9, 9), (7, 6, 3, 3)) if conv else ((3, 40), (40, 33))
    graph = Small(x=image)
    scale = np.float32(0.02) if conv else graph.draw.uniform(0.01, 0.05, 33).astype(np.float32)
    weights = graph.draw.integers(-8, 8, shape).astype(ml_dtypes.int4)
    return graph, widened(graph, "x", kind, weights, scale), [drawn(*image)]


@pytest.mark.parametrize("kind", ["MatMulInteger", "ConvInteger"])
def test_a_dynamic_product_widens_its_weights(kind, monkeypatch):
    conv = kind == "ConvInteger"
    ran = [("DynamicQuantizeLinear", None), (kind, S8)]
    if conv:
        ran = [ran[0], ("Transpose", None), ran[1], ("Transpose", None)]
    compare(*dynamic_product(kind), monkeypatch, ran)


def test_sums_of_integers_are_exact_where_nothing_is_fused():
    graph = Small(x=(3, 40))
    quantized = graph.node("DynamicQuantizeLinear", ["x"], 3)
    wide = graph.node("Cast", [graph.whole("int4", 40, 33)], to=TensorProto.INT8)
    model = graph.model(graph.node("MatMulInteger", [quantized, wide, f"{quantized}_2"]))
    arrays = [drawn(3, 40)]
    np.testing.assert_array_equal(Model(model).session().run(arrays)[0], by_onnxruntime(model, arrays))


@pytest.mark.parametrize("to", ["float32", "int8", "int32"])
@pytest.mark.parametrize("dtype", SMALL)
def test_a_cast_of_an_odd_number_of_values(dtype, to):
    values = np.arange(*RANGES[dtype]).repeat(3)[:-1].reshape(1, -1)
    graph = Small(x=(1, 1))
    cast = graph.node(
        "Cast", [graph.constant(values.astype(NUMPY[dtype]))], to=int(helper.np_dtype_to_tensor_dtype(np.dtype(to)))
    )
    kept = graph.node("Identity", [cast])
    session = Model(graph.model(kept)).session()
    np.testing.assert_array_equal(session.run([drawn(1, 1)])[0], values.astype(to))


@pytest.mark.parametrize("form", ["raw", "numbers", "attribute"])
@pytest.mark.parametrize("dtype", SMALL)
def test_every_form_of_a_constant(dtype, form):
    values = np.arange(*RANGES[dtype]).repeat(5)[1:].reshape(1, 1, -1)
    tensor = numpy_helper.from_array(values.astype(NUMPY[dtype]), "w")
    if form != "raw":
        tensor = helper.make_tensor("w", tensor.data_type, values.shape, values.ravel())
        assert len(tensor.int32_data) == math.ceil(values.size * (4 if "4" in dtype else 2) / 8)
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["d"]), helper.make_node("Add", ["d", "x"], ["y"])]
    constants = [tensor, numpy_helper.from_array(np.float32(0.5), "s")]
    if form == "attribute":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        constants.remove(tensor)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], constants)
    model = as_proto(helper.make_model(graph).SerializeToString()).SerializeToString()
    np.testing.assert_array_equal(Model(model).session().run([np.ones(1, np.float32)])[0], values * np.float32(0.5) + 1)


def linear_in_two_files(folder: Path, cut: int = 0) -> Path:
    """A product whose weights lie in weights.bin, of which some bytes are missing."""
    graph = Small(x=(2, 64))
    output = graph.node("MatMul", ["x", graph.grouped("int4", 64, 21, group=16)])
    model = as_proto(graph.model(output))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT4)
    data = tensor.raw_data
    assert len(data) == 64 * 21 // 2
    (folder / "weights.bin").write_bytes(bytes(3) + data[: len(data) - cut])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", 3), ("length", len(data) - cut)):
        tensor.external_data.add(key=key, value=str(value))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    (folder / "whole.onnx").write_bytes(graph.model(output))
    return folder / "m.onnx"


def test_weights_in_another_file_stay_there(tmp_path):
    path, x = linear_in_two_files(tmp_path), drawn(2, 64)
    found = Model(path).session().run([x])[0]
    np.testing.assert_array_equal(found, Model(tmp_path / "whole.onnx").session().run([x])[0])


def test_the_exporter_moves_weights_as_they_are(tmp_path):
    graph = Small(x=(2, 64))
    product = graph.node("MatMul", ["x", graph.grouped("int4", 64, 210, group=16)])
    typed = graph.draw.integers(-8, 8, (210, 63))
    scale = graph.constant(np.full(63, 0.1, np.float32))
    output = graph.node("MatMul", [product, graph.node("DequantizeLinear", ["typed", scale], axis=1)])
    model = as_proto(graph.model(output))
    model.graph.initializer.append(helper.make_tensor("typed", TensorProto.INT4, typed.shape, typed.ravel()))
    onnx.save_model(model, str(tmp_path / "whole.onnx"))
    with (tmp_path / "weights.bin").open("wb") as weights:
        _move_weights(tmp_path / "whole.onnx", tmp_path / "moved.onnx", weights, {})
    moved = onnx.load(str(tmp_path / "moved.onnx"), load_external_data=False).graph.initializer
    found = {tensor.name: tensor.data_location for tensor in moved if tensor.data_type == TensorProto.INT4}
    assert len(found) == 2 and set(found.values()) == {TensorProto.EXTERNAL}
    assert (tmp_path / "weights.bin").stat().st_size < 64 * 210 // 2 + 210 * 63 // 2 + 4 * 210 * 4 + 63 * 4 + 4 * 64
    arrays = [drawn(2, 64)]
    result, whole = (Model(tmp_path / name).session().run(arrays)[0] for name in ("moved.onnx", "whole.onnx"))
    np.testing.assert_array_equal(result, whole)
    np.testing.assert_allclose(result, by_onnxruntime(model.SerializeToString(), arrays), rtol=1e-4, atol=1e-3)


def test_weights_are_kept_in_their_bits():
    depth, outputs = 1024, 512
    graph = Small(x=(1, depth))
    model = Model(graph.model(graph.node("MatMul", ["x", graph.grouped("int4", depth, outputs, group=32)])))
    before = model.memory_bytes
    session = model.session()
    weights = depth * outputs // 2 + depth // 32 * outputs * 4
    block = 1 << 17  # what is small
    assert weights <= model.memory_bytes - before <= weights + block
    assert session.memory_bytes <= block


@pytest.mark.parametrize("cut", [1, 100])
def test_weights_that_are_cut_off_are_refused(cut, tmp_path):
    with refused(INVALID_MODEL, f"has {672 - cut} bytes where its shape needs 672"):
        Model(linear_in_two_files(tmp_path, cut))
    path = linear_in_two_files(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(675 - cut))
    with refused(INVALID_MODEL, f"takes 672 bytes at 3 of 'weights.bin', which has {675 - cut}"):
        Model(path)


def broken(scale: tuple[int, ...], **attributes: int) -> bytes:
    graph = Small(x=(2, 64))
    scales = graph.constant(np.ones(scale, np.float32))
    weights = graph.node("DequantizeLinear", [graph.whole("int4", 64, 20), scales], **attributes)
    return graph.model(graph.node("MatMul", ["x", weights]))


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        (
            lambda: broken((4, 20), axis=0, block_size=32),
            SHAPE_MISMATCH,
            "axis 0 of the scales has length 4, blocks of 32 need 2",
        ),
        (lambda: broken((2, 19), axis=0, block_size=32), SHAPE_MISMATCH, "axis 1 of the scales has length 19"),
        (lambda: broken((20,), axis=0, block_size=32), INVALID_MODEL, "scales of blocks have 1 axes, the input has 2"),
        (lambda: broken((2, 20), axis=0, block_size=-32), INVALID_MODEL, "block_size is -32"),
        (lambda: broken((2, 20), axis=2, block_size=32), INVALID_MODEL, r"axis 2 is outside \[-2, 2\)"),
        (lambda: broken((21,), axis=1), SHAPE_MISMATCH, "scales of axis 1 need rank 1 and length 20"),
    ],
    ids=range(6),
)
def test_scales_that_do_not_fit_are_refused(model, status, message):
    with refused(status, message):
        Model(model()).session()


def test_inputs_and_results_of_less_than_a_byte_are_refused():
    x = helper.make_tensor_value_info("x", TensorProto.INT4, (2,))
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")])
    with refused(UNSUPPORTED, "'x' has ONNX dtype 22"):
        Model(as_proto(helper.make_model(graph).SerializeToString()).SerializeToString())
    graph = Small(x=(2,))
    with refused(UNSUPPORTED, "Cast to dtype 22"):
        Model(graph.model(graph.node("Cast", ["x"], to=TensorProto.INT4))).session()
    graph = Small(x=(2,))
    with refused(UNSUPPORTED, "QuantizeLinear to dtype 22"):
        Model(
            graph.model(graph.node("QuantizeLinear", ["x", graph.constant(np.float32(1))], output_dtype=22))
        ).session()


def test_a_constant_that_is_a_result_has_bytes():
    graph = Small(x=(2,))
    values = graph.draw.integers(-8, 8, 5)
    name = graph.constant(values.astype(ml_dtypes.int4))
    found = Model(graph.model(name)).session().run([drawn(2)])[0]
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, values)


def entries() -> list[bytes]:
    """Such graphs for machines without Python, as cases of :mod:`tests.native.case_file`."""
    found = {
        **{
            f"grouped {dtype} {group} {rows}": grouped_product(dtype, group, rows)
            for dtype, group, rows in itertools.product(("int4", "uint8"), (0, 16, 256), (1, 75))
        },
        **{f"turned {dtype}": turned_layer(dtype, 40) for dtype in ("int4", "int8", "int2")},
        **{f"calibrated {groups}": calibrated_convolution(groups, "int4") for groups in (1, 24)},
        **{f"calibrated {kind}": calibrated_product(kind) for kind in ("MatMul", "Gemm")},
        **{f"dynamic {kind}": dynamic_product(kind) for kind in ("MatMulInteger", "ConvInteger")},
    }
    return [entry_of(name, *case) for name, case in found.items()]


def entry_of(name: str, graph: Graph, output: str, arrays: Arrays) -> bytes:
    """Bytes may differ by a step, floats by what fp32 does."""
    model = graph.model(output)
    return entry_with(name, model, by_onnxruntime(model, arrays), output, arrays)


def entry_with(name: str, model: bytes, wanted: np.ndarray, output: str, arrays: Arrays) -> bytes:
    """With a result that is known."""
    bound = 1e-5 * float(np.abs(wanted).max()) if wanted.dtype == np.float32 else 1
    return case_file.entry(name, model, {"x": arrays[0]}, {output: wanted}, rtol=0, atol=bound)
