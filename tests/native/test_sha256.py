"""SHA-256 against hashlib, by special instructions (where this processor has them) and without."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from .inside import Engine, engine

BYTES = np.random.default_rng(256).bytes(10_000_000)


@pytest.fixture(params=[False, True], ids=["best", "portable"])
def sha256(request: pytest.FixtureRequest) -> Iterator[Engine]:
    built = engine("sha256.c", structs=("ew_sha256",))
    built.c.ew_sha256_force_portable.argtypes = [ctypes.c_bool]
    built.c.ew_sha256_add.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    built.c.ew_sha256_force_portable(request.param)
    yield built
    built.c.ew_sha256_force_portable(False)


def finish(built: Engine, state: ctypes.Array[ctypes.c_char]) -> bytes:
    digest = ctypes.create_string_buffer(32)
    built.c.ew_sha256_finish(state, digest)
    return digest.raw


def digest_of(built: Engine, *parts: bytes) -> bytes:
    state = built.new("ew_sha256")
    built.c.ew_sha256_init(state)
    for part in parts:
        built.c.ew_sha256_add(state, part, len(part))
    return finish(built, state)


def test_every_length(sha256: Engine) -> None:
    for length in range(301):
        data = BYTES[length : 2 * length]
        assert digest_of(sha256, data) == hashlib.sha256(data).digest(), length


@pytest.mark.parametrize("step", [1, 3, 63, 64, 65, 127, 128, 1000, 4097])
def test_odd_splits(sha256: Engine, step: int) -> None:
    data = BYTES[:9001]
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    assert digest_of(sha256, *parts) == hashlib.sha256(data).digest()


def test_random_splits(sha256: Engine) -> None:
    noise = np.random.default_rng(7)
    for _ in range(200):
        sizes = noise.integers(0, 200, noise.integers(0, 12))
        ends = np.cumsum(sizes)
        parts = [BYTES[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        assert digest_of(sha256, *parts) == hashlib.sha256(b"".join(parts)).digest()


def test_large(sha256: Engine) -> None:
    assert digest_of(sha256, BYTES) == hashlib.sha256(BYTES).digest()


def test_misaligned(sha256: Engine) -> None:
    address = np.frombuffer(BYTES, np.uint8).ctypes.data
    for offset in range(1, 17):
        state = sha256.new("ew_sha256")
        sha256.c.ew_sha256_init(state)
        sha256.c.ew_sha256_add(state, address + offset, 1003)
        assert finish(sha256, state) == hashlib.sha256(BYTES[offset : offset + 1003]).digest()


def test_nothing_at_all(sha256: Engine) -> None:
    state = sha256.new("ew_sha256")
    sha256.c.ew_sha256_init(state)
    sha256.c.ew_sha256_add(state, None, 0)
    assert finish(sha256, state) == hashlib.sha256().digest()


def test_two_at_once(sha256: Engine) -> None:
    one, two = sha256.new("ew_sha256"), sha256.new("ew_sha256")
    for state in (one, two):
        sha256.c.ew_sha256_init(state)
    for at in range(0, 1000, 50):
        sha256.c.ew_sha256_add(one, BYTES[at : at + 50], 50)
        sha256.c.ew_sha256_add(two, BYTES[at : at + 49], 49)
    assert finish(sha256, one) == hashlib.sha256(BYTES[:1000]).digest()
    two_bytes = b"".join(BYTES[at : at + 49] for at in range(0, 1000, 50))
    assert finish(sha256, two) == hashlib.sha256(two_bytes).digest()


def test_hex(sha256: Engine) -> None:
    text = ctypes.create_string_buffer(b"\xff" * 65, 65)
    sha256.c.ew_sha256_hex(hashlib.sha256(b"abc").digest(), text)
    assert text.raw == hashlib.sha256(b"abc").hexdigest().encode() + b"\0"
