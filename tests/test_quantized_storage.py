"""Integer weights of embeddings and recurrent layers: what is found, what is computed, what is in the files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

import sdk
from device_profiles.errors import MethodError
from edgewright_export.capture import capture
from edgewright_export.methods.quantization.begin import Options, begin
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.coverage import coverage
from edgewright_export.methods.quantization.graph import float_graph
from edgewright_export.methods.quantization.learn import Lesson, learn
from edgewright_export.methods.quantization.mixed import alone
from edgewright_export.methods.quantization.plan import Plan, learned, simulated, written
from edgewright_export.methods.quantization.simulate import IntegerProduct, StoredWeight
from edgewright_export.methods.quantization.sites import products
from edgewright_export.methods.quantization.stored import stored
from edgewright_export.registry import target_named
from edgewright_export.training.batches import Train
from edgewright_runtime.bundle.manifest import QuantizedLayer

from .quantization.cases import CASES
from .test_quantization import CONTEXT, state_of

pytestmark = pytest.mark.usefixtures("no_speed_asked")

WORDS = 50


class Tied(nn.Module):
    """An embedding whose table is the weight of the linear layer at the end."""

    def __init__(self, padding: int | None = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 32, padding_idx=padding)
        self.head = nn.Linear(32, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embed(ids)))


class Twice(nn.Module):
    """Two readers of one table, and one of another."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 16), nn.Embedding(8, 16)
        self.mix = nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.places(torch.arange(ids.shape[1]))
        return self.mix(self.words(ids) + places) + self.mix(self.words(ids.flip(1)))


class Recurrent(nn.Module):
    """Args: ``kind`` is ``torch.nn.GRU`` or ``torch.nn.LSTM``."""

    def __init__(self, kind: Any = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.layers = kind(6, 8, **{"num_layers": 2, "bidirectional": True, "batch_first": True, **options})
        self.head = nn.Linear(16 if self.layers.bidirectional else 8, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.layers(series)[0].mean(1))


def seeded(make: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = make().eval()
    return module


def words(count: int = 8, length: int = 7) -> list[tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randint(0, WORDS, (1, length), generator=draw),) for _ in range(count)]


def series(count: int = 8) -> list[tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 10, 6, generator=draw),) for _ in range(count)]


def given_to(module: nn.Module) -> list[tuple[Tensor, ...]]:
    return series() if isinstance(module, Recurrent) else words()


def plan_of(module: nn.Module, **options: Any) -> Plan:
    given = given_to(module)
    state = state_of(module, *given[0])
    return begin(state, Options.of(sdk.methods.PTQ(**options)), CONTEXT, calls(given, state.example))


def rows_of(module: nn.Module, **options: Any) -> dict[str, QuantizedLayer]:
    given = given_to(module)
    example = state_of(module, *given[0]).example
    rows = coverage(plan_of(module, **options), calls(given, example), example)
    return {row.path: row for row in rows}


