"""``edgewright bench kernels``: shape files, choices, and what a result says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgewright_runtime import kernels
from sdk import DependencyError, OptionError
from sdk.cli import main
from sdk.kernel_benchmark import DEFAULT, DepthwiseShape, GemmShape, bench_kernels, read_shapes, shape_names

SMALL = """
network = "A small one"
source = "made up"

[[shapes]]
name = "product"
op = "gemm"
m = 100
n = 9
k = 5

[[shapes]]
name = "window"
op = "depthwise"
channels = 3
width = 7
height = 5
kernel = 3
stride = 2
"""
BEST = kernels.isas()[-1]


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def edgewright(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["bench", "kernels", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_the_table_has_a_row_for_each_shape_and_kernel(edgewright, small):
    code, out, err = edgewright("--shapes", small, "--seconds", "0")
    isas = [isa for isa in kernels.isas() if isa != "scalar"] or ["scalar"]
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if line.startswith("small ")]
    names = {f"edge_{op}_{dtype}_{isa}" for op in ("gemm", "depthwise") for dtype in kernels.DTYPES for isa in isas}
    assert {row[2] for row in rows} == names and len(rows) == len(names)
    assert "ratio" not in out and "GOP/s" in out and "measured" in out and "1 thread" in out
    assert all(0 < float(row[3]) <= float(row[4]) <= float(row[5]) for row in rows)


def test_scalar_is_timed_on_request_and_is_the_base_of_the_ratios(edgewright, small):
    code, out, _ = edgewright("--shapes", small, "--seconds", "0", "--isa", BEST, "--isa", "scalar", "--json")
    rows = json.loads(out)["rows"]
    assert code == 0 and [row["isa"] for row in rows] == ["scalar"] * 2 + [BEST] * 2 + ["scalar"] * 2 + [BEST] * 2
    assert [row["dtype"] for row in rows] == ["f32", "s8"] * 4
    assert [row["ratio"] for row in rows if row["isa"] == "scalar"] == [1] * 4
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert "ratio" in edgewright("--shapes", small, "--seconds", "0", "--isa", "scalar")[1]


def test_a_result_file_says_where_it_was_taken(edgewright, small, tmp_path):
    chosen = ("--isa", BEST, "--dtype", "f32")
    code, _, _ = edgewright("--shapes", small, "--seconds", "0.001", *chosen, "-o", tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert code == 0 and (result["kind"], result["threads"], result["seconds"]) == ("measured", 1, 0.001)
    assert result["machine"]["processor"] and result["versions"]["numpy"] and result["date"] and "commit" in result
    product, window = result["rows"]
    assert product["shape"] == {"name": "product", "op": "gemm", "m": 100, "n": 9, "k": 5}
    assert (product["operations"], window["operations"]) == (2 * 100 * 9 * 5, 2 * 3 * 4 * 3 * 9)
    for row in result["rows"]:
        assert row["samples"] >= 10 and row["ratio"] is None
        assert row["min_s"] <= row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["operations_per_s"] == row["operations"] / row["median_s"]
    assert window["calls"] == 3 and window["calling_s"] > 0
    assert [file["network"] for file in result["files"]] == ["A small one"]
    code, _, err = edgewright("--shapes", small, "--seconds", "0", "-o", tmp_path / "none" / "r.json")
    assert code == 1 and "OutputError" in err


def test_sparse_products_are_timed_beside_dense_ones(edgewright, small):
    chosen = ("--shapes", small, "--seconds", "0", "--isa", BEST, "--sparsity", "0.5", "--sparsity", "0.9")
    rows = json.loads(edgewright(*chosen, "--json")[1])["rows"]
    sparse = [row for row in rows if row["sparsity"] is not None]
    names = [row.name for row in kernels.rows() if row.isa == BEST and (row.op == "spmm" or row.format == "blocks_4x4")]
    assert {f"edge_spmm_f32_{block}_{BEST}" for block in ("1x1", "4x1")} <= set(names)
    assert [(row["kernel"], row["sparsity"]) for row in sparse] == [(name, share) for name in names for share in (0.5, 0.9)]
    assert all(row["over_dense_low"] <= row["over_dense"] <= row["over_dense_high"] for row in sparse)
    assert all(row["operations"] == 2 * 100 * 9 * 5 and row["shape"]["name"] == "product" for row in sparse)
    assert all(row["over_dense"] is None for row in rows if row["sparsity"] is None)
    code, out, _ = edgewright(*chosen)
    assert code == 0 and "x dense" in out and "90%" in out


@pytest.mark.parametrize("share", ["80", "-0.1", "nan", "inf"])
def test_a_sparsity_that_is_no_share_is_refused(edgewright, small, share):
    code, _, err = edgewright("--shapes", small, "--seconds", "0", "--sparsity", share)
    assert code == 1 and f"OptionError: sparsity {float(share)!r} is no share from 0 to 1" in err


def test_what_is_not_there_is_refused_with_what_is(edgewright, small):
    code, _, err = edgewright("--shapes", "nothing", "--seconds", "0")
    assert code == 1 and "OptionError: no shapes 'nothing'" in err and all(name in err for name in shape_names())
    code, _, err = edgewright("--shapes", "nothing.toml", "--seconds", "0")
    assert code == 1 and "OptionError: no shapes 'nothing.toml'" in err
    code, _, err = edgewright("--shapes", small, "--isa", "nonsense", "--seconds", "0")
    assert code == 1 and "OptionError: no instruction set 'nonsense'" in err and ", ".join(kernels.isas()) in err
    code, _, err = edgewright("--shapes", small, "--dtype", "s4", "--seconds", "0")
    assert code == 1 and "OptionError: no dtype 's4'" in err and "f32, s8" in err
    code, _, err = edgewright("--seconds", "-1")
    assert code == 1 and "OptionError: --seconds" in err


def test_one_dtype_is_timed_on_request_and_only_on_shapes_that_fit(edgewright, small):
    path = Path(small)
    window = SMALL[SMALL.rindex("[[shapes]]") :]
    path.write_text(SMALL + window.replace("window", "large").replace("kernel = 3", "kernel = 9"))
    code, out, _ = edgewright("--shapes", small, "--seconds", "0", "--isa", BEST, "--dtype", "s8", "--json")
    rows = json.loads(out)["rows"]
    assert code == 0 and [(row["shape"]["name"], row["dtype"]) for row in rows] == [("product", "s8"), ("window", "s8")]
    out = edgewright("--shapes", small, "--seconds", "0", "--isa", BEST, "--json")[1]
    assert [row["shape"]["name"] for row in json.loads(out)["rows"]] == ["product"] * 2 + ["window"] * 2 + ["large"]


def test_without_the_library_the_remedy_is_told(small, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEWRIGHT_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(DependencyError, match="pip install"):
        bench_kernels([small], [], 0)


def test_a_shape_file_tells_all_its_mistakes(tmp_path):
    text = SMALL + '[[shapes]]\nname = "window"\nop = "gemm"\nm = 0\nn = 1\nk = 1\n'
    text += '[[shapes]]\nname = "x"\nop = "gemm"\nm = "1"\nn = 1\nj = 1\n[[shapes]]\nname = "y"\nop = "conv"\n'
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("source =", "origin ="))
    with pytest.raises(OptionError) as caught:
        read_shapes(str(path))
    said = str(caught.value)
    for words in (
        "wrong.toml", "network and source", "'origin'", "shapes[2]: m must be positive", "'window' is there twice",
        "shapes[3]", "expected int", "$.k", "'conv'", "gemm, depthwise",
    ):  # fmt: skip
        assert words in said
    for text in ("network = [", 'network = "a"\nsource = "b"\n', 'network = "a"\nsource = "b"\nshapes = 3\n'):
        path.write_text(text)
        with pytest.raises(OptionError, match="wrong.toml"):
            read_shapes(str(path))


NETWORKS = (
    "bert_base", "efficientnet_lite0", "llama_1b", "minilm", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "vit_small",
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_our_shape_files_are_valid(name):
    assert name in shape_names()
    file = read_shapes(name)
    assert file.name == name and file.network and file.source and len(file.shapes) >= 6


def test_the_help_names_every_network(edgewright):
    code, out, _ = edgewright("--help")
    assert code == 0 and tuple(shape_names()) == NETWORKS and all(f"  {name} " in out for name in NETWORKS)
    assert f"[default: {DEFAULT}]" in out and DEFAULT in NETWORKS


def test_a_network_and_a_share_are_timed_once_however_often_they_are_named(edgewright, small, tmp_path):
    twice = ("--shapes", small, "--shapes", small, "--sparsity", "0.5", "--sparsity", "0.5")
    rows = json.loads(edgewright(*twice, "--seconds", "0", "--isa", BEST, "--dtype", "f32", "--json")[1])["rows"]
    assert [row["format"] for row in rows] == ["dense", "blocks_1x1", "blocks_4x1", "dense"]
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "small.toml"
    other.write_text(SMALL)
    code, _, err = edgewright("--shapes", small, "--shapes", other)
    assert code == 1 and "OptionError: more than one shape file is named 'small'" in err


LARGE = ("llama_1b",)


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in NETWORKS])
def test_every_shape_of_ours_can_be_prepared(name, dtype):
    """Few bytes have fewer values."""
    for shape in read_shapes(name).shapes:
        kernel = kernels.find(shape.op, BEST, dtype)
        prepared = shape.prepare(kernel)
        prepared()
        assert shape.fits(kernel) and np.isfinite(prepared.out).all() and (prepared.out != 0).any()
        assert dtype == "f32" or len(np.unique(prepared.out)) > min(200, prepared.out.size / 3)


@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_results_of_small_shapes_have_the_right_size(dtype):
    kernel = {op: kernels.find(op, BEST, dtype) for op in ("gemm", "depthwise")}
    assert GemmShape("", "gemm", 3, 4, 5).prepare(kernel["gemm"]).out.shape == (3, 4)
    for size, out in ((7, 4), (8, 4)):
        shape = DepthwiseShape("", "depthwise", 2, size, size, 5, 2)
        assert shape.prepare(kernel["depthwise"]).out.shape == (out, out, 2)
