"""Products of 8 bits whose weights are mostly zeros: each within one step of ONNX Runtime, by the kernel of blocks or not."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright_runtime import kernels, kernels_s8
from edgewright_runtime.native_library import Model
from tests.native.eight_bits import DTYPES, Graph, dynamic
from tests.native.test_prepare_int8 import compare, drawn, entry_of, steps

ISAS = kernels.isas()
BLOCKS, DENSE = "edge_gemm_s8_4x4", "edge_gemm_s8"
ROWS = (1, 2, 4, 5, 8, 13, 40, 77)


def thin(weights: np.ndarray, kept: float, outputs: int = 0) -> np.ndarray:
    """Leaves so large a share of blocks of four outputs, along that axis, and four inputs; none is without weights of its own."""
    turned = np.moveaxis(weights, outputs, 0)
    n, depth, *rest = turned.shape
    there = np.random.default_rng([n, depth]).random((-(-n // 4), -(-depth // 4), *rest)) < kept
    turned *= there.repeat(4, 0)[:n].repeat(4, 1)[:, :depth]
    return weights


def thin_weights(graph: Graph, kept: float, *shape: int, outputs: int = 0, axis: int | None = 0) -> str:
    """Of a graph, made float."""
    name = graph.weights(*shape, axis=axis)
    thin(next(value for value in graph.constants.values() if value.shape == shape), kept, outputs)
    return name


def linear_layer(rows: int, turned: int, kept: float = 0.15, depth: int = 130, n: int = 70, dtype: str = "u8") -> tuple:
    """A graph, its output and its inputs."""
    graph = Graph(x=(rows, depth))
    shape = (n, depth) if turned else (depth, n)
    weights = thin_weights(graph, kept, *shape, outputs=0 if turned else 1, axis=0 if turned else 1)
    output = graph.node("Gemm", [graph.through("x", dtype), weights, graph.bias(n)], transB=turned)
    return graph, graph.quantize(output, dtype, 0.05), [drawn(rows, depth)]


def convolution(image: tuple[int, ...], outputs: int, side: int, stride: int, dtype: str, kept: float = 0.15) -> tuple:
    """A graph, its output and its inputs."""
    graph = Graph(x=(2, *image))
    inputs = [graph.through("x", dtype), thin_weights(graph, kept, outputs, image[0], side, side), graph.bias(outputs)]
    conv = graph.node("Conv", inputs, strides=[stride] * 2, pads=[side // 2] * 4)
    return graph, graph.quantize(graph.node("Relu", [conv]), dtype, 0.05), [drawn(2, *image)]


CONVOLUTIONS = [((96, 9, 11), 40, 1, 1), ((66, 9, 11), 33, 1, 2), ((64, 8, 8), 48, 3, 1), ((40, 12, 7), 36, 3, 2)]


def ran(model: bytes, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kernels of products, on each of these instruction sets."""
    found = set()
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        kernels_of = [kernel for _, kernel in steps(Model(model).session()) if kernel and "gemm" in kernel]
        found |= {kernel.removesuffix(f"_{isa}") for kernel in kernels_of}
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [0, 1])
def test_a_linear_layer(turned, dtype, monkeypatch):
    for rows in ROWS:
        graph, output, arrays = linear_layer(rows, turned, 0.05, depth=530, dtype=dtype)
        compare(graph, output, arrays, monkeypatch, ["Gemm"])
        assert ran(graph.model(output), monkeypatch) == {BLOCKS}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
def test_a_convolution(shape, dtype, monkeypatch):
    graph, output, arrays = convolution(*shape, dtype)
    compare(graph, output, arrays, monkeypatch, ["Conv"])
    assert ran(graph.model(output), monkeypatch) == {BLOCKS}


def dynamic_product(rows: int, kept: float = 0.15) -> tuple[Graph, str, list[np.ndarray]]:
    graph = Graph(x=(rows, 130), more=(rows, 70))
    weights = thin(graph.draw.integers(-127, 128, (130, 70)).astype(np.int8), kept, 1)
    product = dynamic(graph, "x", "MatMulInteger", weights, graph.draw.uniform(0.001, 0.006, 70).astype(np.float32))
    biased = graph.node("Add", [product, graph.bias(70)])
    return graph, graph.node("Sigmoid", [graph.node("Add", [biased, "more"])]), [drawn(rows, 130), drawn(rows, 70)]


