"""Graphs of 8 bits that the engine prepares: each operator within one step of ONNX Runtime, on every instruction set."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from edgewright_runtime import kernels
from edgewright_runtime.native_library import Model
from tests.native import case_file
from tests.native.eight_bits import DTYPES, Graph, dynamic

ISAS = kernels.isas()
def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def by_onnxruntime(model: bytes, arrays: list[np.ndarray], *, fused: bool = True) -> np.ndarray:
    """In its precise mode: without, it adds products in 16 bits on x86 without VNNI, and 8-bit weights saturate."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([value.name for value in session.get_inputs()], arrays, strict=True)))[0]


def steps(session) -> list[tuple[str, str | None]]:
    """Operator and kernel of each step."""
    return [(step.op, step.kernel) for step in session.steps()]


def compare(graph: Graph, output: str, arrays: list[np.ndarray], monkeypatch, fused: list[str]) -> None:
    """Every instruction set against ONNX Runtime; `fused` are the operators that must run by kernels for 8 bits."""
    model = graph.model(output)
    wanted = by_onnxruntime(model, arrays)
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        session = Model(model).session()
        found = session.run(arrays)[0]
        ran = [op for op, kernel in steps(session) if kernel and "_s8_" in kernel and kernel.endswith(isa)]
        assert [op for op in ran if op in fused] == fused, steps(session)
        assert "DequantizeLinear" not in [op for op, _ in steps(session)], steps(session)
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        if wanted.dtype == np.float32:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
            continue
        apart = np.abs(found.astype(int) - wanted.astype(int))
        assert apart.max() <= 1 and (apart > 0).mean() < 0.01, f"{isa}: {(apart > 0).mean():.4f} {apart.max()}"


