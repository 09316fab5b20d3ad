"""The model of a data cache that counts misses for ``simulate_gemm``, beside a slow one."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LINE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ctypes.CDLL:
    if not shutil.which("cc"):
        pytest.skip("cc is not on this machine (Debian package gcc)")
    path = tmp_path_factory.mktemp("cache") / "model.so"
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["cc", *strict, "-shared", "-fPIC", str(HERE / "cache_model.c"), "-o", str(path)], check=True)
    library = ctypes.CDLL(str(path))
    library.cache_new.restype = ctypes.c_void_p
    library.cache_new.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    library.cache_touch.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    library.cache_misses.argtypes = [ctypes.c_void_p]
    library.cache_misses.restype = ctypes.c_uint64
    return library


class Oracle:
    """Every byte on its own, and for each set the order of use."""

    def __init__(self, size: int, ways: int, below: Oracle | None = None) -> None:
        self.sets: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(size // LINE // ways)]
        self.ways, self.below, self.misses = ways, below, 0

    def touch(self, address: int, count: int) -> None:
        for byte in range(address, address + count):
            line = byte // LINE
            held = self.sets[line % len(self.sets)]
            if line not in held:
                self.misses += 1
                if self.below:
                    self.below.touch(byte, 1)
                if len(held) == self.ways:
                    held.popitem(last=False)
            held[line] = None
            held.move_to_end(line)


def misses(model: ctypes.CDLL, size: int, ways: int, touched: list[int]) -> int:
    """Of one cache, by the bytes at these addresses."""
    made = model.cache_new(size, ways, None)
    for address in touched:
        model.cache_touch(made, address, 1)
    return int(model.cache_misses(made))


def test_by_hand(model):
    two_sets = 4 * LINE  # of two lines each
    a, b, c = 2 * LINE, 4 * LINE, 6 * LINE  # of one set
    assert misses(model, two_sets, 2, [a, a + 63, b, a, b]) == 2
    assert misses(model, two_sets, 2, [a, b, c, a, b, c]) == 6
    assert misses(model, two_sets, 2, [a, b, a, c, a]) == 3
    assert misses(model, two_sets, 2, [a, b, a, c, b]) == 4
    assert misses(model, two_sets, 2, [a, b, a + LINE, b + LINE, a, b]) == 4
    assert misses(model, 3 * LINE, 3, [a, b, c, a, b, c]) == 3
    assert misses(model, LINE, 1, [a, b, a]) == 3


def test_an_access_across_lines_touches_each(model):
    made = model.cache_new(4 * LINE, 4, None)
    end = 2 * LINE - 1  # of line 1
    for address, count, wanted in [(end, 1, 1), (end, 2, 2), (4 * LINE - 8, 16, 4), (LINE, 4 * LINE, 4)]:
        model.cache_touch(made, address, count)
        assert model.cache_misses(made) == wanted


@pytest.mark.parametrize(("size", "ways"), [(0, 1), (LINE, 0), (LINE, 2), (3 * LINE, 2), (LINE - 1, 1)])
def test_sizes_that_do_not_divide_are_no_cache(model, size, ways):
    assert not model.cache_new(size, ways, None)


@pytest.mark.parametrize("seed", range(8))
def test_two_levels_beside_the_oracle(model, seed):
    draw = random.Random(seed)
    large = 12 * LINE << draw.randrange(3), draw.choice([1, 3, 4])
    small = LINE << draw.randrange(1, 5), draw.choice([1, 2])
    below, oracle_below = model.cache_new(*large, None), Oracle(*large)
    made, oracle = model.cache_new(*small, below), Oracle(*small, oracle_below)
    for _ in range(3000):
        address, count = LINE + int(draw.expovariate(1 / 2000)), 1 << draw.randrange(5)
        model.cache_touch(made, address, count)
        oracle.touch(address, count)
    found = model.cache_misses(made), model.cache_misses(below)
    assert found == (oracle.misses, oracle_below.misses) and 0 < found[1] < found[0]
