"""Which layers with zeros run by sparse kernels, and why: rows of the manifest beside what a session of the bundle runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdk
from device_profiles import device
from device_profiles.errors import LoweringError
from edgewright_export.decided import decided, with_decisions
from edgewright_export.registry import target_named
from edgewright_runtime import kernels
from edgewright_runtime.bundle import Bounds, Entry, Lowered, TensorSpec
from edgewright_runtime.bundle.lowered import Decision
from edgewright_runtime.bundle.manifest import Manifest, SparseLayer
from edgewright_runtime.engines import native
from edgewright_runtime.native_library import Model
from sdk.cli.export import summary

from .native.test_sparse_linear import Linear
from .test_quantization import drawn
from .test_weight_sparsity import IMAGE, mobilenet

pytestmark = pytest.mark.usefixtures("no_speed_asked")
WeightSparsity = sdk.methods.WeightSparsity
VECTORS = kernels.isas()[-1]
HERE = device("host")
needs_vectors = pytest.mark.skipif(VECTORS == "scalar", reason="portable code has other sparse kernels")


class Mixed(nn.Module):
    """Each way in which a layer is called: as a module, twice, by attention and by a function, with a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.conv = nn.Sequential(nn.Conv1d(32, 64, 3, bias=False), nn.BatchNorm1d(64), nn.ReLU())
        self.twice, self.norm = nn.Linear(64, 64), nn.BatchNorm1d(18)
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.attention(x, x, x)[0].transpose(1, 2)).transpose(1, 2)
        x = self.norm(self.twice(torch.relu(self.twice(x))))
        return nn.functional.linear(x, self.weight)


def exported(
    tmp_path: Path, device: str = "host:native", module: Any = None, given: Any = None, then: Any = (), more: Any = None, **options: Any
) -> sdk.Bundle:
    torch.manual_seed(0)
    module, given = module or Mixed().eval(), given or drawn(1, 20, 32, count=4)
    method = WeightSparsity(**{"sparsity": 0.75, "allocation": "uniform", "steps": 0, **options})
    paths = {"output": tmp_path / "m.edge", "example_inputs": given[0], "calibration": given}
    return sdk.export(module, device, methods=[method, *then], **paths, **(more or {}))


def products_of(bundle: sdk.Bundle) -> list[str | None]:
    """Kernels of what a session of the bundle multiplies by constants, in its order."""
    steps = [step for step in Model(bundle.path).session().steps() if step.op != "Attention" and step.kernel]
    return [step.kernel for step in steps if any(op in step.kernel for op in ("gemm", "spmm", "depthwise"))]


# Through the whole export.


@needs_vectors
def test_every_layer_says_what_runs_it(tmp_path, capsys):
    bundle = exported(tmp_path)
    sparse, dense = f"edge_spmm_f32_4x1_{VECTORS}", f"edge_gemm_f32_{VECTORS}"
    assert [row.path for row in bundle.manifest.sparse] == ["attention", "attention", "conv.0", "twice", "twice", ""]
    assert [row.kernel for row in bundle.manifest.sparse] == products_of(bundle)
    count = sum(row.kernel == sparse for row in bundle.manifest.sparse)
    assert count == 5 or VECTORS != "avx2", "the last layer of attention is too small"
    for row in bundle.manifest.sparse:
        assert row.isa == VECTORS and row.why_dense is None and row.runs == ("sparse" if row.sparse_cost < 0.97 else "dense")
        assert row.kernel == (sparse if row.runs == "sparse" else dense)
        short = ", too little less to be sure of" if row.runs == "dense" and row.sparse_cost < 1 else ""
        assert row.why == f"a sparse kernel costs {row.sparse_cost:.2f} times what the dense one does{short}: estimated, as decided on {VECTORS}"
    assert f"; sparse kernels run {count} of 6 layers with zeros, as decided on {VECTORS}\n" in capsys.readouterr().err
    page = bundle.report(tmp_path / "r.html").read_text()
    assert count and sparse in page and "sparse kernel <small" in page and "decides there anew" in page and row.why in page
    assert json.loads(json.dumps(summary(bundle)))["sparse"][0]["kernel"] == bundle.manifest.sparse[0].kernel
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest


