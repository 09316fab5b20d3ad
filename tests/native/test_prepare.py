"""Graphs that the engine prepares: fused products of every shape against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright_runtime.native_library import Model
from tests.native.small_models import model

CONVOLUTIONS = [
    # image [channels, ...], outputs, kernel, stride, pads, dilation, groups
    ((3, 32, 32), 8, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((1, 1024, 1), 16, (512, 1), (4, 1), (254, 0), (1, 1), 1),
    ((16, 128, 1), 8, (64, 1), (1, 1), (31, 0), (1, 1), 1),
    ((2, 1, 300), 8, (1, 256), (3, 3), (0, 20), (1, 1), 1),
    ((5, 40, 40), 7, (11, 11), (3, 3), (5, 5), (1, 1), 1),
    ((40, 33, 33), 9, (31, 31), (2, 2), (0, 15), (1, 1), 1),
    ((1, 40, 40), 33, (32, 32), (1, 1), (3, 3), (1, 1), 1),
    ((6, 20, 20), 10, (3, 5), (1, 2), (2, 1), (2, 3), 1),
    ((24, 9, 11), 24, (3, 3), (1, 1), (1, 1), (1, 1), 24),
    ((19, 9, 11), 19, (7, 7), (2, 2), (3, 3), (1, 1), 19),
    ((8, 50, 1), 8, (31, 1), (2, 1), (15, 0), (1, 1), 8),
    ((12, 9, 9), 8, (3, 3), (1, 1), (1, 1), (1, 1), 4),
    ((4, 100), 6, (9,), (2,), (4,), (1,), 1),
    ((8, 7, 7), 130, (1, 1), (1, 1), (0, 0), (1, 1), 1),
]


def session(nodes, inputs, constants):
    """A session of :func:`onnx_model`."""
    return Model(onnx_model(nodes, inputs, constants)).session()


def onnx_model(nodes, inputs, constants):
    """The file of a graph with the output ``y``: float32 inputs and constants by name; whole numbers stay int64."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constant(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


def constant(value):
    array = np.asarray(value)
    return array if array.dtype == np.int64 else array.astype(np.float32)


def drawn(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def snr_db(found, wanted):
    noise = ((found.astype(np.float64) - wanted) ** 2).sum()
    return 10 * np.log10((wanted.astype(np.float64) ** 2).sum() / max(noise, 1e-300))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
def test_a_convolution_with_bias_second_summand_and_activation(shape, batch):
    image, outputs, kernel, stride, pads, dilation, groups = shape
    x, w, b = drawn(batch, *image), drawn(outputs, image[0] // groups, *kernel), drawn(outputs)
    w /= np.sqrt(w[0].size)
    conv = (torch.conv1d, torch.conv2d)[len(kernel) - 1]
    summed = conv(*map(torch.tensor, (x, w, b)), stride, pads, dilation, groups)
    more = drawn(*summed.shape)
    wanted = (summed + torch.tensor(more)).clamp(-0.5, 6).numpy()
    attributes = {"strides": stride, "pads": [*pads, *pads], "dilations": dilation, "group": groups}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes),
        helper.make_node("Add", ["c", "more"], ["s"]),
        helper.make_node("Clip", ["s", "low", "high"], ["y"]),
    ]
    constants = {"w": w, "b": b, "low": -0.5, "high": 6.0}
    prepared = session(nodes, {"x": x.shape, "more": more.shape}, constants)
    assert snr_db(prepared.run([x, more])[0], wanted) >= 100
    assert [step.op for step in prepared.steps()].count("Conv") == 1
    assert ("Clip" in [step.op for step in prepared.steps()]) is (groups > 1)


