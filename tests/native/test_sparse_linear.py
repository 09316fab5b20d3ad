"""Linear layers whose weights are mostly zeros, beside float64: any rows, any storage, what follows them, NaN, threads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import helper

from edgewright_runtime import kernels
from edgewright_runtime.native_library import Model
from tests.native.small_models import model

ISAS = kernels.isas()
BLOCKS, SINGLE, DENSE = "edge_spmm_f32_4x1", "edge_spmm_f32_1x1", "edge_gemm_f32"
ROWS = (1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 24, 25, 33, 64, 65, 100, 197)


class Linear(NamedTuple):
    """x @ w.T + bias as the exporter writes it: turned (Gemm, of two axes) or not (MatMul and Add)."""

    w: np.ndarray
    bias: np.ndarray

    @classmethod
    def drawn(cls, outputs: int, depth: int, kept: float = 0.1, rows: int = 4) -> Linear:
        """Of the weights so large a share stays, in blocks of so many outputs."""
        draw = np.random.default_rng([outputs, depth, rows])
        blocks = draw.random((-(-outputs // rows), depth)) < kept
        w = draw.standard_normal((outputs, depth)) * np.repeat(blocks, rows, axis=0)[:outputs]
        return cls(w.astype(np.float32), draw.standard_normal(outputs).astype(np.float32))

    def content(
        self, *leading: int | str, turned: bool = False, bias: bool = True, then: Any = (), more: Any = (), pad: int = 0
    ) -> bytes:
        """The file: then, nodes that follow; more, leading axes of what they add; pad: bytes before everything else."""
        outputs, depth = self.w.shape
        constants = {"pad": np.zeros(pad, np.uint8)} if pad else {}
        constants |= {"w": self.w if turned else np.ascontiguousarray(self.w.T)} | ({"b": self.bias} if bias else {})
        nodes = [helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["v0"], transB=1)]
        if not turned:
            nodes = [helper.make_node("MatMul", ["x", "w"], ["m" if bias else "v0"])]
            nodes += [helper.make_node("Add", ["b", "m"], ["v0"])] if bias else []
        last = "v0"
        for kind, *others in then:
            nodes.append(helper.make_node(kind, [last if one == "" else one for one in others or [""]], [f"v{len(nodes)}"]))
            last = nodes[-1].output[0]
        inputs = {"x": (*leading, depth), **({"more": (*more, outputs)} if more else {})}
        return model(nodes, inputs, [last], constants)

    def exact(self, x: np.ndarray, bias: bool = True) -> np.ndarray:
        return x.astype(np.float64) @ self.w.T.astype(np.float64) + (self.bias if bias else 0)


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def kernels_of(session: Any, isa: str) -> list[str]:
    return [step.kernel.removesuffix(f"_{isa}") for step in session.steps() if step.kernel]


def compare(content: bytes, given: list[np.ndarray], expected: np.ndarray, monkeypatch: Any, ran: str | None = BLOCKS) -> None:
    """On every instruction set, with one thread and with three; ran: by which kernel those with vectors do."""
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        found = []
        for threads in (1, 3):
            session = Model(content).session(threads=threads)
            found.append(session.run(given)[0])
            assert ran is None or isa == "scalar" or kernels_of(session, isa) == [ran]
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max(initial=0)))
        np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_any_number_of_rows(turned, bias, monkeypatch):
    layer = Linear.drawn(90, 130, 0.05)
    for rows in ROWS:
        x = values(rows, 130)
        compare(layer.content(rows, turned=turned, bias=bias), [x], layer.exact(x, bias), monkeypatch)


@pytest.mark.parametrize("rows", [1, 40])
def test_single_weights(rows, monkeypatch):
    for turned in (False, True):
        layer, x = Linear.drawn(90, 1030, 0.1, rows=1), values(rows, 1030)
        compare(layer.content(rows, turned=turned), [x], layer.exact(x), monkeypatch, SINGLE)


@pytest.mark.parametrize("outputs", [1, 2, 3, 5, 63, 65, 67])
@pytest.mark.parametrize("depth", [1, 3, 63, 1027])
def test_odd_sizes(outputs, depth, monkeypatch):
    for rows, side in ((1, 4), (3, 1), (30, 4), (9, 1)):
        layer, x = Linear.drawn(outputs, depth, 0.05, side), values(rows, depth)
        compare(layer.content(rows), [x], layer.exact(x), monkeypatch, None)


@pytest.mark.parametrize("leading", [(), (1, 1), (2, 3, 5), (1, 20), (1, 0), (0, 4)])
def test_leading_axes(leading, monkeypatch):
    layer, x = Linear.drawn(40, 64), values(*leading, 64)
    compare(layer.content(*leading), [x], layer.exact(x), monkeypatch)


@pytest.mark.parametrize("rows", [1, 3, 41])
@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Tanh"])
def test_activations(rows, kind, monkeypatch):
    layer, x = Linear.drawn(90, 64), values(rows, 64)
    exact = layer.exact(x)
    wanted = {"Relu": np.maximum(exact, 0), "Tanh": np.tanh(exact), "Sigmoid": 1 / (1 + np.exp(-exact))}[kind]
    compare(layer.content(rows, then=[(kind,)]), [x], wanted, monkeypatch)


@pytest.mark.parametrize("rows", [1, 3, 41])
def test_a_residual_sum_and_an_activation(rows, monkeypatch):
    layer, x, more = Linear.drawn(90, 64, 0.05), values(2, rows, 64), values(2, rows, 90)
    content = layer.content(2, rows, then=[("Add", "", "more"), ("Relu", "")], more=(2, rows))
    compare(content, [x, more], np.maximum(layer.exact(x) + more, 0), monkeypatch)


def test_more_rows_than_are_turned_at_once(monkeypatch):
    layer, x, more = Linear.drawn(70, 1030, 0.05), values(331, 1030), values(331, 70)
    content = layer.content(331, then=[("Add", "", "more")], more=(331,))
    compare(content, [x, more], layer.exact(x) + more, monkeypatch)


@pytest.mark.parametrize(("rows", "kept", "side"), [(1, 0.3, 4), (3, 0.2, 4), (1, 0.12, 1), (70, 0.05, 4), (70, 0.05, 1)])
def test_products_that_are_worth_several_threads(rows, kept, side, monkeypatch):
    layer, x = Linear.drawn(1001, 1030, kept, side), values(rows, 1030)
    ran = BLOCKS if side == 4 else SINGLE
    compare(layer.content(rows, then=[("Tanh",)]), [x], np.tanh(layer.exact(x)), monkeypatch, ran)


def test_weights_of_zeros_alone_and_outputs_without_any(monkeypatch):
    for rows in (1, 40):
        x, layer = values(rows, 64), Linear.drawn(30, 64)
        layer.w[3:21] = 0
        compare(layer.content(rows), [x], layer.exact(x), monkeypatch)
        layer.w[...] = 0
        compare(layer.content(rows), [x], layer.exact(x), monkeypatch, None)


@pytest.mark.parametrize("kept", [1.0, 0.9])
def test_dense_weights_stay_dense(kept, monkeypatch):
    for rows in (1, 5, 40):
        layer, x = Linear.drawn(90, 130, kept), values(rows, 130)
        compare(layer.content(rows), [x], layer.exact(x), monkeypatch, DENSE)


def test_nan_and_infinity_reach_what_reads_them(monkeypatch):
    for rows, value in ((1, np.nan), (3, np.inf), (40, np.nan), (40, -np.inf)):
        layer, x = Linear.drawn(40, 64), values(rows, 64)
        place = np.flatnonzero(layer.w[0])[0]
        x[rows - 1, place] = value
        for isa in ISAS:
            monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
            found = Model(layer.content(rows)).session().run([x])[0]
            assert not np.isfinite(found[rows - 1, 0]) and np.isfinite(found[: rows - 1]).all()
            assert np.isfinite(found[rows - 1][layer.w[:, place] == 0]).all()


def test_nan_in_weights_reaches_its_output(monkeypatch):
    for rows in (1, 40):
        layer = Linear.drawn(40, 64)
        layer.w[5, 7] = np.nan
        for isa in ISAS:
            monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
            session = Model(layer.content(rows, then=[("Relu",)])).session()
            found = session.run([values(rows, 64)])[0]
            assert np.isnan(found[:, 5]).all() and np.isfinite(np.delete(found, 5, 1)).all()
            assert isa == "scalar" or kernels_of(session, isa) == [BLOCKS]


def test_any_number_of_rows_up_to_the_most(monkeypatch):
    layer = Linear.drawn(90, 130, 0.05)
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        session = Model(layer.content("b", "t")).session(bounds={"b": (0, 3), "t": (1, 70)})
        assert isa == "scalar" or kernels_of(session, isa) == [BLOCKS]
        for shape in ((3, 70), (1, 1), (1, 2), (2, 33), (3, 8), (1, 24), (0, 5), (3, 69)):
            x = values(*shape, 130)
            np.testing.assert_allclose(session.run([x])[0], layer.exact(x), rtol=1e-5, atol=1e-4)


def test_rows_for_which_there_is_room_only_without_whole_tiles(monkeypatch):
    layer = Linear.drawn(30, 1030, 0.02)
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        session = Model(layer.content("n")).session(bounds={"n": (1, 331)})
        for rows in (331, 128, 127, 121, 120, 65):
            x = values(rows, 1030)
            np.testing.assert_allclose(session.run([x])[0], layer.exact(x), rtol=1e-5, atol=1e-4)


def test_a_row_alone_decides_where_there_may_be_one(monkeypatch):
    """Half of the blocks are worth it for many rows, not for a few."""
    layer = Linear.drawn(256, 256, 0.5)
    for isa in set(ISAS) - {"scalar"}:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        assert kernels_of(Model(layer.content(192)).session(), isa) == [BLOCKS]
        assert kernels_of(Model(layer.content("n")).session(bounds={"n": (1, 192)}), isa) == [DENSE]


@pytest.mark.parametrize("pad", [1, 2, 3])
def test_weights_at_an_odd_place_of_the_file(pad, monkeypatch):
    for turned in (False, True):
        layer, x = Linear.drawn(40, 64), values(9, 64)
        compare(layer.content(9, turned=turned, pad=pad), [x], layer.exact(x), monkeypatch)


def test_one_matrix_read_both_ways(monkeypatch):
    layer, x = Linear.drawn(64, 64, 0.05), values(20, 64)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["1"], transB=1), helper.make_node("MatMul", ["1", "w"], ["y"])]
    exact = x.astype(np.float64) @ layer.w.T @ layer.w
    for isa in ISAS:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        found = Model(model(nodes, {"x": (20, 64)}, ["y"], {"w": layer.w})).session().run([x])[0]
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-4)


def test_a_second_session_packs_nothing():
    opened = Model(Linear.drawn(256, 256).content(9))
    opened.session()
    once = opened.memory_bytes
    opened.session()
    assert opened.memory_bytes == once


def test_what_a_sparse_kernel_is_expected_to_cost(monkeypatch):
    """Less from row to row of the table as fewer weights stay, whichever kernel runs; nothing where there are few zeros."""
    for isa in set(ISAS) - {"scalar"}:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        for rows in (1, 4, 100):
            found = []
            for kept in (0.8, 0.6, 0.4, 0.2, 0.05):
                (step,) = Model(Linear.drawn(256, 256, kept).content(rows)).session().steps()
                assert ("spmm" in step.kernel) is (step.sparse_cost < 0.97)
                found.append(step.sparse_cost)
            assert found == sorted(found, reverse=True) and found[0] > 1 > found[-1]
        (dense,) = Model(Linear.drawn(256, 256, 1.0).content(9)).session().steps()
        assert dense.sparse_cost is None


def test_the_number_of_rows_at_which_a_sparse_kernel_gains_least(monkeypatch):
    layer = Linear.drawn(256, 256, 0.5)
    for isa in set(ISAS) - {"scalar"}:
        monkeypatch.setenv("EDGEWRIGHT_FORCE_ISA", isa)
        costs = [Model(layer.content(rows)).session().steps()[0].sparse_cost for rows in (*range(1, 9), 192)]
        (open_,) = Model(layer.content("n")).session(bounds={"n": (1, 192)}).steps()
        assert open_.sparse_cost == max(costs) > 1 > costs[-1]
