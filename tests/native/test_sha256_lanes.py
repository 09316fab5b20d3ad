"""SHA-256 of chunks against hashlib, with every number of lanes that this processor has."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from .inside import Engine, at_page_end, engine

CHUNK = 1 << 20
DATA = np.random.default_rng(20).integers(0, 256, 16 * CHUNK + 64, np.uint8)


@pytest.fixture(params=[1, 4, 8, 16])
def lanes(request: pytest.FixtureRequest) -> Iterator[Engine]:
    built = engine("sha256.c", "sha256_lanes.c")
    built.c.ew_sha256_force_lanes.restype = ctypes.c_bool
    built.c.ew_sha256_chunks.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    if not built.c.ew_sha256_force_lanes(request.param):
        pytest.skip(f"this processor has no vectors of {request.param} lanes")
    yield built
    built.c.ew_sha256_force_lanes(0)


def digests(built: Engine, address: int | None, size: int) -> list[bytes]:
    count = -(-size // CHUNK)
    found = ctypes.create_string_buffer(32 * count + 1)
    built.c.ew_sha256_chunks(address, size, found)
    assert found.raw[-1] == 0
    return [found.raw[at : at + 32] for at in range(0, 32 * count, 32)]


def wanted(offset: int, size: int) -> list[bytes]:
    data = DATA[offset : offset + size].tobytes()
    return [hashlib.sha256(data[at : at + CHUNK]).digest() for at in range(0, size, CHUNK)]


@pytest.mark.parametrize(
    ("count", "rest"),
    [(0, 0), (0, 1), (0, CHUNK - 1), (1, 0), (1, 1), (2, 55), (3, 56), (4, 0), (5, 119), (9, 500_001), (16, 0)],
)
def test_odd_numbers_of_chunks_and_odd_ends(lanes: Engine, count: int, rest: int) -> None:
    size = count * CHUNK + rest
    assert digests(lanes, DATA.ctypes.data, size) == wanted(0, size)


@pytest.mark.parametrize("offset", [1, 2, 63])
def test_misaligned_starts(lanes: Engine, offset: int) -> None:
    size = CHUNK + 1003
    assert digests(lanes, DATA.ctypes.data + offset, size) == wanted(offset, size)


def test_a_flipped_bit_in_any_lane_changes_its_chunk_alone(lanes: Engine) -> None:
    size = 15 * CHUNK + 77
    flipped = DATA[:size].copy()
    flipped[np.arange(16) * CHUNK + 70] ^= np.uint8(1) << np.arange(16, dtype=np.uint8) % 8
    before, after = wanted(0, size), digests(lanes, flipped.ctypes.data, size)
    assert not set(before) & set(after) and len(set(after)) == 16
    flipped[:] = DATA[:size]
    flipped[3 * CHUNK - 1] ^= 128
    assert [i for i, one in enumerate(digests(lanes, flipped.ctypes.data, size)) if one != before[i]] == [2]


def test_nothing_is_read_beyond_the_end(lanes: Engine) -> None:
    size = CHUNK + 4096 + 33
    with at_page_end(DATA[:size].tobytes()) as address:
        assert digests(lanes, address.value, size) == wanted(0, size)


def test_lanes_that_are_not_there_are_refused() -> None:
    built = engine("sha256.c", "sha256_lanes.c")
    built.c.ew_sha256_force_lanes.restype = ctypes.c_bool
    assert not built.c.ew_sha256_force_lanes(3) and not built.c.ew_sha256_force_lanes(32)
