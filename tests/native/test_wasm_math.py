"""``runtime/web/math.c``, built for this machine, against mpmath: the functions that browsers compute f64 with."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

mpmath = pytest.importorskip("mpmath", reason="mpmath is the reference; it comes with torch")
SOURCE = Path(__file__).parents[2] / "runtime" / "web" / "math.c"
RANGES = {
    "exp": (-745, 709), "expm1": (-50, 709), "log": (0, 1e300), "log1p": (-1, 1e9), "log10": (0, 1e300),
    "sin": (-1e300, 1e300), "cos": (-1e300, 1e300), "tan": (-1e9, 1e9),
    "atan": (-1e9, 1e9), "asin": (-1, 1), "acos": (-1, 1),
    "sinh": (-709, 709), "cosh": (-709, 709), "tanh": (-30, 30),
    "asinh": (-1e200, 1e200), "acosh": (1, 1e200), "atanh": (-1, 1), "erf": (-6, 6), "erfc": (-6, 26),
}  # fmt: skip
LOOSE = {"erf": 12, "erfc": 12}
"""Units in the last place; two for all others."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("math") / "math.so"
    flags = ["-O2", "-shared", "-fPIC", "-fno-builtin", "-ffp-contract=off", "-Wl,-Bsymbolic"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def of(library, name, count=1):
    function = getattr(library, name)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * count
    return function


def values(low, high):
    rng = np.random.default_rng(7)
    tiny = np.sign(rng.normal(size=300)) * 10.0 ** rng.uniform(-300, 2.5, 300)
    x = np.concatenate([rng.uniform(low, high, 500), rng.uniform(max(low, -3), min(high, 3), 500), tiny])
    return [float(v) for v in x if low < v < high]


def distance(found: float, exact) -> float:
    """In units of the last place of the exact value."""
    wanted = float(exact)
    if math.isinf(wanted) or abs(wanted) < 1e-307:
        return 0 if found == wanted or abs(found - wanted) < 1e-307 else math.inf
    return float(abs(mpmath.mpf(found) - exact) / mpmath.mpf(math.ulp(wanted)))


@pytest.mark.parametrize("name", RANGES)
def test_errors_are_a_unit_or_two_of_the_last_place(library, name):
    function = of(library, name)
    with mpmath.workprec(200):
        exact = getattr(mpmath, name)
        worst = max((distance(function(x), exact(mpmath.mpf(x))), x) for x in values(*RANGES[name]))
    assert worst[0] < LOOSE.get(name, 2.5), worst


def test_powers_are_right_to_the_last_places(library):
    power, rng = of(library, "pow", 2), np.random.default_rng(3)
    with mpmath.workprec(200):
        for x, y in zip(10.0 ** rng.uniform(-5, 5, 1500), rng.uniform(-60, 60, 1500), strict=True):
            assert distance(power(x, y), mpmath.mpf(x) ** mpmath.mpf(y)) < 8, (x, y)
    assert [power(3.0, n) for n in range(30)] == [3.0**n for n in range(30)]


SPECIAL = (0.0, -0.0, 0.5, 1.0, -1.0, 1.5, -2.0, 3.0, -3.0, 2.0**53, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("name", ["pow", "fmod"])
def test_special_pairs_are_those_of_c(library, name):
    function, exact = of(library, name, 2), {"pow": np.float_power, "fmod": np.fmod}[name]
    with np.errstate(all="ignore"):
        for x in SPECIAL:
            for y in SPECIAL:
                found, wanted = function(x, y), float(exact(x, y))
                assert np.allclose(found, wanted, rtol=3e-16, atol=0, equal_nan=True), (x, y, found, wanted)
                assert math.isnan(wanted) or math.copysign(1, found) == math.copysign(1, wanted), (x, y)


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"erf", "erfc"}))
def test_special_values_are_those_of_c(library, name):
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan",
             "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}  # fmt: skip
    function, exact = of(library, name), getattr(np, names.get(name, name))
    with np.errstate(all="ignore"):
        for x in SPECIAL:
            found, wanted = function(x), float(exact(x))
            assert np.allclose(found, wanted, rtol=1e-15, atol=0, equal_nan=True), (x, found, wanted)
            assert math.isnan(wanted) or math.copysign(1, found) == math.copysign(1, wanted), (x, found)


def test_what_remains_of_a_division_is_exact(library):
    remainder, rng = of(library, "fmod", 2), np.random.default_rng(5)
    for x, scale in zip(rng.normal(size=500) * 10.0 ** rng.uniform(-290, 290, 500), rng.uniform(-15, 5, 500), strict=True):
        y = float(x * 10.0**scale)
        assert remainder(x, y) == math.fmod(x, y), (x, y)
    assert remainder(7 * 5e-324, 3 * 5e-324) == 5e-324
