"""ONNX's own node tests on the native engine: every case whose operators the engine lists must pass."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

from edgewright_runtime import kernels, native_library
from edgewright_runtime.engines.native import OnnxBackend
from tests.native import case_file, programs

EXCEPT = {
    "test_training_dropout": "drops at random",
    "test_attention_4d_causal_fp16_expanded": "its values come from a softmax that rounds to float16 at every step",
}
"""Beginnings of names, and why those cases cannot be met."""


def listed() -> dict[tuple[str, str], list[tuple[int, int, tuple[np.dtype, ...]]]]:
    """Rows of the engine by domain and name."""
    rows: dict[tuple[str, str], list[tuple[int, int, tuple[np.dtype, ...]]]] = {}
    for domain, name, first, last, dtypes in native_library.operators():
        rows.setdefault((domain, name), []).append((first, last, dtypes))
    return rows


def refusal(case, rows) -> str | None:
    """Why the engine does not list what a case needs; None: it must pass."""
    for name, reason in EXCEPT.items():
        if case.name.startswith(name):
            return reason
    model = case.model
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    types = {}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return f"{kind.replace('_type', '')} values"
        types[value.name] = value.type.tensor_type.elem_type
    for tensor in model.graph.initializer:
        types[tensor.name] = tensor.data_type
    for number in types.values():
        name = onnx.TensorProto.DataType.Name(number)
        if name != "UNDEFINED" and number not in native_library.DTYPES:
            return f"dtype {name}"
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = opsets.get(domain, 0)
        row = next((r for r in rows.get((domain, node.op_type), ()) if r[0] <= version <= r[1]), None)
        if row is None:
            return f"operator {node.op_type}"
        first = next((i for i in node.input if i), None) or (node.output[0] if node.output else None)
        if first in types and types[first]:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(types[first])
            if dtype not in row[2]:
                return f"operator {node.op_type} for {dtype}"
    return None


def array(value) -> np.ndarray:
    """Cases hold arrays, and messages for types that numpy once did not have."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


ROWS = listed()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    CASES = list(collect_testcases())
RUN = [case for case in CASES if refusal(case, ROWS) is None]


@pytest.mark.parametrize("case", RUN, ids=lambda case: case.name)
def test_node(case):
    prepared = OnnxBackend.prepare(case.model)
    for inputs, expected in case.data_sets:
        actual = prepared.run([array(value) for value in inputs])
        assert len(actual) == len(expected)
        for got, wanted in zip(actual, expected, strict=True):
            wanted = array(wanted)
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)


def test_enough_is_listed():
    operators = {node.op_type for case in RUN for node in case.model.graph.node}
    assert len(operators) >= 90
    assert len(RUN) >= 900


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """``run_cases.c`` for this machine, and its file of cases."""
    folder = tmp_path_factory.mktemp("cases")
    assert case_file.write(folder / "cases", RUN) == sum(len(case.data_sets) for case in RUN)
    return programs.build("run_cases", folder), folder / "cases"


@pytest.mark.parametrize("isa", kernels.isas())
def test_every_node_with_open_and_with_constant_inputs_in_each_instruction_set(isa, runner):
    found = programs.run(*runner, EDGEWRIGHT_FORCE_ISA=isa)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1:] == [f"{len(RUN)} cases, 0 failed"], found.stdout + found.stderr
