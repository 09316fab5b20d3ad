"""``edgewright::Subgraph`` in ONNX Runtime as an app meets it: graphs made by hand, options, several threads, what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="what is tested")
pytest.importorskip("onnx", reason="it writes the graphs")

import onnxruntime as runtime
from onnx import TensorProto, helper, numpy_helper

from edgewright_runtime.native_library import library_path

WEIGHT = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)


def value(name: str, width: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("edgewright", 1)]
    content: bytes = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    return content


PART = model(
    [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
    [value("x", 8)],
    [value("y", 4)],
    [numpy_helper.from_array(WEIGHT, "w")],
)


def around(part: bytes, inputs: tuple[str, ...] = ("part", "x"), outputs: tuple[str, ...] = ("y",), *, constant: bool = True) -> bytes:
    content = numpy_helper.from_array(np.frombuffer(part, np.uint8), "part")
    given = [value("x", 8)]
    if not constant:
        given.append(helper.make_tensor_value_info("part", TensorProto.UINT8, ["bytes"]))
    node = helper.make_node("Subgraph", list(inputs), list(outputs), domain="edgewright")
    return model([node], given, [value(name, 4) for name in outputs], [content] if constant else [])


def opened(content: bytes, threads: str | None = None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.add_session_config_entry("edgewright.threads", threads)
        options.intra_op_num_threads = 2
    options.register_custom_ops_library(library_path())
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threads", [None, "1", "2", "64", "1000"])
def test_any_number_of_rows(threads):
    session = opened(around(PART), threads)
    for rows in (1, 3, 0, 2, 200, 1):
        x = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
        (found,) = session.run(None, {"x": x})
        assert found.shape == (rows, 4)
        np.testing.assert_allclose(found, np.maximum(x @ WEIGHT, 0), rtol=1e-5, atol=1e-5)


def test_runs_at_once_of_one_session():
    session = opened(around(PART), "2")

    def runs(seed: int) -> float:
        draw, worst = np.random.default_rng(seed), 0.0
        for _ in range(40):
            x = draw.standard_normal((int(draw.integers(0, 40)), 8)).astype(np.float32)
            (found,) = session.run(None, {"x": x})
            worst = max(worst, float(np.abs(found - np.maximum(x @ WEIGHT, 0)).max(initial=0)))
        return worst

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(runs, range(4))) < 1e-5


@pytest.mark.parametrize("threads", ["0", "-1", "two", "", "1x"])
def test_threads_that_are_no_number(threads):
    with pytest.raises(Exception, match="threads must be a number from 1 on"):
        opened(around(PART), threads)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (around(b""), "edgewright::Subgraph"),
        (around(b"no model"), "cut off or is no ONNX model"),
        (around(PART[:-40]), "cut off|corrupt|no ONNX"),
        (around(PART, constant=False), "first input must be a constant"),
        (around(PART, ("x", "part")), "edgewright::Subgraph"),
    ],
    ids=["empty", "text", "cut off", "not constant", "wrong order"],
)
def test_what_is_no_part_is_refused_when_it_is_opened(content, said):
    with pytest.raises(Exception, match=said):
        opened(content)


@pytest.mark.parametrize(
    "content", [around(PART, ("part",)), around(PART, ("part", "x", "x")), around(PART, outputs=("y", "z"))], ids=["few", "many", "outputs"]
)
def test_another_number_of_inputs_or_outputs(content):
    session = opened(content)
    with pytest.raises(Exception, match="edgewright::Subgraph"):
        session.run(None, {name.name: np.zeros((1, 8), np.float32) for name in session.get_inputs()})


def test_an_input_of_another_width():
    with pytest.raises(Exception, match=r"edgewright::Subgraph.*8"):
        opened(model([helper.make_node("Subgraph", ["part", "x"], ["y"], domain="edgewright")], [value("x", 9)], [value("y", 4)],
                     [numpy_helper.from_array(np.frombuffer(PART, np.uint8), "part")])).run(None, {"x": np.zeros((1, 9), np.float32)})  # fmt: skip
