"""Entries, shared constants and states of the native engine; ONNX Runtime with explicit tensors is the oracle."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgewright_runtime import kernels
from edgewright_runtime.native_library import Model, NativeError
from tests.native import state_models
from tests.native.state_models import HEADS, MOST, WIDTH, decoder, decoder_states, graph, recurrent, state, write_bundle

BOUNDS = {"new": (1, 5), "past": (0, MOST), "total_length": (1, MOST + 5)}
DECODERS = {
    "heads": {"heads_first": True},
    "flat": {"heads_first": False},
    "heads, read twice": {"heads_first": True, "read_twice": True},
    "flat, read twice": {"heads_first": False, "read_twice": True},
}


def causal(new: int, past: int) -> np.ndarray:
    mask = np.full((new, past + new), -np.inf, np.float32)
    return np.triu(mask, past + 1)


class Oracle:
    """A decoder with its past as arrays."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        shape = [0 if n == "past" else n for n in state_models.shape_of(model.graph.input[2])]
        self.axis = state_models.shape_of(model.graph.input[2]).index("past")
        self.past = [np.zeros(shape, np.float32)] * 2

    @property
    def length(self) -> int:
        return int(self.past[0].shape[self.axis])

    def run(self, x: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        given = {"x": x, "mask": mask, "past_k": self.past[0], "past_v": self.past[1]}
        results = self.session.run(None, given)
        self.past = results[-2:]
        return list(results[:-2])

    def truncate(self, length: int) -> None:
        self.past = [p.take(range(length), self.axis) for p in self.past]


@pytest.fixture(params=list(DECODERS))
def kind(request):
    return DECODERS[request.param]


@pytest.fixture
def opened(kind, tmp_path):
    made = decoder(**kind)
    return made, Model(write_bundle(tmp_path / "d.edge", {"main": made}, decoder_states(made), BOUNDS))


def test_a_decoder_runs_step_by_step_as_with_explicit_tensors(opened):
    made, model = opened
    session, held, oracle = model.session(), model.state(), Oracle(made)
    session.set_state(held)
    assert [name for name, _, _ in session.inputs] == ["x", "mask"]
    assert "all_k" not in [name for name, _, _ in session.outputs]
    draw = np.random.default_rng(0)
    for new in (4, 1, 1, 3, 1, 2):
        x, mask = draw.standard_normal((1, new, WIDTH)).astype(np.float32), causal(new, oracle.length)
        for found, wanted in zip(session.run([x, mask]), oracle.run(x, mask), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
        assert held.length == oracle.length


def test_any_order_of_runs_truncations_and_forks(opened):
    made, model = opened
    session = model.session()
    draw = np.random.default_rng(1)
    sequences = [(model.state(), Oracle(made))]
    for _ in range(120):
        number = int(draw.integers(len(sequences)))
        held, oracle = sequences[number]
        action = draw.choice(["run", "run", "run", "truncate", "fork", "reset"])
        new = int(draw.integers(1, 6))
        if action == "run" and oracle.length + new <= MOST:
            session.set_state(held)
            x, mask = draw.standard_normal((1, new, WIDTH)).astype(np.float32), causal(new, oracle.length)
            for found, wanted in zip(session.run([x, mask]), oracle.run(x, mask), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
        elif action == "truncate" and oracle.length:
            length = int(draw.integers(oracle.length))
            held.truncate(length)
            oracle.truncate(length)
        elif action == "fork" and len(sequences) < 5:
            copy = Oracle(made)
            copy.past = oracle.past
            sequences.append((held.fork(), copy))
        elif action == "reset" and number:
            held.reset()
            oracle.truncate(0)
        assert held.length == oracle.length


def test_only_new_positions_are_written_where_attention_alone_reads_the_past(tmp_path):
    steps = {}
    for name, options in DECODERS.items():
        made = decoder(**options)
        bundle = write_bundle(tmp_path / f"{name}.edge", {"main": made}, decoder_states(made), BOUNDS)
        session = Model(bundle).session()
        steps[name] = [step.op for step in session.steps()]
    appended = {name: ops.count("Append") for name, ops in steps.items()}
    assert appended == {"heads": 2, "flat": 2, "heads, read twice": 1, "flat, read twice": 2}
    assert "Attention" in steps["heads"]
    memory = {}
    for name, options in DECODERS.items():
        made = decoder(**options)
        long = [{**s, "max_length": 4000} for s in decoder_states(made)]
        bounds = BOUNDS | {"past": (0, 4000), "total_length": (1, 4005)}
        bundle = write_bundle(tmp_path / f"long {name}.edge", {"main": made}, long, bounds)
        memory[name] = Model(bundle).session().memory_bytes
    past = 4000 * WIDTH * 4
    assert memory["heads, read twice"] > memory["heads"] + past


def test_a_full_state_refuses_and_stays_as_it_was(opened):
    made, model = opened
    session, held, oracle = model.session(), model.state(), Oracle(made)
    session.set_state(held)
    draw = np.random.default_rng(2)

    def step(new: int) -> list[np.ndarray]:
        return [draw.standard_normal((1, new, WIDTH)).astype(np.float32), causal(new, oracle.length)]

    for new in (5, 5):
        given = step(new)
        session.run(given)
        oracle.run(*given)
    with pytest.raises(NativeError, match=rf"10 of {MOST} positions, this run would make them 13"):
        session.run(step(3))
    assert held.length == 10
    given = step(2)
    for found, wanted in zip(session.run(given), oracle.run(*given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    assert held.length == MOST
    with pytest.raises(NativeError, match="this run would make them 13"):
        session.run(step(1))


def test_what_a_state_does_not_take(tmp_path):
    made = decoder(heads_first=True)
    bundle = write_bundle(tmp_path / "d.edge", {"main": made}, decoder_states(made), BOUNDS)
    model, other = Model(bundle), Model(bundle)
    session, held = model.session(), model.state()
    given = [np.zeros((1, 1, WIDTH), np.float32), np.zeros((1, 1), np.float32)]
    with pytest.raises(NativeError, match="entry 'main' has states: give the session one"):
        session.run(given)
    with pytest.raises(NativeError, match="the state belongs to another model"):
        session.set_state(other.state())
    with pytest.raises(NativeError, match="the state has 0 positions, it cannot be cut to 1"):
        held.truncate(1)
    with pytest.raises(NativeError, match="cannot be cut to -1"):
        held.truncate(-1)
    with pytest.raises(NativeError, match="the model has no input 'past_k'"):
        model.session(fixed={"past_k": np.zeros((1, HEADS, 2, 8), np.float32)})
    with pytest.raises(NativeError, match="no entry 'decode'; it has 'main'"):
        model.session(entry="decode")
    session.set_state(held)
    session.run(given)
    session.set_state(None)
    with pytest.raises(NativeError, match="give the session one"):
        session.run(given)
    with pytest.raises(NativeError, match="declares no states"):
        Model(made.SerializeToString()).state()


def test_a_failed_run_leaves_the_state(tmp_path):
    made = decoder(heads_first=True)
    session = (model := Model(write_bundle(tmp_path / "d.edge", {"main": made}, decoder_states(made), BOUNDS))).session()
    held = model.state()
    session.set_state(held)
    x = np.ones((1, 2, WIDTH), np.float32)
    session.run([x, causal(2, 0)])
    with pytest.raises(NativeError, match="do not match"):
        session.run([x, causal(2, 5)])  # a mask for another past
    assert held.length == 2
    twin = held.fork()
    results = []
    for one in (held, twin):
        session.set_state(one)
        results.append(session.run([x, causal(2, 2)])[0])
    np.testing.assert_array_equal(*results)


def test_a_replaced_state_is_carried_from_run_to_run(tmp_path):
    made = recurrent()
    model = Model(write_bundle(tmp_path / "r.edge", {"main": made}, [state("h", "h_next", (1, 5), -1, 0)]))
    session, held = model.session(), model.state()
    session.set_state(held)
    oracle = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    draw, h = np.random.default_rng(0), np.zeros((1, 5), np.float32)
    for step in range(6):
        x = draw.standard_normal((1, 5)).astype(np.float32)
        wanted, h = oracle.run(None, {"x": x, "h": h})
        np.testing.assert_allclose(session.run([x])[0], wanted, rtol=1e-5, atol=1e-6)
        if step == 2:
            fork = held.fork()
            before = h
    session.set_state(fork)
    x = np.ones((1, 5), np.float32)
    np.testing.assert_allclose(session.run([x])[0], oracle.run(None, {"x": x, "h": before})[0], rtol=1e-5, atol=1e-6)
    fork.reset()
    zero = np.zeros((1, 5), np.float32)
    np.testing.assert_allclose(session.run([x])[0], oracle.run(None, {"x": x, "h": zero})[0], rtol=1e-5, atol=1e-6)
    assert fork.length == 0


def test_a_state_that_runs_replace_cannot_go_back(tmp_path):
    made = decoder(heads_first=True)
    for name, node in (("h", "h_next"),):
        made.graph.input.append(helper.make_tensor_value_info(name, 1, (1, 5)))
        made.graph.output.append(helper.make_tensor_value_info(node, 1, (1, 5)))
        made.graph.node.append(helper.make_node("Tanh", [name], [node]))
    states = [*decoder_states(made), state("h", "h_next", (1, 5), -1, 0)]
    model = Model(write_bundle(tmp_path / "b.edge", {"main": made}, states, BOUNDS))
    session, held = model.session(), model.state()
    session.set_state(held)
    session.run([np.ones((1, 2, WIDTH), np.float32), causal(2, 0)])
    held.truncate(2)
    with pytest.raises(NativeError, match="every run replaces state 'h', there is no way back; fork before a run"):
        held.truncate(1)


def test_an_entry_writes_what_another_reads(tmp_path):
    node = helper.make_node
    twice = graph([node("Add", ["x", "x"], ["memory"])], {"x": (2, 3)}, ["memory"], {})
    add = graph([node("Add", ["memory", "y"], ["z"])], {"memory": (2, 3), "y": (2, 3)}, ["z"], {})
    states = [state("memory", "memory", (2, 3), -1, 0)]
    model = Model(write_bundle(tmp_path / "e.edge", {"encode": twice, "main": add}, states))
    assert model.entries == ("main", "encode")
    held, encode, main = model.state(), model.session(entry="encode"), model.session()
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 100, np.float32)
    for session in (encode, main):
        session.set_state(held)
    assert encode.outputs == []
    np.testing.assert_array_equal(main.run([y])[0], y)
    assert encode.run([x]) == []
    np.testing.assert_array_equal(main.run([y])[0], 2 * x + y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axis": 3}, "axis 2 of state 'past_k' has no fixed length"),
        ({"axis": 9}, "4 axes, axis 9"),
        ({"max_length": 0}, "max_length 0"),
        ({"max_length": -3}, "max_length -3"),
        ({"max_length": 1 << 60}, "too large"),
        ({"dtype": "float64"}, "not what the manifest says"),
        ({"dtype": "bfloat16"}, "dtype bfloat16, which the engine does not have"),
        ({"shape": [1, "batch", "past", 8]}, "axis 1 of state 'past_k' has no fixed length"),
        ({"shape": [1, HEADS, "past", 9]}, "not what the manifest says"),
        ({"input": "nothing"}, "a state that grows needs both"),
        ({"input": "x"}, "not what the manifest says"),
        ({"input": "nothing", "output": "nowhere"}, "no entry reads state 'nothing'"),
        ({"input": 3}, "no text 'input'"),
    ],
)
def test_states_that_contradict_the_model_are_refused(tmp_path, change, words):
    made = decoder(heads_first=True)
    states = decoder_states(made)
    bundle = write_bundle(tmp_path / "d.edge", {"main": made}, [states[0] | change, states[1]], BOUNDS)
    with pytest.raises(NativeError, match=words):
        Model(bundle).session()


# Constants in other files


def shared(tmp_path: Path, **change: str) -> tuple[Path, np.ndarray]:
    """Two entries whose weights lie in one file."""
    weights = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    entries = {}
    for name, kind in (("main", "MatMul"), ("sum", "Add")):
        shape = (2, 4) if name == "main" else (4, 6)
        made = graph([helper.make_node(kind, ["x", "w"], ["y"])], {"x": shape}, ["y"], {"w": weights})
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": "weights.bin", "offset": "64", "length": str(weights.nbytes)} | change
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        entries[name] = made
    return write_bundle(tmp_path / "s.edge", entries, more={"weights.bin": bytes(64) + weights.tobytes()}), weights


def test_entries_share_constants_of_one_file(tmp_path):
    bundle, weights = shared(tmp_path)
    model = Model(bundle)
    x, z = np.ones((2, 4), np.float32), np.ones((4, 6), np.float32)
    np.testing.assert_allclose(model.session().run([x])[0], x @ weights, rtol=1e-5)
    np.testing.assert_array_equal(model.session(entry="sum").run([z])[0], z + weights)
    alone = Model(bundle / "main.onnx")
    np.testing.assert_allclose(alone.session().run([x])[0], x @ weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset": "65"}, "takes 96 bytes at 65 of 'weights.bin', which has 160"),
        ({"offset": str((1 << 64) - 1)}, "has offset '18446744073709551615'"),
        ({"offset": str(1 << 62)}, "of 'weights.bin', which has 160"),
        ({"offset": "-1"}, "has offset '-1'"),
        ({"length": "92"}, "92 bytes where its shape needs 96"),
        ({"length": "4611686018427387904"}, "which has 160"),
        ({"location": "other.bin"}, "'other.bin', which the manifest does not list"),
        ({"location": "../s.edge/weights.bin"}, "which the manifest does not list"),
    ],
)
def test_constants_that_are_not_there_are_refused(tmp_path, change, words):
    bundle, _ = shared(tmp_path, **change)
    with pytest.raises(NativeError, match=words):
        Model(bundle)


def test_a_model_without_a_path_has_no_other_files(tmp_path):
    bundle, _ = shared(tmp_path)
    with pytest.raises(NativeError, match="the model was not opened by its path"):
        Model((bundle / "main.onnx").read_bytes())
    (bundle / "weights.bin").unlink()
    with pytest.raises(NativeError, match=r"weights\.bin"):
        Model(bundle / "main.onnx")


def test_packed_weights_serve_every_entry(tmp_path):
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((64, 512)).astype(np.float32)
    entries = {}
    for name, rows in (("main", 3), ("more", 5)):
        made = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (rows, 64)}, ["y"], {"w": weights})
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(weights.nbytes))):
            tensor.external_data.add(key=key, value=value)
        entries[name] = made
    more = {"weights.bin": weights.tobytes()}
    plain = Model(write_bundle(tmp_path / "plain.edge", entries, more=more))
    isa = kernels.isas()[-1]  # the best that this machine has
    packed = plain.pack(isa)
    assert packed.count(weights[0, :4].tobytes()) == 1  # once, for both
    model = Model(write_bundle(tmp_path / "packed.edge", entries, more=more | {f"packed/{isa}-v1.bin": packed}))
    for opened in (plain, model):
        for name, rows in (("main", 3), ("more", 5)):
            x = draw.standard_normal((rows, 64)).astype(np.float32)
            np.testing.assert_allclose(opened.session(entry=name).run([x])[0], x @ weights, rtol=1e-4, atol=1e-5)
    assert model.memory_bytes + weights.nbytes <= plain.memory_bytes


