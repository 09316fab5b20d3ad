"""The process that forks for each conversion: what it has loaded before, and that it can fork."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgewright_export import worker
from edgewright_export.registry import TARGETS, target_named

LOAD = """
import importlib, os, sys
for name in sys.argv[1].split():
    module, _, function = name.partition(":")
    loaded = importlib.import_module(module)
    function and getattr(loaded, function)()
tasks = "/proc/self/task"
print(sorted(os.listdir(tasks))[1:] if os.path.exists(tasks) else [])
"""


def test_functions_are_called_and_what_is_missing_is_left_out(monkeypatch, capfd):
    called = []
    made = SimpleNamespace(first=lambda: called.append(os.write(1, b"noise")), last=lambda: called.append("last"))
    monkeypatch.setitem(sys.modules, "a_module", made)
    worker._quietly_load(["a_module", "no_such_module:first", "a_module:first", "a_module:no_such", "a_module:last"])
    assert called == [5, "last"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_a_worker_loads_is_there_and_leaves_no_thread(target):
    """A child would wait for ever for a lock that another thread holds while the worker forks."""
    names = "\n".join(target_named(target).preload)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}
    command = [sys.executable, "-W", "ignore", "-c", LOAD, names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