def ran(module: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = module(*inputs)
    return result


def exported(module: nn.Module, device: str, folder: Path, *methods: Any, **options: Any) -> Any:
    given = given_to(module)
    return sdk.export(
        module,
        device,
        example_inputs=given[0],
        methods=list(methods) or [sdk.methods.PTQ()],
        calibration=given,
        output=folder / "model.edge",
        **options,
    )


def constants(bundle: Any) -> dict[int, list[np.ndarray]]:
    """Those of an ONNX file by dtype."""
    found: dict[int, list[np.ndarray]] = {}
    for tensor in onnx.load(bundle.path / "model.onnx").graph.initializer:
        found.setdefault(tensor.data_type, []).append(numpy_helper.to_array(tensor))
    return found


RECURRENT = [
    lambda: Recurrent(nn.GRU),
    lambda: Recurrent(nn.LSTM),
    lambda: Recurrent(nn.GRU, num_layers=1, bidirectional=False, bias=False),
    lambda: Recurrent(nn.LSTM, num_layers=1, bidirectional=False),
]
IDS = ["gru", "lstm", "plain gru", "plain lstm"]


def test_layers_and_their_weights_are_found():
    found = stored(float_graph(state_of(seeded(Twice), *words()[0])))
    assert [(layer.path, layer.op, layer.weights) for layer in found] == [
        ("places", "embedding", ("places.weight",)),
        ("words", "embedding", ("words.weight",)),
        ("words", "embedding", ("words.weight",)),
    ]
    graph = float_graph(state_of(seeded(Recurrent), *series()[0]))
    (layer,), (head,) = stored(graph), products(graph)
    assert layer.op == "gru" and len(layer.weights) == 8 and all("weight" in name for name in layer.weights)
    sizes = [24 * 6, 24 * 8, 24 * 6, 24 * 8, 24 * 16, 24 * 8, 24 * 16, 24 * 8]
    assert layer.macs / head.macs == 10 * sum(sizes) / (16 * 3)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("make", [Tied, Twice, *RECURRENT], ids=["tied", "twice", *IDS])
def test_the_module_reads_what_the_written_graph_holds(make, bits):
    module = seeded(make)
    plan = plan_of(module, weight_bits=bits, activations="float")
    given = given_to(module)[0]
    wanted, found = ran(simulated(plan), *given), ran(written(plan), *given)
    assert torch.equal(wanted, found)
    apart = (wanted - ran(module, *given)).square().sum() / ran(module, *given).square().sum()
    assert 0 < apart < (1e-3 if bits == 8 else 0.1)


@pytest.mark.parametrize("make", [Tied, Twice, *RECURRENT], ids=["tied", "twice", *IDS])
def test_the_written_graph_holds_no_float_matrix(make):
    graph = written(plan_of(seeded(make), activations="float"))
    big = [value for value in graph.state_dict().values() if value.is_floating_point() and value.numel() > 200]
    assert not big


def test_groups_of_a_row_have_scales_of_their_own():
    plan = plan_of(seeded(Twice), weight_bits=4, activations="float", group_size=16)
    assert plan.tables["words.weight"].scales.shape == (WORDS,)
    plan = plan_of(seeded(Tied), weight_bits=4, activations="float", group_size=16)
    assert [table.scales.shape for table in plan.tables.values()] == [(WORDS, 2)]
    assert torch.equal(ran(simulated(plan), *words()[0]), ran(written(plan), *words()[0]))


def test_one_scale_for_all():
    plan = plan_of(seeded(Recurrent), per_channel=False)
    assert all(len(table.scales.unique()) == 1 for table in plan.tables.values())


def test_rows_say_what_is_stored():
    rows = rows_of(seeded(Recurrent))
    assert (rows["layers"].op, rows["layers"].weights, rows["layers"].activations) == ("gru", "int8", "float32")
    assert rows["layers"].sqnr_db is not None and 30 < rows["layers"].sqnr_db < 70
    assert rows["layers"].bytes_before == 4 * 1824 and rows["layers"].bytes_after == 1824 + 4 * 24 * 8
    rows = rows_of(seeded(Twice), weight_bits=4, exclude="words")
    assert [(row.op, row.weights) for row in rows.values()] == [
        ("embedding", "int4"), ("embedding", "float32"), ("linear", "int4")
    ]  # fmt: skip
    assert rows["places"].bytes_after == 8 * 16 // 2 + 4 * 8


def test_what_is_read_as_float_too_stays_float():
    rows = rows_of(seeded(Tied), exclude="head")
    assert {row.weights for row in rows.values()} == {"float32"}
    rows = rows_of(seeded(Tied))
    assert {row.weights for row in rows.values()} == {"int8"}


def test_patterns_that_leave_nothing_are_an_error(tmp_path):
    with pytest.raises(MethodError, match="leave none of 2 layers"):
        exported(seeded(Recurrent), "host:native", tmp_path, sdk.methods.PTQ(exclude=("layers", "head")))
    with pytest.raises(MethodError, match="layers"):
        exported(seeded(Recurrent), "host:native", tmp_path, sdk.methods.PTQ(exclude="layer"))


@pytest.mark.parametrize(
    ("make", "device"),
    [
        (Tied, "host:native"),
        (Twice, "host:onnxruntime"),
        (RECURRENT[0], "host:native"),
        (RECURRENT[1], "host:onnxruntime"),
        pytest.param(Tied, "host:onnxruntime", marks=pytest.mark.slow),
        pytest.param(Twice, "host:native", marks=pytest.mark.slow),
        *(pytest.param(make, "host:native", marks=pytest.mark.slow) for make in RECURRENT[1:]),
        *(pytest.param(make, "host:onnxruntime", marks=pytest.mark.slow) for make in (RECURRENT[0], *RECURRENT[2:])),
    ],
)
def test_files_compute_what_the_module_does(make, device, tmp_path):
    bundle = exported(seeded(make), device, tmp_path)
    assert bundle.parity.snr_db > 90
    floats = constants(bundle)[TensorProto.FLOAT]
    assert max(value.size for value in floats) <= 128
    assert {row.weights for row in bundle.manifest.quantized} == {"int8"}


@pytest.mark.parametrize("make", [Tied, RECURRENT[1]], ids=["tied", "lstm"])
def test_four_bits_are_stored_in_four(make, tmp_path):
    method = sdk.methods.PTQ(weight_bits=4, activations="float", group_size=16)
    bundle = exported(seeded(make), "host:native", tmp_path, method)
    assert bundle.parity.snr_db > 90
    assert all(value.ndim < 2 for value in constants(bundle).get(TensorProto.INT8, ()))
    assert {row.weights for row in bundle.manifest.quantized} == {"int4"}


def test_a_target_without_four_bits_stores_bytes(tmp_path):
    bundle = exported(seeded(Recurrent), "host:onnxruntime", tmp_path, sdk.methods.PTQ(weight_bits=4))
    assert bundle.parity.snr_db > 90 and TensorProto.INT4 not in constants(bundle)
    assert {row.weights for row in bundle.manifest.quantized} == {"int8"}


def test_a_layer_that_is_called_twice_has_its_integers_once(tmp_path):
    class Called(Recurrent):
        def forward(self, series: Tensor) -> Tensor:
            return super().forward(series) + super().forward(series.flip(1))

    bundle = exported(seeded(lambda: Called(num_layers=1, bidirectional=False)), "host:onnxruntime", tmp_path)
    whole = [value.shape for value in constants(bundle)[TensorProto.INT8] if value.ndim == 3]
    assert bundle.parity.snr_db > 90 and sorted(whole) == [(1, 24, 6), (1, 24, 8)]


def train_of(module: nn.Module) -> Train:
    given = [one for (one,) in given_to(module)]

    def batches() -> Any:
        return iter([(torch.cat(given[:4]), torch.zeros(4)), (torch.cat(given[4:]), torch.zeros(4))])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.flatten(1).mean(1) - 1).square().mean() + 0 * targets.sum()

    return Train(batches, loss)


