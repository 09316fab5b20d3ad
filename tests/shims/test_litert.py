"""edgewright.Subgraph in LiteRT: by the target and the engine, then in files that no target writes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, load_delegate
from onnx import TensorProto, helper, save_model

from device_profiles import choose
from device_profiles.errors import RuntimeFailure
from edgewright_export.capture import capture
from edgewright_export.prepare import first_state
from edgewright_export.registry import target_named
from edgewright_export.targets import subgraph
from edgewright_export.targets.tflite_file import TFLite
from edgewright_export.targets.tflite_subgraph import around
from edgewright_runtime.bundle import Bounds, Lowered, TensorSpec
from edgewright_runtime.engines import engine_named
from edgewright_runtime.native_library import library_path
from tests.models import TwoInputs

SENTENCE = r"edgewright\.Subgraph: "


def lowered(folder: Path, model: nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any = None) -> Lowered:
    """The model as one operator, written by the target."""
    state = first_state(model.eval(), inputs, shapes)
    state = replace(state, captured=capture(state.module, state.example), subgraph=True)
    row = choose("host:litert").engine
    assert row is not None
    folder.mkdir(exist_ok=True)
    return target_named("litert").lower(state, row, folder)


def run(made: Lowered, *inputs: torch.Tensor, threads: int = 1) -> list[np.ndarray]:
    with engine_named("litert").open(made, threads=threads) as session:
        return list(session.run(*(x.numpy() for x in inputs)).values())


def close(found: np.ndarray, result: torch.Tensor) -> None:
    wanted = result.detach().numpy()
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-5)


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory, image: torch.Tensor) -> Lowered:
    """With a batch of 0 to 16."""
    batch = torch.export.Dim("batch", min=0, max=16)
    return lowered(tmp_path_factory.mktemp("dynamic"), Convolutions(), (image,), ({0: batch},))


def test_convolutions(tmp_path, image):
    model = Convolutions()
    made = lowered(tmp_path, model, (image,))
    assert made.requires == subgraph.REQUIRES
    once, twice = run(made, image), run(made, image, threads=2)
    close(once[0], model(image))
    np.testing.assert_array_equal(once[0], twice[0])


def test_the_model_lies_aligned_in_the_file(dynamic):
    graph = TFLite.read(dynamic.path())
    (operator,) = graph.graph.operators
    content = bytes(graph.data(graph.graph.tensors[operator.inputs[0]]))
    assert dynamic.path().read_bytes().index(content) % 64 == 0


def test_inputs_and_results_by_name(tmp_path, image):
    model, extra = TwoInputs(), torch.randn(2, 4)
    scores, best = run(lowered(tmp_path, model, (image, extra)), image, extra)
    wanted = model(image, extra)
    close(scores, wanted["scores"])
    close(best, wanted["best"])


class Integers(nn.Module):
    def forward(self, mask: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ids * 2 + 1, mask & (ids > 0)


def test_integers_and_booleans(tmp_path):
    mask, ids = torch.tensor([True, False, True]), torch.tensor([5, 6, -(2**40)])
    doubled, both = run(lowered(tmp_path, Integers(), (mask, ids)), mask, ids)
    np.testing.assert_array_equal(doubled, [11, 13, -(2**41) + 1])
    np.testing.assert_array_equal(both, [True, False, False])


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + 1


def test_half_precision(tmp_path):
    x = torch.linspace(-2, 2, 7).half()
    close(run(lowered(tmp_path, Half(), (x,)), x)[0], Half()(x))


def test_batches_up_and_down(dynamic, image):
    model, many = Convolutions(), image.repeat(8, 1, 1, 1)
    with engine_named("litert").open(dynamic, threads=1) as session:
        for batch in (2, 16, 1, 5, 0, 16, 2):
            (found,) = session.run(many[:batch].numpy()).values()
            close(found, model(many[:batch]))


def test_sessions_side_by_side(dynamic, image):
    engine, wanted = engine_named("litert"), Convolutions()(image)
    first, second = engine.open(dynamic, threads=1), engine.open(dynamic, threads=2)
    for session in (first, second, first):
        close(session.run(image.numpy())["output"], wanted)
    first.close()
    close(second.run(image.numpy())["output"], wanted)


class Positions(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x > 0)


def test_a_result_whose_shape_the_values_decide(tmp_path):
    x = torch.tensor([[1.0, -1.0, 2.0], [0.0, 3.0, -4.0]])
    with engine_named("litert").open(lowered(tmp_path, Positions(), (x,)), threads=1) as session:
        for values in (x, -x, torch.zeros(2, 3), torch.ones(2, 3), x):
            (found,) = session.run(values.numpy()).values()
            np.testing.assert_array_equal(found, torch.nonzero(values > 0))


def affine(folder: Path, inputs: int = 1) -> Path:
    """The sum of inputs of (n, 3), plus 1, and the same times 2, as an ONNX file."""
    names = [f"x{i}" for i in range(inputs)]
    nodes = [
        helper.make_node("Sum", [*names, "one"], ["y"]),
        helper.make_node("Add", ["y", "y"], ["z"]),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ins = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in names]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "yz"]
    path = folder / "part.onnx"
    graph, opset = helper.make_graph(nodes, "g", ins, outs, [one]), helper.make_opsetid("", 18)
    save_model(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def spec(name: str) -> TensorSpec:
    return TensorSpec(name, "float32", ("n", 3), {"n": Bounds(1, 8)}, name)


def file_of(folder: Path, inputs: int = 1) -> TFLite:
    return around(affine(folder, inputs), [spec(f"x{i}") for i in range(inputs)], [spec("y"), spec("z")])


def opened(written: TFLite, folder: Path, options: dict[str, Any] | None = None) -> Interpreter:
    path = folder / "model.tflite"
    written.write(path)
    interpreter = Interpreter(str(path), experimental_delegates=[load_delegate(library_path(), options)])
    interpreter.allocate_tensors()
    return interpreter


def results(interpreter: Interpreter, x: np.ndarray) -> list[np.ndarray]:
    (taken,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(given["index"]) for given in interpreter.get_output_details()]


def numbers(size: int = 2) -> np.ndarray:
    return np.arange(3 * size, dtype=np.float32).reshape(size, 3)


def test_a_file_by_hand(tmp_path):
    interpreter = opened(file_of(tmp_path), tmp_path)
    for size in (2, 1, 8):
        y, z = results(interpreter, numbers(size))
        np.testing.assert_array_equal(y, numbers(size) + 1)
        np.testing.assert_array_equal(z, 2 * y)


def test_neighbours_and_a_result_that_nothing_reads(tmp_path):
    written = file_of(tmp_path)
    (operator,) = written.graph.operators
    model, _, _ = operator.inputs[0], *operator.outputs
    y, z = (written.add_tensor(name, schema.TensorType.FLOAT32, (1, 3)) for name in ("y2", "z2"))
    written.add_operator(1, schema.BuiltinOperator.CUSTOM, subgraph.VERSION, [model, operator.outputs[0]], [y, z])
    written.model.signatureDefs = []
    written.graph.outputs = np.array([z], np.int32)
    interpreter = opened(written, tmp_path)
    for size in (2, 5, 1):
        (found,) = results(interpreter, numbers(size))
        np.testing.assert_array_equal(found, 2 * (numbers(size) + 2))


def test_behind_an_operator_whose_result_is_dynamic(tmp_path):
    """Its shapes are then known when the graph runs."""
    written = file_of(tmp_path)
    (operator,) = written.graph.operators
    types = schema.TensorType
    values, shape = written.add_tensor("values", types.FLOAT32, (24,)), written.add_tensor("shape", types.INT32, (2,))
    written.add_operator(0, schema.BuiltinOperator.RESHAPE, 1, [values, shape], [int(operator.inputs[1])])
    written.model.signatureDefs = []
    written.graph.inputs = np.array([values, shape], np.int32)
    interpreter = opened(written, tmp_path)
    interpreter.set_tensor(values, numbers(8).ravel())
    for shown, is_right in (([8, 3], True), ([3, 8], False), ([8, 3], True)):
        interpreter.set_tensor(shape, np.array(shown, np.int32))
        if is_right:
            interpreter.invoke()
            np.testing.assert_array_equal(interpreter.get_tensor(operator.outputs[0]), numbers(8) + 1)
        else:
            with pytest.raises(RuntimeError, match=SENTENCE):
                interpreter.invoke()


NO_MODEL = "its first input must be a constant of uint8, the model of the part"


def retype(written: TFLite, tensor: int, dtype: int) -> None:
    written.graph.tensors[tensor].type = dtype


def reshape(written: TFLite, tensor: int, shape: Sequence[int]) -> None:
    written.graph.tensors[tensor].shape = np.array(shape, np.int32)


def append(operator: Any, name: str, tensors: Sequence[int]) -> None:
    setattr(operator, name, np.append(getattr(operator, name), np.array(tensors, np.int32)))


def more(written: TFLite, count: int) -> list[int]:
    return [written.add_tensor(f"more{i}", schema.TensorType.FLOAT32, (1, 3)) for i in range(count)]


def cut(written: TFLite, operator: Any, share: float) -> None:
    """Leaves a part of the model, one byte at the least."""
    buffer = written.model.buffers[written.graph.tensors[operator.inputs[0]].buffer]
    buffer.data = buffer.data[: max(1, int(share * buffer.data.size))]
    reshape(written, operator.inputs[0], [buffer.data.size])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w, op: setattr(op, "inputs", op.inputs[:0]), NO_MODEL),
        (lambda w, op: op.inputs.__setitem__(0, -1), NO_MODEL),
        (lambda w, op: op.inputs.__setitem__(0, op.inputs[1]), NO_MODEL),
        (lambda w, op: retype(w, op.inputs[0], schema.TensorType.INT8), NO_MODEL),
        (lambda w, op: op.inputs.__setitem__(1, -1), "input 1 is left out"),
        (lambda w, op: retype(w, op.inputs[1], schema.TensorType.COMPLEX64), "input 1 is of type 8, which the engine does"),
        (lambda w, op: retype(w, op.inputs[1], schema.TensorType.INT32), "input 'x0'"),
        (lambda w, op: retype(w, op.outputs[1], schema.TensorType.INT32), "output 1 is of type 2"),
        (lambda w, op: reshape(w, op.inputs[1], [1] * 9), "input 1 does not have 0 to 8 dimensions"),
        (lambda w, op: reshape(w, op.inputs[1], [3]), "'x0' of the subgraph has 2 dimensions, it was given 1"),
        (lambda w, op: reshape(w, op.inputs[1], [1, 4]), "'x0'"),
        (lambda w, op: setattr(op, "inputs", op.inputs[:1]), "takes 1 inputs, it was given 0"),
        (lambda w, op: append(op, "inputs", op.inputs[1:]), "takes 1 inputs, it was given 2"),
        (lambda w, op: append(op, "inputs", [op.inputs[1]] * 63), "more than 64 inputs or outputs"),
        (lambda w, op: setattr(op, "outputs", op.outputs[:1]), "not as many outputs as the model"),
        (lambda w, op: append(op, "outputs", more(w, 63)), "more than 64 inputs or outputs"),
        (lambda w, op: cut(w, op, 0.5), "."),
        (lambda w, op: cut(w, op, 0.0), "."),
    ],
)
def test_what_is_no_such_operator_is_refused(tmp_path, spoil: Callable[[TFLite, Any], None], reason):
    written = file_of(tmp_path)
    written.model.signatureDefs = []
    spoil(written, written.graph.operators[0])
    with pytest.raises(RuntimeError, match=SENTENCE + ".*" + reason):
        opened(written, tmp_path).invoke()
    gc.collect()


def test_most_inputs_that_are_possible(tmp_path):
    interpreter = opened(file_of(tmp_path, 63), tmp_path)
    for taken in interpreter.get_input_details():
        interpreter.set_tensor(taken["index"], numbers(1))
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, 63 * numbers(1) + 1)


def test_a_corrupt_model_is_an_error_of_the_engine(dynamic, tmp_path):
    written = TFLite.read(dynamic.path())
    cut(written, written.graph.operators[0], 0.9)
    written.write(tmp_path / dynamic.files[0])
    with pytest.raises(RuntimeFailure, match=SENTENCE):
        engine_named("litert").open(replace(dynamic, folder=tmp_path), threads=1)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": "two"}, {"threads": ""}, {"thread": 1}])
def test_options_that_it_does_not_have(options):
    with pytest.raises(ValueError, match=r"its one option is threads, a number from 1 on"):
        load_delegate(library_path(), options)


@pytest.mark.parametrize("threads", [1, 2, 10**6])
def test_threads(tmp_path, threads):
    y, _ = results(opened(file_of(tmp_path), tmp_path, {"threads": threads}), numbers())
    np.testing.assert_array_equal(y, numbers() + 1)


@pytest.mark.parametrize("first", ["delegate", "interpreter"])
def test_the_order_of_destruction(tmp_path, first):
    path = tmp_path / "model.tflite"
    file_of(tmp_path).write(path)
    delegate = load_delegate(library_path())
    interpreter = Interpreter(str(path), experimental_delegates=[delegate])
    results(interpreter, numbers())
    holders: Sequence[Any] = (SimpleNamespace(of=delegate), SimpleNamespace(of=interpreter))
    del delegate, interpreter
    if first == "delegate":
        holders[1].of._delegates.clear()
        holders[0].of.__del__()
        holders[1].of = None
    else:
        holders[1].of = None
        holders[0].of = None
    gc.collect()
