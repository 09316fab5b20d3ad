"""What fuzzing found: every input of the corpus, and every one that once crashed, on the engine as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright_runtime import kernels
from tests.native import fuzz_corpus, programs

PARTS = tuple(str(programs.NATIVE / "src" / name) for name in ("base.c", "protobuf.c", "sha256.c"))


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> list[Path]:
    """The program, and all inputs."""
    folder = tmp_path_factory.mktemp("fuzz")
    inputs = folder / "inputs"
    inputs.mkdir()
    return [programs.build("fuzz_engine", folder, "-DEW_REPLAY", *PARTS), *fuzz_corpus.unpack(inputs)]


@pytest.mark.parametrize("isa", kernels.isas())
def test_every_input_of_the_corpus_runs_or_is_refused(isa, replay):
    found = programs.run(*replay, EDGEWRIGHT_FORCE_ISA=isa)
    assert found.returncode == 0, found.stdout.splitlines()[-1:] + found.stderr.splitlines()[:20]
    assert len(found.stdout.splitlines()) == len(replay) - 1 > 100