@pytest.mark.parametrize("make", [Tied, Twice, RECURRENT[0]], ids=["tied", "twice", "gru"])
def test_training_moves_stored_weights_and_their_scales(make):
    module = seeded(make)
    plan = plan_of(module, activations="float")
    after, (first, last) = learn(plan, train_of(module), Lesson(20, 1e-2, False, 0.0, 0))
    assert last < first
    assert all(not torch.equal(after.tables[path].scales, table.scales) for path, table in plan.tables.items())
    given = given_to(module)[0]
    assert torch.equal(ran(simulated(after), *given), ran(written(after), *given))


@pytest.mark.parametrize("make", [Tied, Twice, *RECURRENT], ids=["tied", "twice", *IDS])
def test_what_was_not_trained_is_learned_unchanged(make):
    plan, given = plan_of(seeded(make)), given_to(seeded(make))[0]
    same = learned(plan, simulated(plan))
    assert all(torch.equal(same.tables[path].scales, table.scales) for path, table in plan.tables.items())
    assert torch.equal(ran(simulated(same), *given), ran(simulated(plan), *given))


def test_tied_weights_stay_tied_when_they_are_trained():
    plan = plan_of(seeded(Tied))
    student = simulated(plan)
    (table,) = [part for part in student.modules() if isinstance(part, StoredWeight)]
    (product,) = [part for part in student.modules() if isinstance(part, IntegerProduct)]
    assert table.weight is product.weight
    student = simulated(plan_of(seeded(Tied), exclude="embed"))
    (product,) = [part for part in student.modules() if isinstance(part, IntegerProduct)]
    assert [p for p in student.parameters() if p.shape == (WORDS, 32)] == [product.weight]


