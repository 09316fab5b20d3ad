"""The simulated figures of the product on ARM: what they must reach, and that the table and the file are of one run."""

from __future__ import annotations

import json

import pytest

from tests.native.arm_models import CORES, ROOT
from tests.native.simulate_gemm import RESULT, simulate, table
from tests.native.test_arm_models import needs_models

FOUND = json.loads(RESULT.read_text(encoding="utf-8"))
LEAST = {"cortex-a53": 0.65, "cortex-a72": 0.97, "neoverse-n1": 0.97}
"""Of the bound of each model."""


def test_the_loop_comes_near_the_bound_of_its_multiply_adds():
    assert FOUND["kind"] == "simulated" and FOUND["commit"]
    assert {core for core, least in LEAST.items() if FOUND["cores"][core]["share"] >= least} == set(LEAST)
    rows, columns, depth = FOUND["product"]["shape"]
    assert FOUND["product"]["multiply_adds"] * 4 == rows * columns * depth == FOUND["product"]["macs"]


def test_misses_are_those_of_each_core():
    """No fewer than lines of three matrices, no more than one for every vector of ``a`` and ``b`` and line of ``c``."""
    rows, columns, depth = FOUND["product"]["shape"]
    least = 4 * (rows * depth + depth * columns + rows * columns) // 64
    most = FOUND["product"]["vector_loads"] + rows * columns
    assert set(FOUND["cores"]) == set(CORES)
    for core, caches in CORES.items():
        found = FOUND["cores"][core]
        assert found["caches"] == caches._asdict()
        assert least <= found["l2_misses"] <= found["l1_misses"] <= most
        assert found["l2_misses_per_mac"] == found["l2_misses"] / FOUND["product"]["macs"]


def test_the_readme_has_the_table():
    assert table() in (ROOT / "kernels_arm" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_figures_are_those_of_this_source():
    needs_models()
    again = simulate()
    if again["versions"] != FOUND["versions"]:
        pytest.skip(f"the figures were made with {FOUND['versions']}, here are {again['versions']}")
    same = ("loop", "cores", "product")
    assert {key: FOUND[key] for key in same} == {key: again[key] for key in same}