CONVOLUTIONS = [
    # image, outputs, kernel, strides, pads, dilations, groups
    ((3, 32, 32), 8, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 1),
    ((32, 9, 11), 40, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((33, 9, 11), 17, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    ((5, 12, 12), 7, (5, 3), (1, 2), (2, 1, 2, 1), (2, 3), 1),
    ((24, 14, 13), 31, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((6, 20, 1), 9, (7, 1), (2, 1), (3, 0, 3, 0), (1, 1), 1),
    ((16, 9, 11), 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 16),
    ((70, 9, 11), 70, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 70),
    ((144, 14, 14), 144, (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 144),
    ((19, 10, 70), 19, (7, 3), (1, 1), (3, 2, 3, 2), (1, 2), 19),
    ((4, 100), 6, (9,), (2,), (4, 4), (1,), 1),
    ((40, 100), 40, (5,), (1,), (2, 2), (1,), 40),
]


def convolution(shape: tuple, dtype: str) -> tuple[Graph, str, list[np.ndarray]]:
    """A graph, its output and its inputs."""
    image, outputs, kernel, strides, pads, dilations, groups = shape
    graph = Graph(x=(2, *image))
    x = graph.through("x", dtype)
    inputs = [x, graph.weights(outputs, image[0] // groups, *kernel), graph.bias(outputs)]
    conv = graph.node("Conv", inputs, strides=strides, pads=pads, dilations=dilations, group=groups)
    return graph, graph.quantize(conv, dtype, 0.05), [drawn(2, *image)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
def test_a_convolution(shape, dtype, monkeypatch):
    compare(*convolution(shape, dtype), monkeypatch, ["Conv"])


def test_a_window_that_the_kernel_has_no_room_for(monkeypatch):
    graph = Graph(x=(1, 8, 40, 40))
    inputs = [graph.through("x", "u8"), graph.weights(8, 1, 9, 9), graph.bias(8)]
    output = graph.quantize(graph.node("Conv", inputs, group=8), "u8", 0.2)
    arrays, model = [drawn(1, 8, 40, 40)], graph.model(output)
    session = Model(model).session()
    assert ("Conv", f"edge_depthwise_f32_{ISAS[-1]}") in steps(session)
    assert np.abs(session.run(arrays)[0].astype(int) - by_onnxruntime(model, arrays).astype(int)).max() <= 1


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_before_the_result_is_quantized(activation, monkeypatch):
    graph = Graph(x=(1, 12, 9, 9))
    inputs = [graph.through("x", "s8"), graph.weights(20, 12, 1, 1, axis=None), graph.bias(20)]
    limits = [graph.constant(np.float32(-0.3)), graph.constant(np.float32(0.9))] if activation == "Clip" else []
    active = graph.node(activation, [graph.node("Conv", inputs), *limits])
    compare(graph, graph.quantize(active, "u8", 0.011), [drawn(1, 12, 9, 9)], monkeypatch, ["Conv"])


@pytest.mark.parametrize("then", ["nothing", "Relu", "Add", "Clip"])
def test_a_depthwise_convolution_whose_result_stays_float(then):
    graph = Graph(x=(1, 8, 9, 9), low=())
    inputs = [graph.through("x", "u8"), graph.weights(8, 1, 3, 3), graph.bias(8)]
    output = graph.node("Conv", inputs, group=8, pads=[1, 1, 1, 1])
    if then == "Clip":
        output = graph.quantize(graph.node("Clip", [output, "low"]), "u8", 0.05)
    elif then != "nothing":
        output = graph.node(then, [output] if then == "Relu" else [output, "x"])
    model, arrays = graph.model(output), [drawn(1, 8, 9, 9), np.array(-1, np.float32)]
    found, wanted = Model(model).session().run(arrays)[0], by_onnxruntime(model, arrays)
    np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=1e-4, atol=1.01 if then == "Clip" else 1e-4)


def test_a_result_that_stays_float_takes_what_follows(monkeypatch):
    graph = Graph(x=(3, 17, 21), more=(3, 17, 30))
    product = graph.node("MatMul", [graph.through("x", "u8"), graph.weights(21, 30, axis=1)])
    summed = graph.node("Add", [graph.node("Add", [product, graph.bias(30)]), "more"])
    output = graph.node("Relu", [summed])
    compare(graph, output, [drawn(3, 17, 21), drawn(3, 17, 30)], monkeypatch, ["MatMul"])
    assert [op for op, _ in steps(Model(graph.model(output)).session())] == ["QuantizeLinear", "MatMul"]


def linear_layer(rows: int, turned: int) -> tuple[Graph, str, list[np.ndarray]]:
    """A graph, its output and its inputs."""
    graph = Graph(x=(rows, 37))
    weights = graph.weights(45, 37, axis=0) if turned else graph.weights(37, 45, axis=1)
    product = graph.node("Gemm", [graph.through("x", "u8"), weights, graph.bias(45)], transB=turned)
    return graph, graph.quantize(product, "s8", 0.04), [drawn(rows, 37)]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("rows", [1, 5, 50])
def test_a_linear_layer(rows, turned, monkeypatch):
    compare(*linear_layer(rows, turned), monkeypatch, ["Gemm"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_after_convolutions(dtype, monkeypatch):
    graph = Graph(x=(1, 8, 9, 9))
    x = graph.through("x", dtype)
    ends = []
    for scale in (0.05, 0.09):
        conv = graph.node("Conv", [x, graph.weights(8, 8, 3, 3), graph.bias(8)], pads=[1, 1, 1, 1])
        ends.append(graph.through(conv, dtype, scale))
    output = graph.quantize(graph.node("Add", ends), dtype, 0.08371)  # hardly a tie
    compare(graph, output, [drawn(1, 8, 9, 9)], monkeypatch, ["Conv", "Conv", "Add"])


@pytest.mark.parametrize("keep", [0, 1])
def test_a_mean_of_pixels_and_what_only_moves(keep, monkeypatch):
    graph = Graph(x=(2, 8, 9, 9))
    conv = graph.node("Conv", [graph.through("x", "u8"), graph.weights(70, 8, 1, 1), graph.bias(70)])
    axes = graph.constant(np.array([-1, 2]))
    mean = graph.through(graph.node("ReduceMean", [graph.through(conv, "u8", 0.05), axes], keepdims=keep), "u8", 0.01)
    flat = graph.through(graph.node("Reshape", [mean, graph.constant(np.array([2, 70]))]), "u8", 0.01)
    product = graph.node("Gemm", [flat, graph.weights(11, 70, axis=0), graph.bias(11)], transB=1)
    compare(graph, graph.quantize(product, "u8", 0.02), [drawn(2, 8, 9, 9)], monkeypatch, ["Conv", "Gemm"])


def product_of_each_run(each: bool) -> tuple[Graph, str]:
    """A graph and its output."""
    graph = Graph(x=(2, 19, 33))
    weights = graph.draw.integers(-127, 128, (33, 40)).astype(np.int8)
    scale = graph.draw.uniform(0.001, 0.006, 40 if each else ()).astype(np.float32)
    return graph, graph.node("Add", [dynamic(graph, "x", "MatMulInteger", weights, scale), graph.bias(40)])


@pytest.mark.parametrize("each", [False, True], ids=["one scale", "a scale for each column"])
def test_a_product_whose_input_is_quantized_in_each_run(each, monkeypatch):
    graph, output = product_of_each_run(each)
    for arrays in ([drawn(2, 19, 33)], [np.zeros((2, 19, 33), np.float32)], [1e4 * np.abs(drawn(2, 19, 33))]):
        compare(graph, output, arrays, monkeypatch, ["MatMulInteger"])


def test_a_convolution_whose_input_is_quantized_in_each_run(monkeypatch):
    graph = Graph(x=(1, 6, 14, 14))
    weights = graph.draw.integers(-127, 128, (10, 6, 3, 3)).astype(np.int8)
    output = dynamic(graph, "x", "ConvInteger", weights, np.float32(0.003), pads=[1, 1, 1, 1])
    compare(graph, output, [drawn(1, 6, 14, 14) + 2], monkeypatch, ["ConvInteger"])


def test_weights_of_8_bits_for_an_input_that_is_none():
    graph = Graph(x=(1, 8, 9, 9))
    output = graph.node("Conv", ["x", graph.weights(20, 8, 3, 3), graph.bias(20)])
    arrays, model = [drawn(1, 8, 9, 9)], graph.model(output)
    session = Model(model).session()
    assert [op for op, _ in steps(session) if op == "DequantizeLinear"] == []
    np.testing.assert_allclose(session.run(arrays)[0], by_onnxruntime(model, arrays), rtol=1e-4, atol=1e-4)


def test_weights_that_two_products_share_one_of_them_float():
    graph = Graph(x=(4, 12))
    weights = graph.weights(12, 12, axis=1)
    first = graph.node("MatMul", [graph.through("x", "u8"), weights])
    output = graph.node("MatMul", [graph.node("Sin", [first]), weights])
    arrays, model = [drawn(4, 12)], graph.model(output)
    found = Model(model).session().run(arrays)[0]
    np.testing.assert_allclose(found, by_onnxruntime(model, arrays, fused=False), rtol=1e-4, atol=1e-4)


def test_two_activations_that_meet_in_a_product():
    graph = Graph(x=(2, 5, 12), z=(2, 12, 7))
    product = graph.node("MatMul", [graph.through("x", "u8"), graph.through("z", "s8")])
    arrays, model = [drawn(2, 5, 12), drawn(2, 12, 7)], graph.model(graph.quantize(product, "u8", 0.05))
    found = Model(model).session().run(arrays)[0].astype(int)
    assert np.abs(found - by_onnxruntime(model, arrays).astype(int)).max() <= 1


def test_an_open_batch(monkeypatch):
    graph = Graph(x=("n", 8, 9, 9))
    conv = graph.node("Conv", [graph.through("x", "u8"), graph.weights(12, 8, 3, 3), graph.bias(12)])
    model = graph.model(graph.quantize(conv, "u8", 0.05))
    session = Model(model).session(bounds={"n": (1, 5)})
    for batch in (5, 1, 3):
        arrays = [drawn(batch, 8, 9, 9)]
        found = session.run(arrays)[0].astype(int)
        assert np.abs(found - by_onnxruntime(model, arrays).astype(int)).max() <= 1


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(threads):
    graph = Graph(x=(1, 32, 40, 40))
    conv = graph.node("Conv", [graph.through("x", "u8"), graph.weights(48, 32, 3, 3), graph.bias(48)], pads=[1] * 4)
    wide = graph.node("Conv", [graph.through(conv, "u8", 0.05), graph.weights(48, 1, 3, 3), graph.bias(48)], group=48)
    model, arrays = graph.model(graph.quantize(wide, "u8", 0.09)), [drawn(1, 32, 40, 40)]
    alone = Model(model).session().run(arrays)[0]
    np.testing.assert_array_equal(Model(model).session(threads=threads).run(arrays)[0], alone)


def entries() -> list[bytes]:
    """Such graphs for machines without Python, as cases of :mod:`tests.native.case_file`."""
    found = [
        *((f"{shape} {dtype}", *convolution(shape, dtype)) for shape in CONVOLUTIONS for dtype in DTYPES),
        *((f"linear {rows} {turned}", *linear_layer(rows, turned)) for rows in (1, 5, 50) for turned in (0, 1)),
        *((f"dynamic {each}", *product_of_each_run(each), [drawn(2, 19, 33)]) for each in (False, True)),
    ]
    return [entry_of(*case) for case in found]


def entry_of(name: str, graph: Graph, output: str, arrays: list[np.ndarray]) -> bytes:
    """Bytes may differ by a step, floats by what fp32 does."""
    model = graph.model(output)
    wanted = by_onnxruntime(model, arrays)
    bound = 1e-5 * float(np.abs(wanted).max()) if wanted.dtype == np.float32 else 1
    return case_file.entry(name, model, {"x": arrays[0]}, {output: wanted}, rtol=0, atol=bound)