def test_the_row_of_padding_learns_nothing():
    for padding, learns in ((0, False), (None, True)):
        student = simulated(plan_of(seeded(lambda own=padding: Tied(own)), activations="float"))
        (table,) = [part for part in student.modules() if isinstance(part, StoredWeight)]
        (lookup,) = [node for node in student.graph.nodes if "stored" in str(node.target)]
        table.weight.requires_grad_()
        table(torch.zeros(1, 3, dtype=torch.int64), *lookup.args[1:]).sum().backward()
        assert table.weight.grad is not None and bool(table.weight.grad[0].any()) == learns


def test_only_rows_that_are_looked_up_are_made_float():
    graph = written(plan_of(seeded(Twice)))
    lookups = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.embedding.default)
    tables = [graph.get_buffer(str(node.args[0].target)) for node in lookups]
    assert {table.dtype for table in tables if table.shape[1] > 1} == {torch.int8}
    assert len([table for table in tables if table.shape[1] == 1]) == 3


def test_a_target_that_stores_no_recurrent_weights_keeps_them_float():
    module, given = seeded(Recurrent), series()
    state = state_of(module, *given[0])
    context: Any = SimpleNamespace(engine=SimpleNamespace(weight_qmax=127), target="executorch")
    plan = begin(state, Options.of(sdk.methods.PTQ()), context, calls(given, state.example))
    rows = {row.path: row for row in coverage(plan, calls(given, state.example), state.example)}
    assert (rows["layers"].weights, rows["head"].weights) == ("float32", "int8")
    found = target_named("executorch").check(capture(written(plan_of(module)), state.example).program, {})
    assert any("recurrent" in finding.reason and finding.module_path == "layers" for finding in found)


def test_a_layer_alone_leaves_the_others_float():
    plan = plan_of(seeded(Twice), activations="float")
    given = words()[0]
    errors = [
        float((ran(simulated(alone(plan, layer)), *given) - ran(plan.module, *given)).square().sum())
        for layer in (*plan.stored, *plan.products)
    ]
    whole = float((ran(simulated(plan), *given) - ran(plan.module, *given)).square().sum())
    assert all(error > 0 for error in errors) and max(errors) < 2 * whole


@pytest.mark.parametrize("device", ["host:litert", pytest.param("host:executorch", marks=pytest.mark.slow)])
def test_other_targets_store_tables(device, tmp_path):
    bundle = exported(seeded(lambda: Tied(None)), device, tmp_path, sdk.methods.PTQ(weight_bits=4, activations="auto"))
    assert bundle.parity.snr_db > 60
    assert {row.op: row.weights for row in bundle.manifest.quantized}["embedding"] == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("make", RECURRENT, ids=IDS)
def test_litert_stores_matrices_of_recurrent_layers(make, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    from edgewright_export.targets.tflite_file import TFLite

    bundle = exported(seeded(make), "host:litert", tmp_path)
    file = TFLite.read(bundle.path / "model.tflite")
    floats = [t for t in file.graph.tensors if t.type == schema.TensorType.FLOAT32 and file.data(t) is not None]
    assert bundle.parity.snr_db > 60 and all(np.prod(tensor.shape) < 144 for tensor in floats)


@pytest.mark.slow
def test_qat_of_a_gru_through_export(tmp_path):
    case = CASES["gru_imu"]()
    data = [(torch.cat([one for (one,) in case.calibration[:64]]), torch.zeros(64, dtype=torch.int64))]
    bundle = sdk.export(
        case.module,
        "host:native",
        example_inputs=case.inputs,
        methods=[sdk.methods.QAT(weight_bits=4, steps=5)],
        calibration=case.calibration,
        train=(data, None),
        output=tmp_path / "model.edge",
    )
    assert bundle.parity.snr_db > 60 and {row.weights for row in bundle.manifest.quantized} == {"int4"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_quantized_gru_is_as_good_as_the_float_one(engine, tmp_path):
    case = CASES["gru_imu"]()
    bundle = sdk.export(
        case.module,
        f"host:{engine}",
        example_inputs=case.inputs,
        methods=[sdk.methods.PTQ()],
        calibration=case.calibration,
        output=tmp_path / "model.edge",
    )
    with sdk.load(bundle.path, threads=1) as session:
        found = case.evaluate(lambda x: torch.from_numpy(next(iter(session.run(x.numpy()).values()))))
    assert abs(found - case.evaluate(lambda x: ran(case.module, x))) < 1
    assert bundle.file_bytes < 16_000
