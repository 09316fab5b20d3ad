"""Every rewrite against the newer operator, whole torch models, and an old ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from device_profiles.errors import OptionError  # noqa: E402
from edgewright_export.targets.onnx_opset import SOURCES, TARGETS, lower_opset  # noqa: E402
from edgewright_export.targets.onnx_rewrites import PORTABLE, REWRITES, WIDENED  # noqa: E402

IR = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}
RUN_MODELS = Path(__file__).parent / "ort110" / "run_models.py"
SEED = 20


def noise(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    rng = np.random.default_rng((SEED, *shape))
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(-5, 6, shape).astype(dtype)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """One node of a newer opset: arrays are inputs, those listed in ``fixed`` initializers."""

    name: str
    op: str
    opset: int
    arrays: tuple[np.ndarray | None, ...]
    fixed: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    open_sizes: bool = False
    tolerance: float = 2e-6
    reference: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}-{self.name}"


def model_of(case: Case) -> Any:
    names = ["" if array is None else f"in{i}" for i, array in enumerate(case.arrays)]
    inputs, initializers = [], []
    for i, (name, array) in enumerate(zip(names, case.arrays, strict=True)):
        if array is None:
            continue
        array = np.asarray(array)
        if i in case.fixed:
            initializers.append(numpy_helper.from_array(array, name))
        else:
            shape = [f"{name}_{d}" for d in range(array.ndim)] if case.open_sizes else array.shape
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape))
    outputs = [f"out{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="node", **case.attributes)
    graph = helper.make_graph([node], "case", inputs, [onnx.ValueInfoProto(name=n) for n in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in inferred.graph.output:
        if not value.type.WhichOneof("value"):
            value.type.CopyFrom(inferred.graph.input[0].type)
    return inferred


def feeds_of(case: Case) -> dict[str, np.ndarray]:
    return {f"in{i}": np.asarray(a) for i, a in enumerate(case.arrays) if a is not None and i not in case.fixed}


def run(model: Any, feeds: dict[str, np.ndarray], reference: bool = False) -> list[np.ndarray]:
    if reference:
        return list(ReferenceEvaluator(model).run(None, feeds))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return list(
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)
    )


def assert_close(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float) -> None:
    assert len(got) == len(wanted)
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(
                mine.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance
            )
        else:
            np.testing.assert_array_equal(mine, theirs)


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


def reduce_cases() -> list[Case]:
    cases = []
    for kind in REDUCTIONS:
        op, x = f"Reduce{kind}", np.abs(noise(3, 4, 5)) + np.float32(0.5)
        no = ints()
        cases += [
            Case("negative", op, 18, (x, ints(-1, 0)), (1,), {"keepdims": 0}, tolerance=1e-5),
            Case("all", op, 18, (x,), tolerance=1e-5),
            Case("empty", op, 18, (x, no), (1,), {"keepdims": 0}, tolerance=1e-5),
            Case("noop", op, 18, (x, no), (1,), {"noop_with_empty_axes": 1}, tolerance=1e-5),
            Case("noop_absent", op, 18, (x,), (), {"noop_with_empty_axes": 1}, tolerance=1e-5),
            Case("open", op, 18, (x, ints(1)), (1,), open_sizes=True, tolerance=1e-5),
        ]
    return cases


def norm_cases() -> list[Case]:
    x, half = noise(2, 6, 5, 3), noise(2, 6, 5, 3, dtype=np.float16)
    five, three, six = noise(5), noise(3), noise(6)
    return [
        Case("last", "LayerNormalization", 17, (x, three, three), (1, 2), {"epsilon": 1e-3}),
        Case("no_bias", "LayerNormalization", 17, (x, noise(5, 3)), (1,), {"axis": -2}),
        Case("positive_axis", "LayerNormalization", 18, (x, noise(6, 5, 3), noise(6, 5, 3)), (1, 2), {"axis": 1}),
        Case("statistics", "LayerNormalization", 17, (x, three, three), (1, 2), outputs=3),
        Case("open", "LayerNormalization", 17, (x, three, three), (1, 2), {"axis": 3}, open_sizes=True),
        Case("half", "LayerNormalization", 17, (half, three.astype(np.float16)), (1,), tolerance=2e-3),
        Case(
            "double", "LayerNormalization", 17, (x.astype(np.float64), three.astype(np.float64)), (1,), tolerance=1e-6
        ),
        Case("one_element", "LayerNormalization", 17, (noise(4, 1), noise(1), noise(1)), (1, 2)),
        Case("large_offset", "LayerNormalization", 17, (x + np.float32(1000), three, three), (1, 2), tolerance=2e-3),
        Case("groups", "GroupNormalization", 18, (x, three, three), (1, 2), {"num_groups": 3}, reference=True),
        Case("one_group", "GroupNormalization", 18, (x, noise(1), noise(1)), (), {"num_groups": 1}, reference=True),
        Case("channels", "GroupNormalization", 21, (x, six, six), (1, 2), {"num_groups": 3, "epsilon": 1e-2}),
        Case("open", "GroupNormalization", 21, (x, six, six), (1, 2), {"num_groups": 2}, open_sizes=True),
        Case("flat", "GroupNormalization", 21, (noise(3, 6), six, six), (1, 2), {"num_groups": 2}),
        Case(
            "half",
            "GroupNormalization",
            21,
            (half, *[six.astype(np.float16)] * 2),
            (1, 2),
            {"num_groups": 2},
            tolerance=4e-3,
        ),
        Case("last", "RMSNormalization", 23, (x, three), (1,), reference=True),
        Case("two_axes", "RMSNormalization", 23, (noise(2, 3, 5), noise(3, 5)), (1,), {"axis": 1}, reference=True),
        Case("one", "RMSNormalization", 23, (noise(2, 5), five), (1,), reference=True),
    ]


def activation_cases() -> list[Case]:
    wide = np.array([-200.0, -8.0, -3.0, -1e-6, 0.0, 1e-6, 0.7, 3.0, 8.0, 200.0, np.inf], dtype=np.float32)
    finite = wide[:-1]
    return [
        Case("none", "Gelu", 20, (finite,)),
        Case("tanh", "Gelu", 20, (finite,), (), {"approximate": "tanh"}),
        Case("empty", "Gelu", 20, (noise(0, 3),)),
        Case("wide", "HardSwish", 14, (finite,)),
        Case("newer", "HardSwish", 22, (finite,), reference=True),
        Case("wide", "Mish", 18, (finite,)),
        Case("float", "Relu", 14, (wide,)),
        Case("int64", "Relu", 14, (noise(3, 4, dtype=np.int64),), reference=True),
        Case("int8", "Relu", 14, (noise(7, dtype=np.int8),)),
    ]


def pad_cases() -> list[Case]:
    x, tail = noise(2, 3, 4, 5), np.float32(7.5)
    two, four = ints(1, 2, 3, 1), ints(0, 1, 2, 0, 0, 1, 1, 3)
    return [
        Case("axes", "Pad", 18, (x, two, tail, ints(-1, 1)), (1, 2, 3)),
        Case("all", "Pad", 18, (x, four), (1,), {"mode": "reflect"}),
        Case("edge", "Pad", 18, (x, two, None, ints(2, 3)), (1, 3), {"mode": "edge"}),
        Case("crop", "Pad", 18, (x, ints(-1, 2), tail, ints(3)), (1, 2, 3)),
        Case("computed", "Pad", 18, (x, two, tail, ints(-1, 0)), (3,)),
        Case("open", "Pad", 18, (x, two, tail, ints(2, 3)), (1, 2, 3), open_sizes=True),
        Case("newer", "Pad", 21, (x, two, tail, ints(2, 3)), (1, 2, 3)),
        Case("wrap", "Pad", 19, (x, four), (1,), {"mode": "wrap"}),
        Case("wrap_axes", "Pad", 19, (x, ints(2, 1, 0, 3), None, ints(-1, 1)), (1, 3), {"mode": "wrap"}),
    ]


def resize_cases() -> list[Case]:
    x = noise(1, 2, 5, 7)
    up, sizes = np.array([2.0, 1.5], dtype=np.float32), ints(9, 4)
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return [
        Case("scales_axes", "Resize", 18, (x, None, up), (2,), {"axes": [2, 3], **linear}),
        Case("scales_negative", "Resize", 18, (x, None, up), (2,), {"axes": [-1, -2], "mode": "nearest"}),
        Case("sizes_axes", "Resize", 18, (x, None, None, sizes), (3,), {"axes": [2, 3], "mode": "cubic"}),
        Case("sizes_open", "Resize", 18, (x, None, None, sizes), (3,), {"axes": [2, 3], **linear}, open_sizes=True),
        Case(
            "corners",
            "Resize",
            19,
            (x, None, None, ints(1, 2, 8, 3)),
            (3,),
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        ),
        Case(
            "defaults",
            "Resize",
            19,
            (x, None, np.array([1, 1, 2, 3], dtype=np.float32)),
            (2,),
            {
                "antialias": 0,
                "keep_aspect_ratio_policy": "stretch",
                "nearest_mode": "floor",
                "coordinate_transformation_mode": "asymmetric",
            },
        ),
    ]


def index_cases() -> list[Case]:
    x, square = noise(3, 7, 4), noise(2, 5, 4)
    return [
        Case("uneven", "Split", 18, (x,), (), {"num_outputs": 3, "axis": 1}, outputs=3),
        Case("even_negative", "Split", 18, (x,), (), {"num_outputs": 2, "axis": -1}, outputs=2),
        Case("sizes", "Split", 18, (x, ints(1, 6)), (1,), {"axis": 1}, outputs=2),
        Case("span", "Shape", 15, (x,), (), {"start": 1, "end": 3}),
        Case("negative", "Shape", 19, (x,), (), {"start": -2}, open_sizes=True),
        Case("whole", "Shape", 15, (x,)),
        Case("empty_span", "Shape", 15, (x,), (), {"start": 2, "end": 1}),
        Case("allowzero", "Reshape", 14, (x, ints(2, -1, 6)), (1,), {"allowzero": 1}),
        Case("allowzero_computed", "Reshape", 14, (x, ints(2, -1, 6)), (), {"allowzero": 1}),
        Case("upper", "Trilu", 14, (square,)),
        Case("lower", "Trilu", 14, (square, ints(-1)[0]), (1,), {"upper": 0}),
        Case("int64", "Trilu", 14, (noise(4, 4, dtype=np.int64), ints(2)[0]), (1,)),
        Case("bool", "Trilu", 14, (np.ones((3, 4), dtype=bool),), (), {"upper": 0}),
        Case("computed", "Trilu", 14, (square, ints(1)[0]), (), {"upper": 0}),
        Case("open", "Trilu", 14, (square, ints(1)[0]), (), {"upper": 1}, open_sizes=True),
        Case("none", "ScatterND", 18, (x, ints(2, 0).reshape(2, 1), noise(2, 7, 4)), (), {"reduction": "none"}),
        Case(
            "none",
            "ScatterElements",
            18,
            (x, ints(0, 2, 1, 1).reshape(1, 1, 4), noise(1, 1, 4)),
            (),
            {"reduction": "none", "axis": 1},
        ),
    ]


def type_cases() -> list[Case]:
    x, like = noise(3, 4) * np.float32(9), np.zeros(1, dtype=np.int32)
    truth = x > 0
    scale, image = np.float32(0.1), noise(1, 2, 5, 6)
    return [
        Case("int32", "CastLike", 15, (x, like)),
        Case("newer", "CastLike", 19, (x, like), (), {"saturate": 0}, reference=True),
        Case("saturate", "Cast", 19, (x,), (), {"to": TensorProto.INT64, "saturate": 0}, reference=True),
        Case("bool", "ReduceMax", 20, (truth, ints(-1)), (1,), reference=True),
        Case("bool", "ReduceMin", 20, (truth, ints(0)), (1,), {"keepdims": 0}, reference=True),
        Case("int8", "QuantizeLinear", 21, (x, scale), (1,), {"output_dtype": TensorProto.INT8}),
        Case("zero_point", "QuantizeLinear", 19, (x, scale, np.uint8(3)), (1, 2), {"saturate": 0}),
        Case(
            "channels", "QuantizeLinear", 21, (x, np.full(4, 0.1, np.float32)), (1,), {"output_dtype": TensorProto.INT8}
        ),
        Case(
            "channels",
            "DequantizeLinear",
            21,
            (noise(3, 4, dtype=np.int8), np.full(4, 0.1, np.float32)),
            (1,),
            {"block_size": 0},
        ),
        Case("ones", "AveragePool", 19, (image,), (), {"kernel_shape": [2, 3], "dilations": [1, 1], "ceil_mode": 1}),
        Case("ones", "LpPool", 18, (image,), (), {"kernel_shape": [2, 3], "dilations": [1, 1]}),
        Case(
            "old_corners",
            "RoiAlign",
            16,
            (image, np.array([[0, 0, 4, 3]], np.float32), ints(0)),
            (),
            {"coordinate_transformation_mode": "output_half_pixel", "output_height": 2, "output_width": 3},
            tolerance=1e-5,
        ),
        Case(
            "one_output",
            "BatchNormalization",
            15,
            (image, *[np.abs(noise(2)) + np.float32(1)] * 4),
            (1, 2, 3, 4),
            {"training_mode": 0},
        ),
        Case("int64", "Add", 14, (noise(3, dtype=np.int64), noise(3, dtype=np.int64))),
        Case("compare", "LessOrEqual", 16, (x, x.T.reshape(3, 4))),
        Case("int64", "Clip", 18, (noise(9, dtype=np.int64), ints(-2)[0], ints(3)[0]), (1, 2)),
        Case(
            "layout",
            "GRU",
            14,
            (noise(4, 2, 3), noise(1, 6, 3), noise(1, 6, 2)),
            (1, 2),
            {"hidden_size": 2, "layout": 0},
            outputs=2,
        ),
    ]


def portable_cases() -> list[Case]:
    low, high, truth = np.int32(-2), np.int32(3), noise(3, 4) > 0
    return [
        Case("int32", "Clip", 18, (noise(9, dtype=np.int32), low, high), (1, 2)),
        Case("int32_low", "Clip", 18, (noise(9, dtype=np.int32), low), (1,)),
        Case("int32_high", "Clip", 18, (noise(9, dtype=np.int32), None, high), (2,)),
        Case("int64", "Relu", 18, (noise(5, dtype=np.int64),), reference=True),
        Case("allowzero", "Reshape", 18, (noise(3, 7, 4), ints(2, -1, 6)), (1,), {"allowzero": 1}),
        Case("allowzero_computed", "Reshape", 18, (noise(3, 7, 4), ints(2, -1, 6)), (), {"allowzero": 1}),
        Case("bool", "Trilu", 18, (np.ones((3, 4), dtype=bool), ints(1)[0]), (1,)),
        Case("bool", "Where", 18, (truth, truth[:1], ~truth), reference=True),
        Case("float", "Where", 18, (truth, noise(3, 4), noise(1, 4))),
    ]


CASES = [
    *reduce_cases(),
    *norm_cases(),
    *activation_cases(),
    *pad_cases(),
    *resize_cases(),
    *index_cases(),
    *type_cases(),
    *portable_cases(),
]

# Rewrites that only matter for the newest targets, or that only refuse, have their own tests below.
ELSEWHERE = {"DFT": (20,), "GridSample": (20,), "ScatterElements": (16, 18), "ScatterND": (16, 18)}


PAIRS = [(case, opset) for case in CASES for opset in TARGETS if opset < case.opset]


@pytest.mark.parametrize(("case", "opset"), PAIRS, ids=str)
def test_rewrite_computes_the_same(case: Case, opset: int) -> None:
    model = model_of(case)
    lowered, findings = lower_opset(model, opset, IR[opset])
    assert findings == []
    feeds = feeds_of(case)
    assert (lowered.opset_import[0].version, lowered.ir_version) == (opset, IR[opset])
    same = case.reference and any(node.op_type == case.op for node in lowered.graph.node)
    assert_close(run(lowered, feeds, same), run(model, feeds, case.reference), case.tolerance)


def test_every_rewrite_has_a_case() -> None:
    tested = {(case.op, version) for case in CASES for version in range(14, case.opset + 1)}
    untested = [row for row in REWRITES if row not in tested and row[1] not in ELSEWHERE.get(row[0], ())]
    assert untested == []


def test_every_portable_form_has_a_case() -> None:
    assert set(PORTABLE) <= {case.op for case in portable_cases()}


def test_reshape_to_an_empty_tensor_keeps_allowzero_where_it_may() -> None:
    case = Case("empty", "Reshape", 18, (noise(0, 3), ints(3, 0)), (1,), {"allowzero": 1})
    lowered, findings = lower_opset(model_of(case), 14, 7)
    assert findings == []
    assert run(lowered, feeds_of(case))[0].shape == (3, 0)


def test_every_change_of_an_operator_is_listed() -> None:
    versions: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    unlisted = [
        (op, version)
        for op, found in versions.items()
        for version in found
        if TARGETS[0] < version <= SOURCES[-1] and version > min(found)
        if (op, version) not in REWRITES and op not in WIDENED.get(version, "").split()
    ]
    assert unlisted == []


REFUSED = [
    ("GridSample", 16, (noise(1, 1, 3, 3), noise(1, 2, 2, 2)), (), {}, "has no GridSample"),
    ("BitwiseAnd", 18, (noise(3, dtype=np.int32), noise(3, dtype=np.int32)), (), {}, "has no BitwiseAnd"),
    ("Bernoulli", 15, (np.abs(noise(3)),), (), {}, "has no Bernoulli"),
    ("Pad", 19, (noise(3), ints(1, 1)), (), {"mode": "wrap"}, "computes its sizes"),
    ("Pad", 18, (noise(3), ints(1, 1), None, ints(0)), (), {}, "computes its axes"),
    ("ReduceMax", 18, (noise(3, 2), ints(0)), (), {}, "computes its axes"),
    (
        "Resize",
        18,
        (noise(1, 1, 4, 4), None, None, ints(1, 1, 2, 2)),
        (3,),
        {"antialias": 1, "mode": "linear"},
        "antialias",
    ),
    (
        "Resize",
        18,
        (noise(1, 1, 4, 4), None, None, ints(1, 1, 2, 2)),
        (3,),
        {"keep_aspect_ratio_policy": "not_larger"},
        "aspect",
    ),
    (
        "Resize",
        19,
        (noise(1, 1, 4, 4), None, None, ints(1, 1, 2, 2)),
        (3,),
        {"coordinate_transformation_mode": "half_pixel_symmetric"},
        "half_pixel_symmetric",
    ),
    ("RoiAlign", 16, (noise(1, 1, 4, 4), noise(1, 4), ints(0)), (), {}, "half_pixel"),
    ("ScatterElements", 16, (noise(3), ints(0), noise(1)), (), {"reduction": "add"}, "cannot add"),
    ("ScatterND", 16, (noise(3), ints(0).reshape(1, 1), noise(1)), (), {"reduction": "mul"}, "cannot mul"),
    ("ScatterElements", 18, (noise(3), ints(0), noise(1)), (), {"reduction": "max"}, "cannot max"),
    ("AveragePool", 19, (noise(1, 1, 5, 5),), (), {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
    (
        "LSTM",
        14,
        (noise(2, 4, 3), noise(1, 8, 3), noise(1, 8, 2)),
        (),
        {"hidden_size": 2, "layout": 1},
        "has no layout",
    ),
    ("Reshape", 14, (noise(0, 3), ints(3, 0)), (1,), {"allowzero": 1}, "empty tensor"),
    ("Equal", 19, (np.array(["a"]), np.array(["b"])), (), {}, "does not take tensor(string)"),
]


@pytest.mark.parametrize(("op", "opset", "arrays", "fixed", "attributes", "reason"), REFUSED)
def test_what_an_old_opset_cannot_say_is_a_finding(
    op: str, opset: int, arrays: Any, fixed: Any, attributes: dict[str, Any], reason: str
) -> None:
    outputs = 3 if op == "LSTM" else 1
    _, findings = lower_opset(model_of(Case("refused", op, opset, arrays, fixed, attributes, outputs)), 13, 7)
    assert [finding.op for finding in findings] == [op]
    assert reason in findings[0].reason
    assert "13" in findings[0].reason
    assert findings[0].fix


def test_max_reduction_of_a_scatter_is_refused_at_17_and_kept_at_18() -> None:
    model = model_of(
        Case("max", "ScatterND", 18, (noise(3), ints(0).reshape(1, 1), noise(1)), (), {"reduction": "max"})
    )
    assert lower_opset(model, 18, 8)[1] == []
    assert "cannot max" in lower_opset(model, 17, 8)[1][0].reason


def test_grid_sample_modes_go_back_to_their_old_names() -> None:
    case = Case("modes", "GridSample", 20, (noise(1, 2, 4, 5), noise(1, 3, 3, 2)), (), {"mode": "cubic"})
    lowered, findings = lower_opset(model_of(case), 17, 8)
    assert findings == []
    assert_close(run(lowered, feeds_of(case)), run(model_of(case), feeds_of(case)), 1e-5)
    volume = Case("volume", "GridSample", 20, (noise(1, 1, 2, 2, 2), noise(1, 2, 2, 2, 3)))
    assert "4 dimensions" in lower_opset(model_of(volume), 17, 8)[1][0].reason


def test_dft_axis_goes_back_to_an_attribute() -> None:
    case = Case("axis", "DFT", 20, (noise(2, 8, 3, 1), None, ints(1)[0]), (2,))
    lowered, findings = lower_opset(model_of(case), 17, 8)
    assert findings == []
    assert_close(run(lowered, feeds_of(case)), run(model_of(case), feeds_of(case), True), 1e-4)
    default = Case("default", "DFT", 20, (noise(2, 3, 8, 1),))
    lowered, _ = lower_opset(model_of(default), 17, 8)
    assert_close(run(lowered, feeds_of(default)), run(model_of(default), feeds_of(default), True), 1e-4)


def parsed(text: str) -> Any:
    return onnx.parser.parse_model(text)


NESTED = """<ir_version: 10, opset_import: ["" : 18]>
nested (float[2,3] x, bool flag) => (float[N,M] y) {
    y = If (flag) <
        then_branch = then_graph () => (float[N1,M1] a) <int64[1] axes = {-1}> {
            a = ReduceMax <keepdims: int = 1> (x, axes)
        },
        else_branch = else_graph () => (float[N2,M2] a) { a = Mish (x) }
    >
}"""


def test_subgraphs_are_rewritten() -> None:
    model = parsed(NESTED)
    lowered, findings = lower_opset(model, 13, 7)
    assert findings == []
    for flag in (True, False):
        feeds = {"x": noise(2, 3), "flag": np.array(flag)}
        assert_close(run(lowered, feeds), run(model, feeds), 2e-6)


LOOPED = """<ir_version: 10, opset_import: ["" : 18]>
looped (float[4,6] x, int64 trips) => (float[4,6] y)
<float[6] scale = {1, 2, 3, 4, 5, 6}> {
    y = Loop (trips, , x) <
        body = step (int64 i, bool going, float[4,6] v) => (bool still, float[4,6] w) {
            still = Identity (going)
            u = LayerNormalization <axis: int = -1> (v, scale)
            w = HardSwish (u)
        }
    >
}"""


def test_a_loop_body_sees_the_types_around_it() -> None:
    model = parsed(LOOPED)
    lowered, findings = lower_opset(model, 13, 7)
    assert findings == []
    feeds = {"x": noise(4, 6), "trips": np.array(3)}
    assert_close(run(lowered, feeds), run(model, feeds), 1e-5)


LOCAL = """<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
local (float[2,5] x) => (float[2,5] y) { y = local.twice (x) }
<domain: "local", opset_import: ["" : 18]>
twice (a) => (b) { m = Mish (a)  b = Mish (m) }"""


def test_local_functions_are_inlined() -> None:
    model = parsed(LOCAL)
    lowered, findings = lower_opset(model, 15, 8)
    assert findings == []
    assert not lowered.functions
    assert [entry.domain for entry in lowered.opset_import] == [""]
    assert_close(run(lowered, {"x": noise(2, 5)}), run(model, {"x": noise(2, 5)}), 1e-5)


TRACE = """File "/home/user/net.py", line 7, in forward
    return self.warp(x)
