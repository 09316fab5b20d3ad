"""The simulated figures of sparse products on ARM: what they must reach, and that the tables and the file are of one run."""

from __future__ import annotations

import json

import pytest

from tests.native.arm_models import CORES, block_rows
from tests.native.readme import table_of
from tests.native.simulate_spmm import (
    GOAL,
    PATTERNS,
    README,
    RESULT,
    SHAPES,
    WAITS,
    Pattern,
    Shape,
    reached,
    simulate,
    table,
    verdict,
)
from tests.native.test_arm_models import needs_models

FOUND = json.loads(RESULT.read_text(encoding="utf-8"))
ROWS = [(product, row) for product in FOUND["products"] for row in product["sparse"]]
REACH = ("cortex-a53", "cortex-a72", "neoverse-n1")


def test_without_four_fifths_of_the_blocks_products_are_three_times_as_fast():
    assert FOUND["kind"] == "simulated" and FOUND["commit"]
    assert FOUND["goal"] == GOAL and FOUND["waits"] == {name: list(each) for name, each in WAITS.items()}
    held = reached(FOUND, Pattern(4, 0.8))
    assert all({"none", "l2"} <= set(held[core]) for core in REACH)


def test_every_shape_and_pattern_is_there():
    assert [tuple(product["shape"]) for product in FOUND["products"]] == list(SHAPES)
    for product in FOUND["products"]:
        rows, depth, places = product["shape"]
        assert product["block"] == block_rows(places, rows, depth)
        assert product["dense"]["macs"] == rows * depth * places <= 4 * product["dense"]["multiply_adds"]
        assert [(row["side"], row["sparsity"]) for row in product["sparse"]] == list(PATTERNS)


def test_each_weight_meets_each_place():
    """A last vector that is not whole begins earlier: some places are done twice."""
    for product, row in ROWS:
        shape, pattern = Shape(*product["shape"]), Pattern(row["side"], row["sparsity"])
        weights, vectors = pattern.blocks(shape) * pattern.side, -(-shape.places // 4)
        assert row["macs"] == weights * shape.places and row["multiply_adds"] == weights * vectors
        assert row["instructions"] > row["multiply_adds"] and row["instructions_per_mac"] == row["instructions"] / row["macs"]


def test_misses_and_cycles_go_together():
    """No fewer misses than lines of what is read and written; a miss that waits makes nothing faster."""
    for product, row in ROWS:
        rows, depth, places = product["shape"]
        values = row["macs"] // places + places * rows
        assert set(row["cores"]) == set(CORES)
        for core, found in row["cores"].items():
            assert 4 * values // 64 <= found["l2_misses"] <= found["l1_misses"]
            none, l2, memory = (found["cycles"][name] for name in WAITS)
            assert 0 < none < l2 < memory
            dense = product["dense"]["cores"][core]["cycles"]
            assert found["over_dense"] == {name: dense[name] / found["cycles"][name] for name in WAITS}


def test_the_verdict_names_every_core():
    slow = {"cores": {core: {"over_dense": dict.fromkeys(WAITS, 2.9)} for core in CORES}, "side": 4, "sparsity": 0.8}
    assert verdict({"products": [{"sparse": [slow]}]}).count("nowhere") == len(CORES)
    slow["cores"]["cortex-a53"]["over_dense"] |= {"none": 3.0, "memory": 3.1}
    assert "cortex-a53: where no miss waits and where all misses wait;" in verdict({"products": [{"sparse": [slow]}]})


def test_the_readme_has_the_tables():
    assert table_of(README, "spmm") == table()


@pytest.mark.slow
def test_the_figures_are_those_of_this_source():
    needs_models()
    again = simulate()
    if again["versions"] != FOUND["versions"]:
        pytest.skip(f"the figures were made with {FOUND['versions']}, here are {again['versions']}")
    same = json.loads(json.dumps({key: again[key] for key in ("loops", "products")}))
    assert {key: FOUND[key] for key in same} == same
