"""Weights that a file has as bits and blocks: what the exporter writes, how the engine reads it, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sdk
from edgewright_export.targets.onnx_sparse import compress, packed
from edgewright_runtime.native_library import Model
from tests.native.eight_bits import Graph
from tests.native.small_models import model as file_of
from tests.native.test_engine import INVALID_MODEL, UNSUPPORTED, refused
from tests.native.test_sparse_s8 import thin_weights
from tests.sparsity.prune import pruned

BLOCKS = pytest.mark.parametrize("block", [(1, 1), (4, 1), (1, 4), (4, 4), (16, 1), (3, 5)])


def drawn(shape: tuple[int, ...], kept: float = 0.3, dtype: str = "float32") -> np.ndarray:
    draw = np.random.default_rng(0)
    values = draw.standard_normal(shape) if dtype == "float32" else draw.integers(1, 128, shape)
    return np.where(draw.random(shape) < kept, values, 0).astype(dtype)


def unpacked(values: np.ndarray, block: tuple[int, ...] | None = (4, 1), **changes: Any) -> bytes:
    """A file that gives sparse weights back; changes: of ``bits``, ``kept``, ``shape``, ``inputs``, ``outputs``, ``version``."""
    bits, kept = packed(values, (4, 1) if block is None or len(block) != 2 or min(block) < 1 else block)
    inputs, outputs = changes.get("inputs", ["bits", "values"]), changes.get("outputs", ["w"])
    nodes = [helper.make_node("UnpackSparse", inputs, outputs, domain="edgewright"), helper.make_node("Neg", ["w"], ["y"])]
    for name, given in (("shape", changes.get("shape", values.shape)), ("block", block)):
        if given is not None:
            nodes[0].attribute.append(helper.make_attribute(name, list(given), attr_type=onnx.AttributeProto.INTS))
    constants = {"bits": changes.get("bits", bits), "values": changes.get("kept", kept)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2,))],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("edgewright", changes.get("version", 1 if values.dtype == np.float32 else 2))]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


@BLOCKS
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (9, 10), (33, 17, 3, 3), (5, 2, 7), (0, 3), (3, 0, 2), (16, 16)])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_of_any_shape(shape, block, dtype):
    for kept in (0.0, 0.1, 1.0):
        values = drawn(shape, kept, dtype)
        found = Model(unpacked(values, block)).session().run([np.zeros(2, np.float32)])[0]
        np.testing.assert_array_equal(found, -values)


def test_bits_and_values_lie_as_the_page_says():
    values = np.zeros((4, 3), np.float32)
    values[:, 1] = 5, 6, 7, 8
    bits, kept = packed(values, (4, 1))
    assert bits.tolist() == [2] and kept.tolist() == [5, 6, 7, 8]
    values = drawn((6, 5, 2))
    bits, kept = packed(values, (4, 2))
    blocks = []
    for row in range(0, 6, 4):
        for column in range(0, 5, 2):
            for place in range(2):
                block = np.zeros((4, 2), np.float32)
                part = values[row : row + 4, column : column + 2, place]
                block[: part.shape[0], : part.shape[1]] = part
                blocks.append(block)
    there = [bool(block.any()) for block in blocks]
    assert int.from_bytes(bits.tobytes(), "little") == sum(one << i for i, one in enumerate(there))
    np.testing.assert_array_equal(kept, np.concatenate([b.ravel() for b, one in zip(blocks, there, strict=True) if one]))


def test_minus_zero_is_nothing_and_nan_is_something():
    values = np.zeros((8, 1), np.float32)
    values[0], values[4] = -0.0, np.nan
    assert packed(values, (4, 1))[0].tolist() == [2]


def matrix(values: np.ndarray, kind: str = "Conv") -> onnx.ModelProto:
    weights = values[:, :, None, None] if kind == "Conv" else values
    given = (1, values.shape[1], 4, 4) if kind == "Conv" else (2, values.shape[0])
    return onnx.load_from_string(file_of([helper.make_node(kind, ["x", "w"], ["y"])], {"x": given}, ["y"], {"w": weights}))


def compressed() -> bytes:
    """A product of rows of 64 values with weights that are stored so."""
    model = matrix(drawn((64, 64), 0.1), "MatMul")
    compress(model)
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
def test_what_is_mostly_zeros_is_stored_without_them(kind):
    values = drawn((64, 64), 0.1)
    model = matrix(values, kind)
    x = np.random.default_rng(1).standard_normal([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])
    wanted = Model(model.SerializeToString()).session().run([x.astype(np.float32)])[0]
    compress(model)
    assert [node.op_type for node in model.graph.node] == ["UnpackSparse", kind]
    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 0.15 * values.nbytes
    np.testing.assert_array_equal(Model(model.SerializeToString()).session().run([x.astype(np.float32)])[0], wanted)


@pytest.mark.parametrize(
    ("values", "block"),
    [
        (np.repeat(drawn((16, 64), 0.2), 4, axis=0), [4, 1]),
        (np.repeat(drawn((64, 16), 0.2), 4, axis=1), [1, 4]),
        (np.repeat(drawn((4, 64), 0.2), 16, axis=0), [16, 1]),
        (drawn((64, 64), 0.2), [1, 1]),
    ],
)
def test_blocks_are_those_that_need_the_fewest_bytes(values, block):
    model = matrix(values)
    compress(model)
    found = {attribute.name: list(attribute.ints) for attribute in model.graph.node[0].attribute}
    assert found == {"shape": [64, 64, 1, 1], "block": block}


def test_what_gains_little_and_what_is_no_weight_stays():
    for values in (drawn((64, 64), 0.6), drawn((8, 8), 0.1), drawn((64, 64), 1.0)):
        model = matrix(values)
        before = model.SerializeToString()
        compress(model)
        assert model.SerializeToString() == before
    model = onnx.load_from_string(
        file_of([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (64, 64)}, ["y"], {"w": drawn((64, 64), 0.1)})
    )
    compress(model)
    assert [node.op_type for node in model.graph.node] == ["Add"]


@pytest.mark.parametrize("turned", [True, False])
def test_integers_that_products_are_made_of_are_stored_so_too(turned):
    graph = Graph(x=(5, 130))
    block = (4, 4)
    weights = thin_weights(graph, 0.2, *((70, 130) if turned else (130, 70)), outputs=int(not turned), axis=int(not turned))
    output = graph.node("Gemm", [graph.through("x", "u8"), weights], transB=int(turned))
    model, x = onnx.load_from_string(graph.model(output)), np.random.default_rng(0).standard_normal((5, 130)).astype(np.float32)
    wanted = Model(model.SerializeToString()).session().run([x])[0]
    compress(model)
    node = model.graph.node[0]
    assert node.op_type == "UnpackSparse" and model.opset_import[-1].version == 2
    assert next(list(one.ints) for one in node.attribute if one.name == "block") == list(block)
    assert max(len(tensor.raw_data) for tensor in model.graph.initializer) < 0.25 * 70 * 130
    np.testing.assert_array_equal(Model(model.SerializeToString()).session().run([x])[0], wanted)


def test_a_pruned_model_is_exported_small(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 256, 1), nn.ReLU(), nn.Conv2d(256, 256, 1), nn.ReLU()]
    whole = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 4)).eval()
    sizes = []
    for share in (0.0, 0.8):
        module = pruned(whole, share)
        example = (torch.randn(1, 3, 8, 8),)
        bundle = sdk.export(module, "host:native", example_inputs=example, output=tmp_path / f"{share}.edge")
        assert bundle.parity.snr_db > 80
        sizes.append((bundle.path / "weights.bin").stat().st_size)
    products = 4 * (64 * 256 + 256 * 256)
    assert sizes[1] < sizes[0] - 0.78 * products


WHOLE = drawn((8, 3), 1.0)
BITS, VALUES = packed(WHOLE, (4, 1))
BROKEN: list[tuple[Callable[[], bytes], int, str]] = [
    (lambda: unpacked(WHOLE, inputs=["bits"]), INVALID_MODEL, "two inputs and one output"),
    (lambda: unpacked(WHOLE, outputs=["w", "v"]), INVALID_MODEL, "two inputs and one output"),
    (lambda: unpacked(WHOLE, inputs=["values", "bits"]), INVALID_MODEL, "no constants of uint8 and float32"),
    (lambda: unpacked(WHOLE, inputs=["bits", "x"]), INVALID_MODEL, "no constants of uint8 and float32"),
    (lambda: unpacked(WHOLE, inputs=["bits", ""]), INVALID_MODEL, "no constants of uint8 and float32"),
    (lambda: unpacked(WHOLE, kept=VALUES.reshape(2, -1)), INVALID_MODEL, "with one axis"),
    (lambda: unpacked(WHOLE, outputs=["x"]), INVALID_MODEL, "made twice"),
    (lambda: unpacked(WHOLE, outputs=["bits"]), INVALID_MODEL, "made twice"),
    (lambda: unpacked(WHOLE, shape=None), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, shape=[24]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, shape=[8, -3]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, shape=[8, 3, *[1] * 7]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, shape=[1 << 62, 0, 8]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, shape=[1 << 40, 1 << 40]), INVALID_MODEL, "its shape is none"),
    (lambda: unpacked(WHOLE, None), INVALID_MODEL, "1 to 16 weights"),
    (lambda: unpacked(WHOLE, (4,)), INVALID_MODEL, "1 to 16 weights"),
    (lambda: unpacked(WHOLE, (0, 1)), INVALID_MODEL, "1 to 16 weights"),
    (lambda: unpacked(WHOLE, (17, 1)), INVALID_MODEL, "1 to 16 weights"),
    (lambda: unpacked(WHOLE, (8, 3)), INVALID_MODEL, "1 to 16 weights"),
    (lambda: unpacked(WHOLE, shape=[80, 3]), INVALID_MODEL, "another number of bits"),
    (lambda: unpacked(WHOLE, bits=np.zeros(0, np.uint8)), INVALID_MODEL, "another number of bits"),
    (lambda: unpacked(WHOLE, kept=VALUES[:-1]), INVALID_MODEL, "another number of values"),
    (lambda: unpacked(WHOLE, bits=BITS & 0x1F), INVALID_MODEL, "another number of values"),
    (lambda: unpacked(drawn((8, 3), 1.0, "int8"), version=1), INVALID_MODEL, "from version 2 on also int8"),
    (lambda: unpacked(WHOLE, version=3), UNSUPPORTED, r"edgewright.UnpackSparse \(version 3\)"),
]


def files() -> Iterator[bytes]:
    """Weights alone and files that are refused."""
    yield unpacked(drawn((9, 10, 2)))
    yield unpacked(drawn((9, 10, 2), dtype="int8"), (4, 4))
    yield from (model() for model, *_ in BROKEN)


@pytest.mark.parametrize(("model", "status", "message"), BROKEN, ids=range(len(BROKEN)))
def test_files_that_contradict_themselves_are_refused(model, status, message):
    with refused(status, message):
        Model(model())


def test_the_size_of_weights_falls_with_their_zeros():
    values = np.repeat(drawn((256, 1024), 0.2), 4, axis=0)
    bits, kept = packed(values, (4, 1))
    assert math.isclose((bits.nbytes + kept.nbytes) / values.nbytes, 0.2 + 1 / 128, abs_tol=0.005)