@needs_vectors
def test_a_few_rows_decide_where_there_may_be_few(tmp_path):
    sizes = {"more": {"dynamic_shapes": ({1: torch.export.Dim("t", min=4, max=192)},)}, "sparsity": 0.5}
    module, given = nn.Sequential(nn.Linear(256, 256)).eval(), drawn(1, 192, 256, count=2)
    (fixed,) = exported(tmp_path, module=module, given=given, sparsity=0.5).manifest.sparse
    (open_,) = exported(tmp_path, module=module, given=given, **sizes).manifest.sparse
    assert (fixed.runs, open_.runs) == ("sparse", "dense")
    assert f"{open_.sparse_cost:.2f} times what the dense one does, at the input sizes where that gains least" in open_.why


@needs_vectors
def test_a_layer_without_zeros_among_sparse_ones(tmp_path):
    bundle = exported(tmp_path, module=mobilenet(), given=drawn(*IMAGE, count=4))
    rows = {row.path: row for row in bundle.manifest.sparse}
    assert [row.kernel for row in bundle.manifest.sparse] == products_of(bundle)
    assert rows["features.10.0"].runs == "sparse" and rows["features.10.0"].zeros == 0.75
    assert rows["features.4.0"].zeros == 0 and rows["features.4.0"].runs == "sparse"
    assert rows["features.4.0"].why.startswith("it has no zeros, but with the layers around it a sparse kernel costs 0.")
    assert (rows["features.0.0"].runs, rows["features.0.0"].why) == ("dense", "it has no zeros")
    assert rows["head"].runs == "dense" and rows["head"].why_dense == "10 outputs are no multiple of 4"


@pytest.mark.parametrize("then", [sdk.methods.PTQ(), sdk.methods.PTQ(weight_bits=4, activations="float")], ids=["int8", "4 bits"])
def test_integers(tmp_path, then):
    bundle, formats = exported(tmp_path, then=[then], pattern=(4, 4)), {row.name: row.format for row in kernels.rows()}
    assert [row.kernel for row in bundle.manifest.sparse] == products_of(bundle)
    for row in bundle.manifest.sparse:
        assert row.runs == ("dense" if formats[row.kernel] == "dense" else "sparse")
        assert row.why == f"the engine has no sparse kernel that does what {row.kernel} does" or row.sparse_cost is not None
    if then.weight_bits == 8 and VECTORS == "avx2":
        assert "sparse" in {row.runs for row in bundle.manifest.sparse}


def test_another_engine_multiplies_zeros(tmp_path, capsys):
    bundle = exported(tmp_path, "host:onnxruntime", module=mobilenet(), given=drawn(*IMAGE, count=4), subgraph=False)
    for row in bundle.manifest.sparse:
        assert (row.runs, row.kernel, row.isa, row.sparse_cost) == ("dense", None, None, None)
        assert row.why == ("onnxruntime multiplies zeros as it does other numbers" if row.zeros else "it has no zeros")
    assert "sparse kernels" not in capsys.readouterr().err
    page = bundle.report(tmp_path / "r.html").read_text()
    assert "onnxruntime multiplies zeros as it does other numbers</small>" in page and "Kernels of the native engine" not in page


@needs_vectors
@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_our_kernels_inside_another_engine(tmp_path, engine, capsys):
    pytest.importorskip({"onnxruntime": "onnxruntime", "litert": "ai_edge_litert"}[engine])
    given = drawn(*IMAGE, count=4)
    alone = exported(tmp_path, module=mobilenet(), given=given)
    capsys.readouterr()
    inside = exported(tmp_path, f"host:{engine}", module=mobilenet(), given=given, subgraph=True)
    assert inside.manifest.engine.requires["subgraph"] == 1 and inside.manifest.sparse == alone.manifest.sparse
    assert "sparse kernels run 3 of 3 layers" in capsys.readouterr().err
    page = inside.report(tmp_path / "r.html").read_text()
    assert f"which runs the model as one operator of {engine}" in page


# Rows and files that do not fit each other.


def row(path: str, zeros: float = 0.5) -> SparseLayer:
    return SparseLayer(path, "linear", "(4, 1)", zeros, 64, 64, None)


def decision(*paths: str, **fields: Any) -> Decision:
    return Decision(**{"paths": paths, "kernel": "k_avx2", "isa": "avx2", "is_sparse": True, "has_sparse": True, "sparse_cost": 0.5, **fields})