@pytest.mark.parametrize("rows", ROWS)
def test_a_product_whose_input_is_quantized_in_each_run(rows, monkeypatch):
    """With a bias, a second summand and an activation, which takes some columns at a time."""
    graph, output, arrays = dynamic_product(rows)
    compare(graph, output, arrays, monkeypatch, ["MatMulInteger"])
    if rows > 8:
        assert ran(graph.model(output), monkeypatch) == {BLOCKS}


def test_dense_weights_stay_dense(monkeypatch):
    for kept in (0.9, 1):
        for rows in (1, 8, 40):
            graph, output, _ = linear_layer(rows, 1, kept)
            assert ran(graph.model(output), monkeypatch) == {DENSE}


def test_products_that_are_too_small_or_too_deep_stay_dense(monkeypatch):
    graph, output, _ = linear_layer(40, 1, 0.6, depth=8, n=8)
    assert ran(graph.model(output), monkeypatch) == {DENSE}
    for depth, kernel in ((kernels_s8.BLOCKS_MOST_DEPTH, BLOCKS), (kernels_s8.BLOCKS_MOST_DEPTH + 1, DENSE)):
        graph, output, arrays = linear_layer(9, 1, depth=depth, n=9)
        assert ran(graph.model(output), monkeypatch) == {kernel}
        compare(graph, output, arrays, monkeypatch, ["Gemm"])


def test_weights_of_zeros_alone_and_outputs_without_any(monkeypatch):
    graph, output, arrays = linear_layer(9, 1)
    weights = next(value for value in graph.constants.values() if value.shape == (70, 130))
    weights[8:40] = 0
    compare(graph, output, arrays, monkeypatch, ["Gemm"])
    weights[...] = 0
    compare(graph, output, arrays, monkeypatch, ["Gemm"])
    assert ran(graph.model(output), monkeypatch) == {BLOCKS}


def test_an_open_number_of_rows(monkeypatch):
    """Blocks that would be slower than dense weights for one of them leave the weights dense for all."""
    isa = ISAS[-1]
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
    for kept, kernel in ((0.05, BLOCKS), (0.4, DENSE)):
        graph = Graph(x=("rows", 530))
        inputs = [graph.through("x", "u8"), thin_weights(graph, kept, 70, 530), graph.bias(70)]
        model = graph.model(graph.quantize(graph.node("Gemm", inputs, transB=1), "u8", 0.05))
        few, many = (Model(model).session(bounds={"rows": (least, 40)}) for least in (1, 40))
        assert steps(few)[-1][1] == f"{kernel}_{isa}" and steps(many)[-1][1] == f"{BLOCKS}_{isa}"
        all_rows = drawn(40, 530)
        expected = many.run([all_rows])[0]
        for rows in (1, 7, 40):
            np.testing.assert_array_equal(few.run([all_rows[:rows]])[0], expected[:rows])


def test_what_a_sparse_kernel_is_expected_to_cost():
    found = []
    for kept in (0.7, 0.5, 0.3, 0.1):
        graph, output, _ = linear_layer(40, 1, kept, depth=256, n=256)
        (step,) = (step for step in Model(graph.model(output)).session().steps() if step.op == "Gemm")
        assert (BLOCKS in step.kernel) is (step.sparse_cost < 0.97)
        found.append(step.sparse_cost)
    assert found == sorted(found, reverse=True) and found[-1] < 0.97
    graph, output, _ = linear_layer(40, 1, 1)
    assert {step.sparse_cost for step in Model(graph.model(output)).session().steps()} == {None}


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_changes_nothing(threads):
    for graph, output, arrays in (
        linear_layer(8, 1, depth=1024, n=1000),
        linear_layer(300, 0, depth=300, n=301),
        convolution((64, 30, 30), 90, 3, 1, "s8"),
        dynamic_product(77),
    ):
        model = graph.model(output)
        alone, together = (Model(model).session(threads=count).run(arrays)[0] for count in (1, threads))
        np.testing.assert_array_equal(alone, together)


def entries() -> list[bytes]:
    """Such graphs for machines without Python, as cases of :mod:`tests.native.case_file`."""
    found = [(f"blocks {rows} {turned}", *linear_layer(rows, turned)) for rows in (1, 8, 50) for turned in (0, 1)]
    found += [(f"blocks {shape} {dtype}", *convolution(*shape, dtype)) for shape in CONVOLUTIONS for dtype in DTYPES]
    return [entry_of(*case) for case in found]
