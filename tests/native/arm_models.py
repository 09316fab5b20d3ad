"""Models of ARM cores: what a kernel runs and misses, counted by an emulator, and cycles of what it runs.

Needs qemu-aarch64 of the Debian package qemu-user, llvm-19 and a C compiler.  All that is found here is of kind
``simulated``: models order variants of a loop; they are no times.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import current_commit
from sdk.build_runtime.toolchain import make_toolchain
from sdk.build_runtime.triples import TRIPLES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "kernels_arm" / "results"
TRIPLE = "aarch64-linux-musl"
BLOCK_ROWS = 36
"""As the engine has it (fused.h)."""
LARGE = 256 * 1024
"""Bytes of weights beyond which a block has twice as many rows (fused_product.c)."""
LANES = 4
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
    def branches(self) -> bool:
        return re.fullmatch(r"b|b\..*|bl|blr|br|ret|cbn?z|tbn?z", self.name) is not None

    @property
    def target(self) -> int | None:
        """Where a branch goes, unless a register or the stack says it, or it comes back."""
        found = re.search(r"0x([0-9a-f]+)$", self.operands) if self.branches and self.name != "bl" else None
        return int(found[1], 16) if found else None

    @property
    def vectors_loaded(self) -> int:
        """Of 16 bytes."""
        if self.name == "ldp":
            return 2 if self.operands.startswith("q") else 0
        return int(self.name in ("ldr", "ldur") and self.operands.startswith("q") or self.name == "ld1r")

    @property
    def assembly(self) -> str:
        """One line, in which all that is named by its place has one name."""
        return f"{self.name} {re.sub(r'0x[0-9a-f]+$', '.L', self.operands) if self.target else self.operands}"


def said(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def disassembled(path: Path, symbol: str) -> list[Instruction]:
    text = said("llvm-objdump-19", "-d", "--no-show-raw-insn", f"--disassemble-symbols={symbol}", str(path))
    lines = re.findall(r"^\s*([0-9a-f]+):\s+(\S+)[ \t]*([^\n<]*)", text, re.MULTILINE)
    return [Instruction(int(address, 16), name, operands.strip()) for address, name, operands in lines]


def multiply_adds(instructions: Sequence[Instruction]) -> list[Instruction]:
    return [one for one in instructions if one.name == "fmla"]


def inner_loop(instructions: list[Instruction]) -> list[Instruction]:
    """The loop with the most multiply-adds among those that hold no other loop: that of a whole tile."""
    place = {one.address: i for i, one in enumerate(instructions)}
    ends = [(one.target, i) for i, one in enumerate(instructions) if one.target is not None and one.target <= one.address]
    spans = {(place[target], end) for target, end in ends}
    inner = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    loops = [instructions[first : last + 1] for first, last in inner]
    return max(loops, key=lambda loop: len(multiply_adds(loop)))


def straight_lines(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """Basic blocks: what runs from its first instruction to its last one each time."""
    targets = {one.target for one in instructions}
    lines: list[list[Instruction]] = []
    for i, one in enumerate(instructions):
        if i == 0 or one.address in targets or instructions[i - 1].branches:
            lines.append([])
        lines[-1].append(one)
    return lines


def cycles(lines: Sequence[Sequence[Instruction]], core: str) -> list[float]:
    """Of one iteration of each, by llvm-mca, when it runs again and again."""
    regions = [
        "\n".join([f"# LLVM-MCA-BEGIN {i}", *(one.assembly for one in line), f"# LLVM-MCA-END {i}"])
        for i, line in enumerate(lines)
    ]
    command = ("llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}")
    told = said(*command, given="\n".join([".L:", *regions, ""]))
    found = [int(total) / ITERATIONS for total in re.findall(r"Total Cycles:\s+(\d+)", told)]
    assert len(found) == len(lines), f"llvm-mca told of {len(found)} of {len(lines)} regions"
    return found


def block_rows(rows: int, columns: int, depth: int) -> int:
    """Rows that the engine gives the dense kernel at once: blocks of one size (fused_product.c)."""
    most = 2 * BLOCK_ROWS if 4 * columns * depth > LARGE else BLOCK_ROWS
    return -(-rows // -(-rows // most))


@dataclass(frozen=True)
class Counts:
    """What ran in a kernel: of each instruction how often, and for each core the misses of L1 and L2."""

    code: tuple[Instruction, ...]
    executed: tuple[int, ...]
    misses: tuple[tuple[int, int], ...]

    @property
    def instructions(self) -> int:
        return sum(self.executed)

    @property
    def multiply_adds(self) -> int:
        return sum(n for one, n in zip(self.code, self.executed, strict=True) if one.name == "fmla")

    @property
    def vector_loads(self) -> int:
        return sum(n * one.vectors_loaded for one, n in zip(self.code, self.executed, strict=True))

    def cycles(self, core: str) -> float:
        """Of all basic blocks: how often each ran, times its cycles among its like.  No load waits for a cache."""
        times = dict(zip((one.address for one in self.code), self.executed, strict=True))
        ran = [line for line in straight_lines(self.code) if times[line[0].address]]
        return sum(times[line[0].address] * each for line, each in zip(ran, cycles(ran, core), strict=True))


class Emulator:
    """The library as ``build-runtime`` makes it, in a folder of its own, and programs with it."""

    def __init__(self, work: Path) -> None:
        self.work, self.build = work, work / "build"
        toolchain = make_toolchain(TRIPLES[TRIPLE], work)
        toolchain.run("-S", str(ROOT / "runtime/native"), "-B", str(self.build), *toolchain.arguments)
        toolchain.run("--build", str(self.build))
        sources = [str(HERE / name) for name in ("count_plugin.c", "cache_model.c")]
        said("cc", "-O2", "-shared", "-fPIC", *sources, "-o", f"{work}/count_plugin.so")

    def code(self, symbol: str, program: str) -> tuple[Instruction, ...]:
        """Of a kernel in a program that is one C file of this folder."""
        path = self.work / program
        if not path.exists():
            compiler = (sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-static", "-O1")
            library = str(self.build / "libedgewright.a")
            said(*compiler, f"-I{ROOT / 'kernels_arm/include'}", str(HERE / f"{program}.c"), library, "-o", str(path))
        return tuple(disassembled(path, symbol))

    def count(self, symbol: str, program: str, *arguments: object) -> Counts:
        """Runs a program that calls the kernel once or more and prints its name."""
        code = self.code(symbol, program)
        places = f"code={code[0].address}:{code[-1].address + 4}"
        plugin = ",".join(["./count_plugin.so", places, *(caches.argument for caches in CORES.values())])
        # The stack begins behind the environment and the program's name: the same ones give the same misses.
        alike = ("env", "-i", "-C", str(self.work))
        name, found = said(*alike, "qemu-aarch64", "-plugin", plugin, f"./{program}", *map(str, arguments)).splitlines()
        assert name == symbol, f"the product ran in {name}"
        counts = json.loads(found)
        return Counts(code, tuple(counts["executed"]), tuple((l1, l2) for l1, l2 in counts["misses"]))


def heading() -> dict[str, Any]:
    """What every result file begins with."""
    return {
        "kind": "simulated",
        "machine": machine(),
        "versions": {
            "ziglang": installed("ziglang"),
            "llvm-mca": re.search(r"LLVM version (\S+)", said("llvm-mca-19", "--version"))[1],
            "qemu": said("qemu-aarch64", "--version").split()[2],
        },
        "commit": current_commit(),
        "date": now(),
    }


def write_result(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_file(path, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
