"""The fp32 product on ARM without an ARM machine: ``python -m tests.native.simulate_gemm run``.

Two ways, both of them of kind ``simulated``: instructions and loads of a whole product, counted by the emulator (needs
qemu-aarch64 of the Debian package qemu-user and a C compiler), and cycles of the inner loop in the processor models of
llvm-mca (llvm-19).  The bound of a model is what it says of the loop's multiply-adds alone.  Models order variants of a
loop; they are no times.  ``run`` writes ``kernels_arm/results/gemm_f32_neon.json``, ``table`` prints it.
"""

from __future__ import annotations

import json
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
CORES = ("cortex-a53", "cortex-a55", "cortex-a72", "neoverse-n1")
SHAPE = (192, 512, 512)
"""Rows, columns and depth of the counted product."""
MACS_OF_ONE = 4
ITERATIONS = 300


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


def counted(library: Path, work: Path) -> dict[str, int]:
    """What runs in the kernel during one product."""
    here = Path(__file__).parent
    compiler = (sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-static", "-O1")
    said(*compiler, f"-I{ROOT / 'kernels_arm/include'}", str(here / "one_gemm.c"), str(library), "-o", f"{work}/one_gemm")
    said("cc", "-O2", "-shared", "-fPIC", str(here / "count_plugin.c"), "-o", f"{work}/count_plugin.so")
    plugin = f"{work}/count_plugin.so,symbol={SYMBOL}"
    shape = (str(size) for size in SHAPE)
    name, counts = said("qemu-aarch64", "-plugin", plugin, f"{work}/one_gemm", *shape).splitlines()
    assert name == SYMBOL, f"the product ran in {name}"
    return dict(json.loads(counts))


def simulate() -> dict[str, Any]:
    """Builds the library as ``build-runtime`` does and looks at its product."""
    with tempfile.TemporaryDirectory() as folder:
        work, made = Path(folder), Path(folder, "build")
        toolchain = make_toolchain(TRIPLES[TRIPLE], work)
        toolchain.run("-S", str(ROOT / "runtime/native"), "-B", str(made), *toolchain.arguments)
        toolchain.run("--build", str(made))
        loop, counts = inner_loop(disassembled(made / OBJECT)), counted(made / "libedgewright.a", work)
    products = [one for one in loop if one.name == "fmla"]
    macs, alone = SHAPE[0] * SHAPE[1] * SHAPE[2], {core: cycles(products, core) for core in CORES}
    whole = {core: cycles(loop, core) for core in CORES}
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
        "cores": {
            core: {"cycles": whole[core], "bound_cycles": alone[core], "share": alone[core] / whole[core]}
            for core in CORES
        },
        "product": {
            "shape": SHAPE,
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
    return "\n".join(
        [
            *lines,
            "",
            f"A whole product of {rows} x {columns} x {depth}, counted by QEMU {found['versions']['qemu']} (simulated): "
            f"{product['instructions_per_mac']:.3f} instructions and {product['vector_loads_per_mac']:.4f} loads of a "
            "vector for each multiply-add.",
        ]
    )


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
