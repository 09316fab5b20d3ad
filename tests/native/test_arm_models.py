"""What models of ARM cores are given: loops and basic blocks of a kernel, what its instructions load, and blocks of rows."""

from __future__ import annotations

import shutil

import pytest

from tests.native.arm_models import Counts, Instruction, block_rows, inner_loop, straight_lines

NEEDS = {"qemu-aarch64": "qemu-user", "llvm-mca-19": "llvm-19", "cc": "gcc"}
"""Programs and their Debian packages."""


def needs_models() -> None:
    """Skips where a program is missing."""
    missing = [f"{name} (Debian package {package})" for name, package in NEEDS.items() if not shutil.which(name)]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")


def code(*lines: str) -> list[Instruction]:
    return [Instruction(4 * i, *line.partition(" ")[::2]) for i, line in enumerate(lines)]


def test_the_inner_loop_is_the_largest_without_a_loop_inside():
    lines = ["fmla", "fmla", "b.ne 0x4", "fmla", "fmla", "fmla", "cbnz x1, 0xc", "fmla", "b.le 0x0", "ret"]
    assert [one.address for one in inner_loop(code(*lines))] == [12, 16, 20, 24]


def test_lines_begin_where_a_branch_goes_and_behind_one():
    lines = ["mov x1, #0x8", "fmla", "tbz w1, #0x0, 0x4", "bl 0x1000", "add x1, x1, #0x14", "ldr x1, [x2]", "b 0x14", "ret"]
    found = straight_lines(code(*lines))
    assert [[one.address for one in line] for line in found] == [[0], [4, 8], [12], [16], [20, 24], [28]]
    assert straight_lines([]) == []


@pytest.mark.parametrize(
    ("line", "vectors", "target"),
    [
        ("ldp q1, q2, [x0]", 2, None),
        ("ldp x1, x2, [x0]", 0, None),
        ("ldp s1, s2, [x0]", 0, None),
        ("ldr q1, [x0, x1]", 1, None),
        ("ldur q1, [x0, #-0x8]", 1, None),
        ("ldr s1, [x0, #0x10]", 0, None),
        ("ld1r { v1.4s }, [x0]", 1, None),
        ("str q1, [x0]", 0, None),
        ("b.lo 0x20", 0, 0x20),
        ("cbz x3, 0x40", 0, 0x40),
        ("tbnz w3, #0x1f, 0x44", 0, 0x44),
        ("b 0x48", 0, 0x48),
        ("bl 0x48", 0, None),
        ("bic w1, w2, #0x4", 0, None),
        ("mov x9, #0x10", 0, None),
    ],
)
def test_what_an_instruction_loads_and_where_it_goes(line, vectors, target):
    (one,) = code(line)
    assert (one.vectors_loaded, one.target) == (vectors, target)
    assert one.assembly == (line.replace(f"{target:#x}", ".L") if target else line)


def test_counts_are_those_of_each_instruction():
    counts = Counts(tuple(code("ldp q1, q2, [x0]", "fmla", "fmla", "b.ne 0x4", "ret")), (1, 7, 7, 7, 1), ())
    assert (counts.instructions, counts.multiply_adds, counts.vector_loads) == (23, 14, 2)


def test_blocks_of_rows_are_those_of_the_engine():
    assert block_rows(192, 512, 512) == 64 and block_rows(49, 1024, 1024) == 49
    assert block_rows(3136, 128, 128) == 36 and block_rows(37, 8, 8) == 19 and block_rows(1, 1, 1) == 1


@pytest.mark.slow
def test_models_tell_of_every_line():
    from tests.native.arm_models import CORES, cycles

    needs_models()
    load, product = code("ldr q1, [x0]"), code("fmla v1.4s, v2.4s, v3.s[0]", "b.ne 0x0")
    for core in CORES:
        assert cycles([load, product], core) == cycles([load], core) + cycles([product], core)
