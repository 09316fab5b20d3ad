"""Sparse fp32 products beside dense ones on ARM, without an ARM machine: ``python -m tests.native.simulate_spmm run``.

Whole 1x1 convolutions of MobileNet-v1 run in the emulator, which counts instructions, loads and misses.  Their cycles are
those of their basic blocks in the processor models of llvm-mca, each as often as it ran, and, in two further models, so
many for every miss (``WAITS``).  All of it is ``simulated``.  ``run`` writes ``kernels_arm/results/spmm_f32_neon.json``
and the tables of ``kernels_arm/README.md``, ``table`` writes these alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from .arm_models import (
    CORES,
    LANES,
    RESULTS,
    ROOT,
    Counts,
    Emulator,
    block_rows,
    cycles,
    heading,
    inner_loop,
    multiply_adds,
    write_result,
)  # fmt: skip
from .readme import write_table

RESULT = RESULTS / "spmm_f32_neon.json"
README = ROOT / "kernels_arm" / "README.md"
DENSE = "edge_gemm_f32_neon"
WAITS = {"none": (0, 0), "l2": (15, 0), "memory": (15, 150)}
"""Cycles that every miss of L1 and of L2 takes: assumed, the same for every core, and nothing is fetched ahead."""
GOAL = 3.0


class Shape(NamedTuple):
    """``w[rows, depth] x[depth, places]``"""

    rows: int
    depth: int
    places: int


class Pattern(NamedTuple):
    """Rows of a block, and the share of blocks that hold nothing."""

    side: int
    sparsity: float

    @property
    def kernel(self) -> str:
        return f"edge_spmm_f32_{self.side}x1_neon"

    def blocks(self, shape: Shape) -> int:
        return round(shape.rows // self.side * shape.depth * (1 - self.sparsity))

    def __str__(self) -> str:
        return f"{self.sparsity:.0%} of blocks ({self.side}, 1)" if self.side > 1 else f"{self.sparsity:.0%} of weights"


SHAPES = (Shape(128, 128, 3136), Shape(256, 256, 784), Shape(512, 512, 196), Shape(1024, 1024, 49))
PATTERNS = (Pattern(4, 0.5), Pattern(4, 0.8), Pattern(4, 0.9), Pattern(1, 0.8), Pattern(1, 0.9))


def counted(counts: Counts, macs: int) -> dict[str, Any]:
    """A product as the emulator and the models have it; ``macs``: of weights that are there."""
    cores = {}
    for core, (l1, l2) in zip(CORES, counts.misses, strict=True):
        ran = counts.cycles(core)
        waited = {name: ran + l1 * near + l2 * far for name, (near, far) in WAITS.items()}
        cores[core] = {"l1_misses": l1, "l2_misses": l2, "l1_misses_per_mac": l1 / macs, "cycles": waited}
    return {
        "macs": macs,
        "instructions": counts.instructions,
        "multiply_adds": counts.multiply_adds,
        "vector_loads": counts.vector_loads,
        "instructions_per_mac": counts.instructions / macs,
        "vector_loads_per_mac": counts.vector_loads / macs,
        "cores": cores,
    }


def beside(emulator: Emulator, shape: Shape) -> dict[str, Any]:
    """The dense product of a shape, and every sparse one."""
    rows, depth, places = shape
    block = block_rows(places, rows, depth)
    dense = counted(emulator.count(DENSE, "one_gemm", places, rows, depth, block), rows * depth * places)
    sparse = []
    for pattern in PATTERNS:
        blocks = pattern.blocks(shape)
        counts = emulator.count(pattern.kernel, "one_spmm", *shape, pattern.side, blocks)
        found = counted(counts, blocks * pattern.side * places)
        for core, row in found["cores"].items():
            row["over_dense"] = {w: dense["cores"][core]["cycles"][w] / row["cycles"][w] for w in WAITS}
        sparse.append(pattern._asdict() | found)
    return {"shape": list(shape), "block": block, "dense": dense, "sparse": sparse}


def loop_of(emulator: Emulator, kernel: str, program: str) -> dict[str, Any]:
    """The inner loop of a kernel; ``cycles``: for each vector that is multiplied and added."""
    loop = inner_loop(list(emulator.code(kernel, program)))
    products = len(multiply_adds(loop))
    each = {core: cycles([loop], core)[0] / products for core in CORES}
    return {"instructions": len(loop), "macs": LANES * products, "cycles_per_multiply_add": each}


def simulate() -> dict[str, Any]:
    """Builds the library as ``build-runtime`` does and looks at its products."""
    with tempfile.TemporaryDirectory() as folder:
        emulator = Emulator(Path(folder))
        sparse = sorted({pattern.kernel for pattern in PATTERNS}, reverse=True)
        loops = {DENSE: loop_of(emulator, DENSE, "one_gemm")}
        loops |= {kernel: loop_of(emulator, kernel, "one_spmm") for kernel in sparse}
        products = [beside(emulator, shape) for shape in SHAPES]
    return heading() | {"waits": WAITS, "goal": GOAL, "loops": loops, "products": products}


def reached(found: dict[str, Any], pattern: Pattern) -> dict[str, list[str]]:
    """Of each core, the models in which the products of all shapes are as many times as fast as is the goal."""
    rows = [row for product in found["products"] for row in product["sparse"] if (row["side"], row["sparsity"]) == pattern]
    return {core: [w for w in WAITS if all(row["cores"][core]["over_dense"][w] >= GOAL for row in rows)] for core in CORES}


def loop_table(found: dict[str, Any]) -> Iterator[str]:
    yield f"| inner loop | instructions | multiply-adds | {' | '.join(f'{core} (simulated)' for core in CORES)} |"
    yield "|---|" + "---|" * (2 + len(CORES))
    for kernel, loop in found["loops"].items():
        each = " | ".join(f"{loop['cycles_per_multiply_add'][core]:.2f}" for core in CORES)
        yield f"| `{kernel}` | {loop['instructions']} | {loop['macs']} | {each} |"


def count_table(found: dict[str, Any]) -> Iterator[str]:
    yield f"| product | zeros | instructions | loads | {' | '.join(f'L1 {core}' for core in CORES)} |"
    yield "|---|" + "---|" * (3 + len(CORES))
    for product in found["products"]:
        shape = " x ".join(map(str, product["shape"]))
        rows = [("none, dense", product["dense"])]
        rows += [(str(Pattern(row["side"], row["sparsity"])), row) for row in product["sparse"]]
        for what, row in rows:
            missed = " | ".join(f"{1000 * row['cores'][core]['l1_misses_per_mac']:.1f}" for core in CORES)
            yield f"| {shape} | {what} | {row['instructions_per_mac']:.3f} | {row['vector_loads_per_mac']:.3f} | {missed} |"


def ratio_table(found: dict[str, Any]) -> Iterator[str]:
    yield f"| product | zeros | {' | '.join(f'{core} (simulated)' for core in CORES)} |"
    yield "|---|" + "---|" * (1 + len(CORES))
    for product in found["products"]:
        shape = " x ".join(map(str, product["shape"]))
        for row in product["sparse"]:
            ratios = (" / ".join(f"{row['cores'][core]['over_dense'][w]:.2f}" for w in WAITS) for core in CORES)
            yield f"| {shape} | {Pattern(row['side'], row['sparsity'])} | {' | '.join(ratios)} |"


def verdict(found: dict[str, Any]) -> str:
    """Whether the goal is reached, core by core."""
    models = {"none": "no miss waits", "l2": "misses of L1 wait", "memory": "all misses wait"}
    words = [
        f"{core}: {' and where '.join(['where ' + models[held[0]], *(models[w] for w in held[1:])]) if held else 'nowhere'}"
        for core, held in reached(found, Pattern(4, 0.8)).items()
    ]
    return f"Without 80 % of the blocks (4, 1), all of these products are {GOAL:g} times as fast or more: {'; '.join(words)}."


def table() -> str:
    """The result file as tables."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    near, far = found["waits"]["memory"]
    lines = [
        f"Cycles of the inner loops for each multiply-add of a vector, by the models of llvm-mca "
        f"{found['versions']['llvm-mca']}:",
        "",
        *loop_table(found),
        "",
        f"Whole products of rows x depth x places, counted by QEMU {found['versions']['qemu']} (simulated): instructions and "
        "loads of a vector for each multiply-add of a weight that is there, and misses of L1 for a thousand of them, with "
        "caches as above:",
        "",
        *count_table(found),
        "",
        f"How many times as fast as the dense kernel on the same shape: cycles of all basic blocks as often as they ran, "
        f"where no miss waits / where each miss of L1 waits {near} cycles / where each miss of L2 waits {far} more "
        "(assumed, the same for every core; nothing is fetched ahead):",
        "",
        *ratio_table(found),
        "",
        verdict(found),
    ]
    return "\n".join(lines)


@click.group()
def main() -> None:
    """Sparse fp32 products on models of ARM cores."""


@main.command("run")
def run() -> None:
    """Simulates and writes the result file and the tables."""
    write_result(RESULT, simulate())
    write_table(README, "spmm", table())


@main.command("table")
def show() -> None:
    """Writes the tables from the result file."""
    write_table(README, "spmm", table())


if __name__ == "__main__":
    main()