def files(*decisions: Decision, shape: Any = (1,)) -> Lowered:
    spec = TensorSpec("x", "float32", shape, {name: Bounds(1, 9) for name in shape if isinstance(name, str)}, "x")
    return Lowered(Path(), "onnx", "native", (), {"main": Entry("", (spec,), ())}, {}, {}, decisions=decisions)


def test_only_what_can_be_told_apart_is_told():
    rows = [row("a"), row("b"), row("a"), row("gone")]
    found = decided(rows, files(decision("a", kernel="1"), decision("a.norm", "b"), decision("a"), decision("other")), HERE)
    assert [(one.runs, one.kernel) for one in found] == [("sparse", "1"), ("sparse", "k_avx2"), ("sparse", "k_avx2"), (None, None)]
    assert found[3].why == "the engine has no step that is this layer and nothing else"
    found = decided(rows, files(decision("a"), decision("b"), decision("b")), HERE)
    assert [one.runs for one in found] == [None, None, None, None]
    assert decided([], files(), HERE) == ()


@pytest.mark.parametrize(
    ("told", "zeros", "why"),
    [
        ({"sparse_cost": None}, 0.5, "a sparse kernel is faster than the dense one: estimated, as decided on avx2"),
        ({"sparse_cost": None, "is_sparse": False}, 0.5, "a sparse kernel is not faster than the dense one: estimated, as decided on avx2"),
        ({"sparse_cost": 0.98, "is_sparse": False}, 0.5, "a sparse kernel costs 0.98 times what the dense one does, too little less to be sure of: estimated, as decided on avx2"),
        ({"has_sparse": False, "is_sparse": False}, 0.5, "the engine has no sparse kernel that does what k_avx2 does"),
        ({"has_sparse": False, "is_sparse": False, "kernel": None}, 0.5, "the engine has no sparse kernel that does what portable code does"),
        ({"is_sparse": False}, 0.0, "it has no zeros"),
    ],
)
def test_reasons(told, zeros, why):
    (found,) = decided([row("a", zeros)], files(decision("a", **told)), HERE)
    assert found.why == why and found == replace(row("a", zeros), runs=found.runs, kernel=found.kernel, isa=found.isa, sparse_cost=found.sparse_cost, why=why)


def test_a_file_that_the_engine_refuses(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"none")
    broken = Lowered(tmp_path, "onnx", "native", ("model.onnx",), {"main": Entry("model.onnx", (), ())}, {}, {})
    with pytest.raises(LoweringError, match="native cannot open it"):
        with_decisions(broken, target_named("native").preload)


@pytest.mark.parametrize("kept", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("isa", kernels.isas())
def test_what_the_engine_decided(tmp_path, isa, kept, monkeypatch):
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
    (tmp_path / "model.onnx").write_bytes(Linear.drawn(256, 256, kept).content(3))
    entries = {"main": Entry("model.onnx", (TensorSpec("x", "float32", (3, 256), {}, "x"),), ())}
    (node,) = [step.node for step in Model(tmp_path / "model.onnx").session().steps() if step.kernel]
    lowered = Lowered(tmp_path, "onnx", "native", ("model.onnx",), entries, {}, {}, modules={node: ("a",), "no such step": ("b",)})
    (found,) = native.decisions(lowered)
    assert kernels.chosen() == isa
    assert found.paths == ("a",) and found.isa == isa and found.has_sparse and found.kernel.endswith(isa)
    assert found.is_sparse is (kept == 0.1) and (found.sparse_cost is None) is (kept == 1)


def test_an_instruction_set_that_is_not_there(monkeypatch):
    monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", "none")
    with pytest.raises(ValueError, match="there are scalar"):
        kernels.chosen()


def test_rows_of_older_bundles(tmp_path):
    plain = json.loads(exported(tmp_path, module=nn.Linear(16, 16).eval(), given=drawn(1, 16)).manifest.to_json())
    for one in plain["sparse"]:
        for name in ("runs", "kernel", "isa", "sparse_cost", "why"):
            del one[name]
    (found,) = Manifest.from_json(json.dumps({**plain, "schema": "1.4"}).encode()).sparse
    assert (found.runs, found.kernel, found.isa, found.sparse_cost, found.why) == (None, None, None, None, "")
