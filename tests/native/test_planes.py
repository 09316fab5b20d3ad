"""Sparse convolutions and depthwise ones between them, on images with their channels first, beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from edgewright_runtime import kernels
from edgewright_runtime.native_library import Model
from tests.native import case_file
from tests.native.small_models import model

ISAS = kernels.isas()
SPARSE, PLANE, DENSE, DEPTHWISE = (
    f"edge_{name}" for name in ("spmm_f32_4x1", "depthwise_plane_f32", "gemm_f32", "depthwise_f32")
)


class Net:
    """Convolutions one after the other, each with a bias and an activation."""

    def __init__(self, channels: int, seed: int = 0) -> None:
        self._draw = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._channels, self.last = channels, "x"

    def sparse(self, outputs: int, *window: int, kept: float = 0.2, rows: int = 4, **attributes: Any) -> Net:
        """Of the weights so large a share stays, in blocks of so many rows; the window is one tap unless it is given."""
        shape = (self._channels, *(window or (1, 1)))
        weights = self._draw.standard_normal((outputs, *shape)).astype(np.float32)
        blocks = self._draw.random((-(-outputs // rows), *shape)) < kept
        return self._conv(weights * np.repeat(blocks, rows, axis=0)[:outputs], **attributes)

    def depthwise(self, height: int, width: int | None = None, **attributes: Any) -> Net:
        """A window of each channel."""
        shape = (self._channels, 1, height, width or height)
        return self._conv(self._draw.standard_normal(shape).astype(np.float32), group=self._channels, **attributes)

    def act(self, kind: str, *more: str, **attributes: Any) -> Net:
        """An operator with one result."""
        return self._node(kind, [self.last, *more], **attributes)

    def constant(self, value: np.ndarray) -> str:
        """Its name."""
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def content(self, *image: int | str, batch: int | str = 1, channels: int) -> bytes:
        """The file, of images of this height and width."""
        return model(self._nodes, {"x": (batch, channels, *image)}, [self.last], self._constants)

    def _conv(self, weights: np.ndarray, **attributes: Any) -> Net:
        self._channels = len(weights)
        bias = self._draw.standard_normal(len(weights)).astype(np.float32)
        return self._node("Conv", [self.last, self.constant(weights), self.constant(bias)], **attributes)

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> Net:
        self.last = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [self.last], **attributes))
        return self


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def wanted(content: bytes, x: np.ndarray) -> np.ndarray:
    typed = onnx.load_from_string(content)
    typed.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    content = typed.SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def entries() -> list[bytes]:
    """Such graphs for machines without Python, as cases of :mod:`tests.native.case_file`."""
    found = []
    for rows in (1, 4):
        for side, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
            for size in ((1, 1), (3, 2), (7, 7), (9, 29), (40, 50)):
                net = Net(32).sparse(64, rows=rows).act("Relu").depthwise(side, strides=[stride] * 2, pads=[side // 2] * 4)
                content = net.act("Relu").sparse(37, rows=rows).content(*size, batch=2, channels=32)
                found.append((f"blocks of {rows}, {side} / {stride}, {size}", content, image(2, 32, *size)))
    first = Net(3).sparse(32, 3, 3, kept=1, strides=[2, 2], pads=[1] * 4).act("Relu").sparse(64)
    found.append(("a dense layer first", first.content(33, 40, channels=3), image(1, 3, 33, 40)))
    deep = Net(1040).sparse(24, rows=1, kept=0.1).sparse(1040).sparse(8)
    found.append(("deep", deep.content(7, 5, channels=1040), image(1, 1040, 7, 5)))
    return [_entry(*case) for case in found]


def _entry(name: str, content: bytes, x: np.ndarray) -> bytes:
    expected = wanted(content, x)
    (output,) = (value.name for value in onnx.load_from_string(content).graph.output)
    return case_file.entry(name, content, {"x": x}, {output: expected}, rtol=1e-5, atol=2e-5 * float(np.abs(expected).max()))


def kernels_of(session: Any, isa: str) -> list[str]:
    return [step.kernel.removesuffix(f"_{isa}") for step in session.steps() if step.kernel]


def compare(content: bytes, x: np.ndarray, monkeypatch: Any, ran: list[str] | None = None, **limits: Any) -> None:
    """On every instruction set, with one thread and with three."""
    expected = wanted(content, x)
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        found = []
        for threads in (1, 3):
            session = Model(content).session(threads=threads, **limits)
            found.append(session.run([x])[0])
            assert ran is None or kernels_of(session, isa) == ran
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=2e-5 * np.abs(expected).max())
        np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7), (14, 14), (9, 29), (56, 56)])
@pytest.mark.parametrize("batch", [1, 3])
def test_sparse_layers_with_a_depthwise_one_between(size, batch, monkeypatch):
    net = Net(32).sparse(64).act("Relu").depthwise(3, pads=[1] * 4).act("Relu").sparse(40).act("Relu")
    compare(net.content(*size, batch=batch, channels=32), image(batch, 32, *size), monkeypatch, [SPARSE, PLANE, SPARSE])


@pytest.mark.parametrize(
    ("height", "width", "attributes"),
    [
        (3, 3, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (3, 3, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        (3, 3, {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        (5, 5, {"pads": [2, 2, 2, 2]}),
        (5, 5, {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
        (3, 3, {"dilations": [2, 3]}),
        (1, 7, {"pads": [0, 3, 0, 3]}),
        (9, 2, {"strides": [3, 4]}),
        (2, 2, {}),
    ],
)
def test_windows_of_a_depthwise_layer(height, width, attributes, monkeypatch):
    net = Net(16).sparse(20).depthwise(height, width, **attributes)
    compare(net.content(23, 30, channels=16), image(1, 16, 23, 30), monkeypatch, [SPARSE, PLANE])


def test_a_window_for_which_there_is_no_room_has_its_channels_last(monkeypatch):
    net = Net(16).sparse(20).depthwise(11)
    compare(net.content(23, 30, channels=16), image(1, 16, 23, 30), monkeypatch, [SPARSE, DEPTHWISE])
    net = Net(8).sparse(8).depthwise(3)
    compare(net.content(3, 9000, channels=8), image(1, 8, 3, 9000), monkeypatch, [SPARSE, DEPTHWISE])


def test_an_image_that_is_worked_on_in_bands(monkeypatch):
    for stride in (1, 2):
        net = Net(8).sparse(8).depthwise(3, strides=[stride] * 2, pads=[1] * 4)
        compare(net.content(203, 301, channels=8), image(1, 8, 203, 301), monkeypatch, [SPARSE, PLANE])


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Tanh", "Clip", "HardSwish"])
def test_activations(kind, monkeypatch):
    net = Net(16).sparse(24)
    limits = [net.constant(np.float32(value)) for value in (-0.5, 1.5)] if kind == "Clip" else []
    net.act(kind, *limits).depthwise(3, pads=[1] * 4).act(kind, *limits)
    compare(net.content(9, 9, channels=16), image(1, 16, 9, 9), monkeypatch, [SPARSE, PLANE])


def test_silu_and_a_residual_sum(monkeypatch):
    net = Net(16).sparse(16)
    first = net.last
    net.act("Sigmoid").act("Mul", first)
    before = net.last
    net.sparse(48).act("Relu").depthwise(3, pads=[1] * 4).act("Relu").sparse(16).act("Add", before).act("Relu").sparse(8)
    compare(net.content(9, 9, channels=16), image(1, 16, 9, 9), monkeypatch, [SPARSE, SPARSE, PLANE, SPARSE, SPARSE])


def test_single_weights_and_dense_layers_behind(monkeypatch):
    net = Net(32).sparse(64, kept=0.1, rows=1).act("Relu").sparse(64, kept=1).act("Relu").depthwise(3).sparse(64, kept=1)
    ran = [SPARSE.replace("4x1", "1x1"), DENSE, DEPTHWISE, DENSE]
    compare(net.content(9, 9, channels=32), image(1, 32, 9, 9), monkeypatch, ran)


def test_no_weights_at_all(monkeypatch):
    compare(Net(32).sparse(64, kept=0).content(9, 9, channels=32), image(1, 32, 9, 9), monkeypatch)


@pytest.mark.parametrize(
    ("window", "attributes"),
    [
        ((1, 1), {"strides": [2, 2]}),
        ((1, 1), {"pads": [1, 0, 2, 1]}),
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ((5, 2), {"dilations": [1, 3], "strides": [3, 1]}),
    ],
)
def test_sparse_windows(window, attributes, monkeypatch):
    for batch in (1, 2):
        net = Net(32).sparse(64, *window, **attributes).act("Relu")
        compare(net.content(19, 23, channels=32, batch=batch), image(batch, 32, 19, 23), monkeypatch, [SPARSE])


def test_a_sparse_window_with_a_residual_sum_in_several_parts(monkeypatch):
    net = Net(16).sparse(24)
    before = net.last
    net.sparse(24, 3, 3, pads=[1] * 4).act("Add", before).act("Relu").sparse(8)
    compare(net.content(120, 90, channels=16, batch=2), image(2, 16, 120, 90), monkeypatch, [SPARSE] * 3)


def test_a_dense_layer_before_sparse_ones_has_its_channels_first_too(monkeypatch):
    net = Net(3).sparse(32, 3, 3, kept=1, strides=[2, 2], pads=[1] * 4).act("Relu").depthwise(3, pads=[1] * 4).act("Relu")
    compare(net.sparse(64).content(33, 40, channels=3), image(1, 3, 33, 40), monkeypatch, [SPARSE, PLANE, SPARSE])


def test_odd_numbers_of_channels(monkeypatch):
    for channels in (5, 7, 13):
        net = Net(channels).sparse(channels + 4, kept=0.15).depthwise(3, pads=[1] * 4).sparse(3, kept=0.15)
        compare(net.content(6, 11, channels=channels), image(1, channels, 6, 11), monkeypatch)


def test_images_of_any_size_up_to_the_largest(monkeypatch):
    net = Net(16).sparse(24).act("Relu").depthwise(3, strides=[2, 2], pads=[1] * 4).sparse(16)
    content, bounds = net.content("h", "w", channels=16, batch="b"), {"h": (1, 40), "w": (1, 40), "b": (1, 2)}
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        session = Model(content).session(bounds=bounds)
        for shape in ((2, 16, 40, 40), (1, 16, 3, 17), (2, 16, 1, 1)):
            expected = wanted(content, image(*shape))
            np.testing.assert_allclose(session.run([image(*shape)])[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_what_a_sparse_kernel_is_expected_to_cost():
    """With what has to be turned: an image with its channels last for the sparse kernel, any other for the dense one."""

    def cost(before: bool, window: tuple[int, int], kept: float) -> float | None:
        net = Net(128).depthwise(3) if before else Net(128)
        steps = Model(net.sparse(128, *window, kept=kept).content(9, 9, channels=128)).session().steps()
        step = [step for step in steps if step.op == "Conv"][-1]
        assert ("spmm" in step.kernel) is (step.sparse_cost is not None and step.sparse_cost < 1)
        return step.sparse_cost

    for window in ((1, 1), (3, 3)):
        behind, first = ([cost(before, window, kept) for kept in (0.84, 0.6, 0.4, 0.2, 0.05)] for before in (True, False))
        assert behind == sorted(behind, reverse=True) and behind[0] > 1 > behind[-1]
        assert all(a > b for a, b in zip(behind, first, strict=True))
        assert cost(True, window, 1) is cost(False, window, 1) is None
    dense, sparse = Model(Net(32).sparse(64, kept=1).sparse(64).content(9, 9, channels=32)).session().steps()
    assert sparse.sparse_cost < dense.sparse_cost < 1


def test_a_second_session_packs_nothing():
    opened = Model(Net(256).sparse(256).content(4, 4, channels=256))
    opened.session()
    once = opened.memory_bytes
    opened.session()
    assert opened.memory_bytes == once