@pytest.mark.parametrize("dims", list(itertools.product((0, 1), (1, 4), (0, 3))))
def test_attention_of_open_sizes(dims):
    """[batch, heads, m, d] with every size open, as ONNX Runtime computes it."""
    seed, mask_rows, _ = dims
    node = helper.make_node
    scale = np.array(0.3, np.float32)
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["products"]),
        node("Mul", ["products", "scale"], ["scores"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["y"], perm=[0, 2, 1, 3]),
    ]
    inputs = {
        "q": ("b", 2, "m", 8),
        "k": ("b", 2, "t", 8),
        "v": ("b", 2, "t", "e"),
        "mask": ("mb", 1, "mm", "t"),
    }
    made = graph(nodes, inputs, ["y"], {"scale": scale})
    bounds = {"b": (1, 3), "m": (0, 9), "t": (1, 40), "e": (1, 20), "mb": (1, 3), "mm": (1, 9)}
    session = Model(made.SerializeToString()).session(bounds=bounds)
    assert "Attention" in [step.op for step in session.steps()]
    oracle = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(seed)
    for _ in range(12):
        b, m, t, e = (int(draw.integers(1, n)) for n in (4, 10, 41, 21))
        rows = 1 if mask_rows == 1 else m
        shapes = [(b, 2, m, 8), (b, 2, t, 8), (b, 2, t, e), (int(draw.choice([1, b])), 1, rows, t)]
        given = [draw.standard_normal(shape).astype(np.float32) for shape in shapes]
        wanted = oracle.run(None, dict(zip(inputs, given, strict=True)))[0]
        np.testing.assert_allclose(session.run(given)[0], wanted, rtol=1e-4, atol=1e-5)
