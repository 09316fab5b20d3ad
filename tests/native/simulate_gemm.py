"""The fp32 product on ARM without an ARM machine: ``python -m tests.native.simulate_gemm run``.

Two ways, both of them of kind ``simulated``: instructions, loads and misses of a whole product, counted by the
emulator, and cycles of the inner loop in the processor models of llvm-mca.  The bound of a model is what it says of the
loop's multiply-adds alone.  ``run`` writes ``kernels_arm/results/gemm_f32_neon.json``, ``table`` prints it.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import click

from .arm_models import (
    CORES,
    LANES,
    RESULTS,
    Caches,
    Emulator,
    Instruction,
    block_rows,
    cycles,
    heading,
    inner_loop,
    multiply_adds,
    write_result,
)  # fmt: skip

RESULT = RESULTS / "gemm_f32_neon.json"
SYMBOL = "edge_gemm_f32_neon"
PROGRAM = "one_gemm"
SHAPE = (192, 512, 512)
"""Rows, columns and depth of the counted product."""


def of_core(core: str, loop: list[Instruction], misses: tuple[int, int]) -> dict[str, Any]:
    """What the models of one core say."""
    (whole, bound), macs = cycles([loop, multiply_adds(loop)], core), math.prod(SHAPE)
    found = {"cycles": whole, "bound_cycles": bound, "share": bound / whole, "caches": CORES[core]._asdict()}
    for level, missed in zip(("l1", "l2"), misses, strict=True):
        found |= {f"{level}_misses": missed, f"{level}_misses_per_mac": missed / macs}
    return found


def simulate() -> dict[str, Any]:
    """Builds the library as ``build-runtime`` does and looks at its product."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Emulator(Path(folder)).count(SYMBOL, PROGRAM, *SHAPE, block_rows(*SHAPE))
    loop, macs = inner_loop(list(counts.code)), math.prod(SHAPE)
    products = len(multiply_adds(loop))
    return heading() | {
        "kernel": SYMBOL,
        "loop": {"instructions": len(loop), "multiply_adds": products, "macs": LANES * products},
        "cores": {core: of_core(core, loop, missed) for core, missed in zip(CORES, counts.misses, strict=True)},
        "product": {
            "shape": list(SHAPE),
            "block": block_rows(*SHAPE),
            "instructions": counts.instructions,
            "multiply_adds": counts.multiply_adds,
            "vector_loads": counts.vector_loads,
            "macs": macs,
            "instructions_per_mac": counts.instructions / macs,
            "vector_loads_per_mac": counts.vector_loads / macs,
        },
    }


def table() -> str:
    """The result file as a table."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    loop, product = found["loop"], found["product"]
    rows, columns, depth = product["shape"]
    lines = [
        f"Inner loop of `{found['kernel']}`, {loop['instructions']} instructions for {loop['macs']} multiply-adds, by the "
        f"models of llvm-mca {found['versions']['llvm-mca']}:",
        "",
        "| model | cycles (simulated) | bound of its multiply-adds (simulated) | share |",
        "|---|---|---|---|",
    ]
    for core, row in found["cores"].items():
        lines.append(f"| {core} | {row['cycles']:.1f} | {row['bound_cycles']:.1f} | {row['share']:.0%} |")
    lines += [
        "",
        f"A whole product of {rows} x {columns} x {depth}, {product['block']} rows at a time, counted by QEMU "
        f"{found['versions']['qemu']} (simulated): {product['instructions_per_mac']:.3f} instructions and "
        f"{product['vector_loads_per_mac']:.4f} loads of a vector for each multiply-add, and in models of data caches "
        "(least recently used goes, 64 bytes a line, no prefetcher, empty at first) so many misses:",
        "",
        "| model | L1 | L2 | sizes as in | of L1 a multiply-add (simulated) | of L2 a multiply-add (simulated) |",
        "|---|---|---|---|---|---|",
    ]
    for core, row in found["cores"].items():
        caches = Caches(**row["caches"])
        levels = f"{caches.l1_kib} KiB, {caches.l1_ways} ways | {caches.l2_kib} KiB, {caches.l2_ways} ways"
        missed = f"{row['l1_misses_per_mac']:.4f} | {row['l2_misses_per_mac']:.4f}"
        lines.append(f"| {core} | {levels} | {caches.board} | {missed} |")
    return "\n".join(lines)


@click.group()
def main() -> None:
    """The fp32 product on models of ARM cores."""


@main.command("run")
def run() -> None:
    """Simulates and writes the result file."""
    write_result(RESULT, simulate())
    print(table())


@main.command("table")
def show() -> None:
    """Prints the result file."""
    print(table())


if __name__ == "__main__":
    main()
