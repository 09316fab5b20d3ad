"""The fp32 product on ARM without an ARM machine: ``python -m tests.native.simulate_gemm run``.

Two ways, both of them of kind ``simulated``: instructions, loads and misses of a whole product, counted by the
emulator (needs qemu-aarch64 of the Debian package qemu-user and a C compiler), and cycles of the inner loop in the
processor models of llvm-mca (llvm-19).  The bound of a model is what it says of the loop's multiply-adds alone.  Models
order variants of a loop; they are no times.  ``run`` writes ``kernels_arm/results/gemm_f32_neon.json``, ``table``
prints it.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import current_commit
from sdk.build_runtime.toolchain import make_toolchain
from sdk.build_runtime.triples import TRIPLES

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "kernels_arm" / "results" / "gemm_f32_neon.json"
TRIPLE = "aarch64-linux-musl"
SYMBOL = "edge_gemm_f32_neon"
OBJECT = "kernels/CMakeFiles/edge_kernels_neon.dir/vector/gemm_f32.c.o"
SHAPE = (192, 512, 512)
"""Rows, columns and depth of the counted product."""
BLOCK = 64
"""Rows that the engine gives the kernel at once: of these weights up to 72, in blocks of one size (fused_product.c)."""
MACS_OF_ONE = 4
ITERATIONS = 300


class Caches(NamedTuple):
    """The data caches of one core; ``board``: where the sizes are so, since a core comes with many."""

    l1_kib: int
    l1_ways: int
    l2_kib: int
    l2_ways: int
    board: str

    @property
    def argument(self) -> str:
        """For ``count_plugin.c``."""
        return f"cache={self.l1_kib << 10}:{self.l1_ways}:{self.l2_kib << 10}:{self.l2_ways}"


# Ways: Arm's technical reference manuals 100442 (A55) and 100095 (A72), DDI 0500 (A53), WikiChip (N1).  Sizes: Linux's
# bcm2837.dtsi, rk3588-base.dtsi and bcm2711.dtsi; Neoverse N1 has 512 KiB or 1 MiB, here as Graviton2 and Altra do.
CORES = {
    "cortex-a53": Caches(32, 4, 512, 16, "Raspberry Pi 3"),
    "cortex-a55": Caches(32, 4, 128, 4, "RK3588"),
    "cortex-a72": Caches(32, 2, 1024, 16, "Raspberry Pi 4"),
    "neoverse-n1": Caches(64, 4, 1024, 8, "Graviton2"),
}


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a conditional branch goes."""
        found = re.search(r"0x([0-9a-f]+)", self.operands) if re.match(r"b\.|cbn?z|tbn?z", self.name) else None
        return int(found[1], 16) if found else None


def said(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def disassembled(path: Path) -> list[Instruction]:
    text = said("llvm-objdump-19", "-d", "--no-show-raw-insn", f"--disassemble-symbols={SYMBOL}", str(path))
    lines = re.findall(r"^\s*([0-9a-f]+):\s+(\S+)[ \t]*([^\n<]*)", text, re.MULTILINE)
    return [Instruction(int(address, 16), name, operands.strip()) for address, name, operands in lines]


def inner_loop(instructions: list[Instruction]) -> list[Instruction]:
    """The loop with the most multiply-adds among those that hold no other loop: that of a whole tile."""
    place = {one.address: i for i, one in enumerate(instructions)}
    ends = [i for i, one in enumerate(instructions) if one.target is not None and one.target <= one.address]
    spans = {(place[instructions[end].target], end) for end in ends}
    inner = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    loops = [instructions[first : last + 1] for first, last in inner]
    return max(loops, key=lambda loop: sum(one.name == "fmla" for one in loop))


def cycles(loop: list[Instruction], core: str) -> float:
    """Of one iteration, by llvm-mca."""
    lines = [f"{one.name} {re.sub(r'0x[0-9a-f]+$', '.L', one.operands) if one.target else one.operands}" for one in loop]
    command = ("llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}")
    told = said(*command, given="\n".join([".L:", *lines, ""]))
    return int(re.search(r"Total Cycles:\s+(\d+)", told)[1]) / ITERATIONS


def counted(library: Path, work: Path) -> dict[str, Any]:
    """What runs in the kernel during one product, and what it misses in the caches of each core."""
    here = Path(__file__).parent
    compiler = (sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-static", "-O1")
    said(*compiler, f"-I{ROOT / 'kernels_arm/include'}", str(here / "one_gemm.c"), str(library), "-o", f"{work}/one_gemm")
    sources = [str(here / name) for name in ("count_plugin.c", "cache_model.c")]
    said("cc", "-O2", "-shared", "-fPIC", *sources, "-o", f"{work}/count_plugin.so")
    plugin = ",".join(["./count_plugin.so", f"symbol={SYMBOL}", *(caches.argument for caches in CORES.values())])
    sizes = (str(size) for size in (*SHAPE, BLOCK))
    # The stack begins behind the environment and the program's name: the same ones give the same misses.
    alike = ("env", "-i", "-C", str(work))
    name, counts = said(*alike, "qemu-aarch64", "-plugin", plugin, "./one_gemm", *sizes).splitlines()
    assert name == SYMBOL, f"the product ran in {name}"
    return dict(json.loads(counts))


def of_core(core: str, loop: list[Instruction], alone: list[Instruction], misses: list[int]) -> dict[str, Any]:
    """What the models of one core say."""
    whole, bound, macs = cycles(loop, core), cycles(alone, core), math.prod(SHAPE)
    found = {"cycles": whole, "bound_cycles": bound, "share": bound / whole, "caches": CORES[core]._asdict()}
    for level, missed in zip(("l1", "l2"), misses, strict=True):
        found |= {f"{level}_misses": missed, f"{level}_misses_per_mac": missed / macs}
    return found


def simulate() -> dict[str, Any]:
    """Builds the library as ``build-runtime`` does and looks at its product."""
    with tempfile.TemporaryDirectory() as folder:
        work, made = Path(folder), Path(folder, "build")
        toolchain = make_toolchain(TRIPLES[TRIPLE], work)
        toolchain.run("-S", str(ROOT / "runtime/native"), "-B", str(made), *toolchain.arguments)
        toolchain.run("--build", str(made))
        loop, counts = inner_loop(disassembled(made / OBJECT)), counted(made / "libedgewright.a", work)
    products = [one for one in loop if one.name == "fmla"]
    macs, misses = math.prod(SHAPE), zip(CORES, counts.pop("misses"), strict=True)
    return {
        "kind": "simulated",
        "kernel": SYMBOL,
        "machine": machine(),
        "versions": {
            "ziglang": installed("ziglang"),
            "llvm-mca": re.search(r"LLVM version (\S+)", said("llvm-mca-19", "--version"))[1],
            "qemu": said("qemu-aarch64", "--version").split()[2],
        },
        "commit": current_commit(),
        "date": now(),
        "loop": {"instructions": len(loop), "multiply_adds": len(products), "macs": MACS_OF_ONE * len(products)},
        "cores": {core: of_core(core, loop, products, missed) for core, missed in misses},
        "product": {
            "shape": list(SHAPE),
            "block": BLOCK,
            **counts,
            "macs": macs,
            "instructions_per_mac": counts["instructions"] / macs,
            "vector_loads_per_mac": counts["vector_loads"] / macs,
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
    found = simulate()
    RESULT.parent.mkdir(exist_ok=True)
    write_file(RESULT, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
    print(table())


@main.command("table")
def show() -> None:
    """Prints the result file."""
    print(table())


if __name__ == "__main__":
    main()