File "/usr/lib/python3/site-packages/torch/nn/functional.py", line 90, in grid_sample
    return torch.grid_sampler(x)"""


def located_model() -> Any:
    case = Case("located", "GridSample", 16, (noise(1, 1, 3, 3), noise(1, 2, 2, 2)))
    model = model_of(case)
    second = model.graph.node.add()
    second.CopyFrom(model.graph.node[0])
    second.output[0] = "other"
    for key, value in (
        ("pkg.torch.onnx.name_scopes", "['', 'net.warp', 'grid_sampler']"),
        ("pkg.torch.onnx.class_hierarchy", "['Net', 'Warp', 'aten.grid_sampler.default']"),
        ("pkg.torch.onnx.stack_trace", TRACE),
    ):
        entry = model.graph.node[0].metadata_props.add()
        entry.key, entry.value = key, value
    return model


def test_findings_name_module_operation_and_line_and_come_all_at_once() -> None:
    model = located_model()
    before = model.SerializeToString()
    lowered, findings = lower_opset(model, 15, 8)
    assert [finding.reason for finding in findings] == ["ONNX opset 15 has no GridSample"] * 2
    assert findings[0].module_path == "net.warp"
    assert findings[0].op == "aten.grid_sampler.default"
    assert findings[0].source_line == "/home/user/net.py:7 return self.warp(x)"
    assert (findings[1].module_path, findings[1].op) == ("", "GridSample")
    assert model.SerializeToString() == before
    assert not lowered.graph.node[0].metadata_props


def test_node_metadata_stays_where_the_ir_version_has_it() -> None:
    lowered, findings = lower_opset(located_model(), 16, 10)
    assert findings == []
    assert lowered.graph.node[0].metadata_props


def test_large_weights_stay_initializers() -> None:
    weight = noise(64, 64)
    case = Case("large", "MatMul", 18, (noise(3, 64), weight), (1,))
    model = model_of(case)
    lowered, findings = lower_opset(model, 13, 7)
    assert findings == []
    assert [value.name for value in lowered.graph.input] == ["in0"]
    assert [tensor.name for tensor in lowered.graph.initializer] == ["in1"]
    assert_close(run(lowered, feeds_of(case)), run(model, feeds_of(case)), 0)


def test_an_initializer_that_is_an_input_too_stays_both() -> None:
    case = Case("override", "MatMul", 18, (noise(3, 64), noise(64, 64)))
    model = model_of(case)
    model.graph.initializer.append(numpy_helper.from_array(noise(64, 64), "in1"))
    lowered, _ = lower_opset(model, 13, 7)
    assert [value.name for value in lowered.graph.input] == ["in0", "in1"]
    assert [tensor.name for tensor in lowered.graph.initializer] == ["in1"]


def test_initializers_that_lost_their_reader_go() -> None:
    lowered, _ = lower_opset(model_of(Case("axes", "ReduceMax", 18, (noise(3), ints(0)), (1,))), 13, 7)
    assert not lowered.graph.initializer


def test_a_model_at_an_older_opset_keeps_it() -> None:
    case = Case("old", "Softmax", 11, (noise(2, 3, 4),), (), {"axis": 1})
    lowered, findings = lower_opset(model_of(case), 15, 8)
    assert findings == []
    assert (lowered.opset_import[0].version, lowered.ir_version) == (11, 8)


def test_foreign_domains_pass_through() -> None:
    model = model_of(Case("foreign", "Mish", 18, (noise(3),)))
    model.graph.node[0].domain = "edgewright"
    model.opset_import.append(helper.make_opsetid("edgewright", 1))
    lowered, findings = lower_opset(model, 15, 8)
    assert findings == []
    assert [node.domain for node in lowered.graph.node] == ["edgewright"]


def test_new_names_do_not_collide() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["" : 18]>
        taken (float[3] y_Softplus) => (float[3] y, float[3] y_Tanh) {
            y = Mish (y_Softplus)
            y_Tanh = Mish (y)
        }"""
    )
    lowered, findings = lower_opset(model, 13, 7)
    assert findings == []
    assert_close(run(lowered, {"y_Softplus": noise(3)}), run(model, {"y_Softplus": noise(3)}), 2e-6)