TRANSPOSED = [
    # image [channels, ...], outputs, kernel, stride, pads, output padding
    ((5, 7, 9), 6, (4, 4), (2, 2), (1, 1), (0, 0)),
    ((33, 4, 5), 17, (2, 2), (2, 2), (0, 0), (0, 0)),
    ((8, 6, 5), 9, (3, 3), (2, 2), (1, 1), (1, 1)),
    ((8, 6, 5), 9, (5, 3), (3, 1), (2, 0), (1, 0)),
    ((4, 6, 6), 3, (3, 3), (1, 1), (1, 1), (0, 0)),
    ((4, 2, 2), 40, (7, 6), (3, 2), (3, 2), (2, 1)),
    ((16, 30), 12, (8,), (4,), (2,), (0,)),
    ((3, 1), 2, (5,), (5,), (0,), (4,)),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", TRANSPOSED, ids=str)
def test_a_transposed_convolution_with_second_summand_and_activation(shape, batch):
    image, outputs, kernel, stride, pads, more_rows = shape
    x, w, b = drawn(batch, *image), drawn(image[0], outputs, *kernel), drawn(outputs)
    conv = (torch.conv_transpose1d, torch.conv_transpose2d)[len(kernel) - 1]
    summed = conv(*map(torch.tensor, (x, w, b)), stride, pads, more_rows)
    more = drawn(*summed.shape)
    attributes = {"strides": stride, "pads": [*pads, *pads], "output_padding": more_rows}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["c"], **attributes),
        helper.make_node("Add", ["c", "more"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    prepared = session(nodes, {"x": x.shape, "more": more.shape}, {"w": w, "b": b})
    assert snr_db(prepared.run([x, more])[0], (summed + torch.tensor(more)).relu().numpy()) >= 100
    products = [step for step in prepared.steps() if step.op == "ConvTranspose"]
    assert len(products) == 1 and products[0].kernel.startswith("edge_gemm_f32")
    assert not {"Add", "Relu"} & {step.op for step in prepared.steps()}


OTHER_TRANSPOSED = {
    "groups": ((8, 5, 5), (8, 3, 3, 3), {"group": 2}),
    "dilated": ((4, 5, 5), (4, 3, 3, 3), {"dilations": [2, 1]}),
    "gaps between windows": ((4, 5, 5), (4, 3, 2, 2), {"strides": [3, 3]}),
    "length asked for": ((4, 5, 5), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 9]}),
    "automatic padding": ((4, 5, 5), (4, 3, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "three axes": ((4, 3, 4, 5), (4, 3, 2, 2, 2), {"strides": [2, 2, 2]}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("image", "weights", "attributes"), OTHER_TRANSPOSED.values(), ids=OTHER_TRANSPOSED)
def test_other_transposed_convolutions_agree_with_onnx_runtime(image, weights, attributes):
    import onnxruntime

    x = drawn(2, *image)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
    model = onnx_model([node], {"x": x.shape}, {"w": drawn(*weights)})
    peer = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found, wanted = Model(model).session().run([x])[0], peer.run(None, {"x": x})[0]
    assert found.shape == wanted.shape
    assert snr_db(found, wanted) >= 100


@pytest.mark.parametrize("rows", [1, 2, 11, 12, 13, 36, 37, 100])
def test_a_sum_of_two_products_and_gelu(rows):
    x, a, b, bias = drawn(rows, 33), drawn(33, 70), drawn(33, 70) * 0.5, drawn(70)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["x", "b"], ["q"]),
        helper.make_node("Add", ["p", "bias"], ["r"]),
        helper.make_node("Add", ["r", "q"], ["s"]),
        helper.make_node("Div", ["s", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["half", "f"], ["g"]),
        helper.make_node("Mul", ["s", "g"], ["y"]),
    ]
    constants = {"a": a, "b": b, "bias": bias, "root": 2**0.5, "one": 1.0, "half": 0.5}
    prepared = session(nodes, {"x": x.shape}, constants)
    wanted = torch.nn.functional.gelu(torch.tensor(x) @ torch.tensor(a) + torch.tensor(bias) + torch.tensor(x @ b))
    assert snr_db(prepared.run([x])[0], wanted.numpy()) >= 100
    assert len(prepared.steps()) == 2


@pytest.mark.parametrize("tokens", [1, 5, 36, 37, 80])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_rows_that_see_nothing(tokens, masked):
    q, k, v = drawn(2, 3, tokens, 16), drawn(2, 3, 16, tokens) + 1, drawn(2, 3, tokens, 20)
    mask = np.where(np.arange(tokens)[None, :] <= np.arange(tokens)[:, None], 0, -np.inf).astype(np.float32)
    mask[-1] = -np.inf
    nodes = [helper.make_node("Mul", ["q", "c"], ["qc"]), helper.make_node("MatMul", ["qc", "k"], ["s"])]
    nodes += [helper.make_node("Add", ["s", "mask"], ["m"])] if masked else []
    nodes += [
        helper.make_node("Softmax", ["m" if masked else "s"], ["p"], axis=-1),
        helper.make_node("IsNaN", ["p"], ["n"]),
        helper.make_node("Where", ["n", "zero", "p"], ["z"]),
        helper.make_node("MatMul", ["z", "v"], ["y"]),
    ]
    constants = {"c": 0.25, "zero": 0.0, **({"mask": mask} if masked else {})}
    prepared = session(nodes, {"q": q.shape, "k": k.shape, "v": v.shape}, constants)
    scores = torch.tensor(q) * 0.25 @ torch.tensor(k) + (torch.tensor(mask) if masked else 0)
    wanted = torch.nan_to_num(scores.softmax(-1)) @ torch.tensor(v)
    np.testing.assert_allclose(prepared.run([q, k, v])[0], wanted.numpy(), atol=2e-5)
    assert [step.op for step in prepared.steps()] == ["Attention"]


AFTER_A_CONVOLUTION = {
    "MaxPool": [("MaxPool", ["c"], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]})],
    "MaxPool of a rest": [("MaxPool", ["c"], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
    "AveragePool": [("AveragePool", ["c"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
    "AveragePool of padding too": [
        ("AveragePool", ["c"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})
    ],
    "AveragePool of a rest": [
        (
            "AveragePool",
            ["c"],
            {"kernel_shape": [4, 4], "strides": [3, 3], "pads": [1] * 4, "ceil_mode": 1, "count_include_pad": 1},
        )
    ],
    "GlobalAveragePool": [("GlobalAveragePool", ["c"], {})],
    "GlobalMaxPool": [("GlobalMaxPool", ["c"], {})],
    "ReduceMean": [("ReduceMean", ["c", "pixels"], {"keepdims": 0})],
    "ReduceMean of channels": [("ReduceMean", ["c", "channels"], {})],
    "BatchNormalization": [("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], {})],
    "a factor for each channel": [("Mul", ["c", "column"], {})],
    "a factor for each row of pixels": [("Mul", ["c", "line"], {})],
    "a factor for each pixel": [("Mul", ["c", "image"], {})],
    "squeeze and excite": [
        ("GlobalAveragePool", ["c"], {}),
        ("Conv", ["", "square"], {}),
        ("Sigmoid", [""], {}),
        ("Mul", ["c", ""], {}),
    ],
    "Concat": [("Sigmoid", ["c"], {}), ("Concat", ["c", "", "x"], {"axis": 1})],
    "Concat of lines": [("Concat", ["c", "c"], {"axis": 2})],
    "Where": [("Less", ["c", "line"], {}), ("Where", ["", "c", "column"], {})],
    "Softmax of channels": [("Softmax", ["c"], {"axis": 1})],
    "HardSwish": [("HardSwish", ["c"], {})],
    "Flatten": [("Flatten", ["c"], {})],
}
"""Nodes on the convolution's result ``c``; an empty input is the result of the node before."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("nodes", AFTER_A_CONVOLUTION.values(), ids=AFTER_A_CONVOLUTION)
def test_what_follows_a_convolution_agrees_with_onnx_runtime(nodes, batch):
    import onnxruntime

    x = drawn(batch, 5, 9, 11)
    constants = {
        "w": drawn(7, 5, 3, 3),
        "square": drawn(7, 7, 1, 1),
        "column": drawn(7, 1, 1),
        "line": drawn(1, 11),
        "image": drawn(1, 7, 9, 11),
        "scale": drawn(7),
        "bias": drawn(7) + 1,
        "mean": drawn(7) * 2,
        "variance": drawn(7) ** 2 + 0.1,
        "pixels": np.array([2, 3]),
        "channels": np.array([1]),
    }
    made, last = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])], "c"
    for number, (kind, inputs, attributes) in enumerate(nodes):
        result = "y" if number == len(nodes) - 1 else f"v{number}"
        made.append(helper.make_node(kind, [name or last for name in inputs], [result], **attributes))
        last = result
    used = {name for node in made for name in node.input}
    model = onnx_model(made, {"x": x.shape}, {name: value for name, value in constants.items() if name in used})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    peer = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found, wanted = Model(model).session().run([x])[0], peer.run(None, {"x": x})[0]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_words_that_are_read_and_written_are_one_matrix(rank):
    """``Gather(words)`` and ``x Transpose(words)``: nothing makes the transposed matrix, the model has the packed one."""
    words = np.random.default_rng(0).standard_normal((3000, 40)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["words", "index"], ["x"], axis=0),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Transpose", ["words"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["positive", "turned"], ["scores"]),
        helper.make_node("Tanh", ["scores"], ["y"]),
    ]
    shape = (2, 3)[: rank - 1]
    content = model(nodes, {"index": shape}, ["y"], {"words": words}, dtype=TensorProto.INT64)
    opened = Model(content)
    session = opened.session()
    index = np.random.default_rng(1).integers(0, 3000, shape)
    wanted = np.tanh(np.maximum(words[index], 0) @ words.T)
    np.testing.assert_allclose(session.run([index])[0], wanted, rtol=1e-4, atol=1e-5)
    assert [step.op for step in session.steps()] == ["Gather", "Relu", "MatMul"]
    assert session.memory_bytes < words.nbytes // 2 < opened.memory_bytes
    assert opened.session().memory_bytes < words.nbytes // 2


def test_a_constant_matrix_that_softmax_attends_to_is_turned_all_the_same():
    draw = np.random.default_rng(0)
    keys, values = (draw.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (7, 6)))
    nodes = [
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "values"], ["y"]),
    ]
    session = Model(model(nodes, {"x": (3, 5)}, ["y"], {"keys": keys, "values": values})).session()
    x = draw.standard_normal((3, 5)).astype(np.float32)
    weights = np.exp(x @ keys.T)
    np.testing.assert_allclose(session.run([x])[0], weights / weights.sum(1, keepdims=True) @ values, rtol=1e-4, atol=1e-5)
