"""Sessions of one model in many threads at once, with the library as it is and watched by the thread sanitizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native import programs
from tests.native.small_models import convolutions, transformer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """Paths of models whose products are large enough to be split among threads."""
    folder = tmp_path_factory.mktemp("models")
    for eight in (False, True):
        (folder / f"convolutions {eight}.onnx").write_bytes(convolutions(eight, side=64))
        (folder / f"transformer {eight}.onnx").write_bytes(transformer(eight, batch=128))
    return sorted(map(str, folder.iterdir()))


def check(program: Path, models: list[str]) -> None:
    found = programs.run(program, *models)
    assert found.returncode == 0, found.stdout + found.stderr
    assert [line.split(": ")[1].split(",")[0] for line in found.stdout.splitlines()] == ["200 runs"] * len(models)


def test_sessions_of_one_model_at_once_give_the_bits_of_a_run_alone(models, tmp_path):
    check(programs.build("check_threads", tmp_path), models)


@pytest.mark.slow
def test_the_thread_sanitizer_finds_nothing(models, tmp_path):
    build = ROOT / "build" / "threads"
    cmake = [sys.executable, "-m", "cmake"]
    configure = [*cmake, "-S", str(programs.NATIVE), "-B", str(build), "-DEDGEWRIGHT_SANITIZE=thread"]
    for command in (configure, [*cmake, "--build", str(build)]):
        subprocess.run(command, check=True, capture_output=True)
    check(programs.build("check_threads", tmp_path, "-fsanitize=thread", library=build / "libedgewright.so"), models)
