"""What fuzzing found: every input of the corpus, and every one that once crashed, on the engine as it is."""

from __future__ import annotations

from tests.native import fuzz_corpus, programs

PARTS = tuple(str(programs.NATIVE / "src" / name) for name in ("base.c", "protobuf.c", "sha256.c"))


def test_every_input_of_the_corpus_runs_or_is_refused(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    inputs = fuzz_corpus.unpack(folder)
    program = programs.build("fuzz_engine", tmp_path, "-DEW_REPLAY", *PARTS)
    found = programs.run(program, *inputs)
    assert found.returncode == 0, found.stdout.splitlines()[-1:] + found.stderr.splitlines()[:20]
    assert len(found.stdout.splitlines()) == len(inputs) > 100