@pytest.mark.parametrize(("opset", "ir_version", "word"), [(12, 8, "opset"), (19, 8, "opset"), (15, 3, "ir_version")])
def test_arguments_out_of_range_are_named(opset: int, ir_version: int, word: str) -> None:
    with pytest.raises(OptionError, match=word):
        lower_opset(model_of(Case("any", "Relu", 14, (noise(3),))), opset, ir_version)


def test_a_source_that_is_too_new_or_missing_is_named() -> None:
    for version in (6, 24):
        model = model_of(Case("any", "Relu", 14, (noise(3),)))
        model.opset_import[0].version = version
        with pytest.raises(OptionError, match="7 to 23"):
            lower_opset(model, 15, 8)


def test_mixed_types_that_became_allowed_later_are_a_finding() -> None:
    image = noise(1, 2, 3, 3, dtype=np.float16)
    arrays = (image, *[np.ones(2, np.float32)] * 4)
    model = model_of(Case("mixed", "BatchNormalization", 15, arrays, (1, 2, 3, 4)))
    _, findings = lower_opset(model, 14, 7)
    assert "does not mix tensor(float16) and tensor(float)" in findings[0].reason


torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from .models import Calls  # noqa: E402


class Recurrent(nn.Module):
    """Outputs of an LSTM or GRU, without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


class Squeeze(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Any) -> Any:
        gate = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(F.silu(self.down(gate))))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 5, 1, 2, groups=16),
        nn.Hardswish(),
        Squeeze(16),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def attention(x: Any) -> Any:
    heads = x.unflatten(-1, (4, 4)).transpose(1, 2)
    return F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)


def statistics(x: Any) -> Any:
    return x.amax(-1), x.mean((0, 1)), x.std(-1), x.cumsum(1), x.argmax(-1), x.max(), x.amin((1, 2)), x.prod(1)


def parts(x: Any) -> Any:
    return (*torch.chunk(x, 3, -1), *x.split([3, 13], -1), x.tril(-1), x.triu(1), x.flip(1), x[:, ::2, 1:])


def norms(x: Any) -> Any:
    return x.norm(dim=-1), x.logsumexp(-1), F.normalize(x, dim=-1), x.var(0), x.softmax(-1), x.log_softmax(1)


def activations(x: Any) -> Any:
    return F.gelu(x), F.gelu(x, approximate="tanh"), F.hardswish(x), F.mish(x), F.silu(x), F.elu(x), F.relu6(x)


def choices(x: Any) -> Any:
    flat = x > 0
    return (
        torch.where(flat, x, 0),
        flat.any(-1),
        flat.all(1),
        x.clamp(-1, 1),
        x.topk(3).values,
        x.argmax(-1).clamp(1, 4),
    )


def resized(x: Any) -> Any:
    return (
        F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        F.interpolate(x, size=(7, 9), mode="nearest"),
        F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True),
        F.interpolate(x, scale_factor=0.5, mode="bicubic"),
    )


def padded(x: Any) -> Any:
    return tuple(F.pad(x, (1, 2, 3, 1), mode=mode) for mode in ("reflect", "replicate", "circular", "constant"))


def integers(x: Any) -> Any:
    whole = (x * 5).long()
    narrow = whole.int()
    return (
        whole.amax(-1),
        narrow.clamp(-1, 3),
        whole.relu(),
        whole.cumsum(1),
        whole % 3,
        torch.where(x > 0, x > 1, x < -1),
    )


MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "layer_norm": (lambda: nn.LayerNorm((5, 16)), (2, 5, 16)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 5, 3)),
    "rms_norm": (lambda: nn.RMSNorm(16), (2, 5, 16)),
    "instance_norm": (lambda: nn.InstanceNorm2d(4, affine=True), (2, 4, 5, 3)),
    "transformer": (transformer, (2, 5, 16)),
    "convnet": (convnet, (1, 3, 33, 31)),
    "lstm": (lambda: Recurrent(nn.LSTM(16, 8, 2, batch_first=True, bidirectional=True)), (2, 5, 16)),
    "gru": (lambda: Recurrent(nn.GRU(16, 8, batch_first=True)), (2, 5, 16)),
    "attention": (lambda: Calls(attention), (2, 5, 16)),
    "statistics": (lambda: Calls(statistics), (2, 5, 16)),
    "parts": (lambda: Calls(parts), (2, 5, 16)),
    "norms": (lambda: Calls(norms), (2, 5, 16)),
    "activations": (lambda: Calls(activations), (2, 5, 16)),
    "choices": (lambda: Calls(choices), (2, 5, 16)),
    "integers": (lambda: Calls(integers), (2, 5, 16)),
    "neighbours": (lambda: nn.LocalResponseNorm(2), (1, 2, 6, 5)),
    "resized": (lambda: Calls(resized), (1, 2, 6, 5)),
    "padded": (lambda: Calls(padded), (1, 2, 6, 5)),
    "shuffle": (lambda: nn.Sequential(nn.PixelShuffle(2), nn.PixelUnshuffle(2)), (1, 4, 6, 5)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2, 1), nn.PReLU(3)), (1, 2, 6, 5)),
}

# Warnings of torch's exporter that the user's model does not cause.
exporter_warnings = [
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*:UserWarning"),
]


def with_marks(function: Any) -> Any:
    for mark in exporter_warnings:
        function = mark(function)
    return function


@cache
def exported(name: str) -> tuple[Any, dict[str, np.ndarray], list[np.ndarray]]:
    """The dynamo model of a module, its input, and what torch computes."""
    torch.manual_seed(SEED)
    make, shape = MODULES[name]
    module, x = make().eval(), torch.randn(shape)
    with torch.no_grad():
        wanted = module(x)
        program = torch.onnx.export(torch.export.export(module, (x,)), dynamo=True, verbose=False)
    model = program.model_proto
    outputs = wanted if isinstance(wanted, tuple) else (wanted,)
    return model, {model.graph.input[0].name: x.numpy()}, [value.numpy() for value in outputs]


@with_marks
@pytest.mark.parametrize("opset", [13, 15, 17])
@pytest.mark.parametrize("name", MODULES)
def test_module_computes_what_torch_computes(name: str, opset: int) -> None:
    model, feeds, wanted = exported(name)
    lowered, findings = lower_opset(model, opset, IR[opset])
    assert findings == []
    assert lowered.opset_import[0].version == opset
    assert_close(run(lowered, feeds), wanted, 2e-4)


@with_marks
@pytest.mark.parametrize("name", ["transformer", "convnet", "parts", "group_norm"])
def test_an_open_batch_stays_open(name: str) -> None:
    make, shape = MODULES[name]
    torch.manual_seed(SEED)
    module, x = make().eval(), torch.randn(2, *shape[1:])
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    lowered, findings = lower_opset(model, 13, 7)
    assert findings == []
    more = torch.randn(5, *shape[1:])
    with torch.no_grad():
        wanted = module(more)
    outputs = wanted if isinstance(wanted, tuple) else (wanted,)
    assert_close(run(lowered, {lowered.graph.input[0].name: more.numpy()}), [o.numpy() for o in outputs], 2e-4)


@with_marks
def test_a_module_that_samples_a_grid_is_named_with_its_line() -> None:
    class Warp(nn.Module):
        def forward(self, x: Any) -> Any:
            return F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.warp = Warp()

        def forward(self, x: Any) -> Any:
            return self.warp(x) + 1

    program = torch.onnx.export(torch.export.export(Net(), (torch.randn(1, 2, 4, 4),)), dynamo=True, verbose=False)
    _, findings = lower_opset(program.model_proto, 15, 8)
    assert [(f.module_path, f.reason) for f in findings] == [("warp", "ONNX opset 15 has no GridSample")]
    assert "F.grid_sample(" in findings[0].source_line
    assert Path(__file__).name in findings[0].source_line


def run_old(python: str, folder: Path) -> str:
    done = subprocess.run(
        [python, str(RUN_MODELS), str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@with_marks
def test_onnxruntime_1_10_runs_what_was_lowered(tmp_path: Path) -> None:
    python = os.environ.get("EDGEWRIGHT_ORT110_PYTHON")
    if not python:
        pytest.skip("EDGEWRIGHT_ORT110_PYTHON does not name a Python that has onnxruntime 1.10")
    wanted: dict[str, tuple[list[np.ndarray], float]] = {}
    for opset in (13, 15):
        for case in CASES:
            if opset < case.opset:
                save_old(tmp_path, f"{case}-{opset}", model_of(case), feeds_of(case), opset)
                wanted[f"{case}-{opset}"] = (run(model_of(case), feeds_of(case), case.reference), case.tolerance)
        for name in MODULES:
            model, feeds, outputs = exported(name)
            save_old(tmp_path, f"{name}-{opset}", model, feeds, opset)
            wanted[f"{name}-{opset}"] = (outputs, 2e-4)
    assert run_old(python, tmp_path).startswith("1.10.")
    failed = {}
    for stem, (outputs, tolerance) in wanted.items():
        error = tmp_path / f"{stem}.error"
        if error.exists():
            failed[stem] = error.read_text()
            continue
        with np.load(tmp_path / f"{stem}.out.npz") as arrays:
            try:
                assert_close([arrays[key] for key in arrays.files], outputs, tolerance)
            except AssertionError as difference:
                failed[stem] = str(difference)
    assert not failed, "\n".join(f"{stem}: {why}" for stem, why in failed.items())


def save_old(folder: Path, stem: str, model: Any, feeds: dict[str, np.ndarray], opset: int) -> None:
    lowered, findings = lower_opset(model, opset, IR[opset])
    assert findings == []
    onnx.save(lowered, folder / f"{stem}.onnx")
    np.savez(folder / f"{stem}.in.npz", **feeds)
