"""Runs third-party converters and engines in child processes: their crash becomes our error.

One helper process per target loads the converter once and forks a fresh child for each job,
so a job costs neither an import nor the caller's life.  A job is a folder: ``job.json`` in,
``result.json`` and whatever files the task writes out, ``log.txt`` for everything it prints.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOB_SECONDS = float(os.environ.get("EDGEWRIGHT_JOB_SECONDS", "1800"))
_LOG_TAIL = 4000


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        result: What the task returned, None unless it returned.
        error: Type, message and traceback of an exception, or how the child died; None if it returned.
        log: The end of what the child printed.
    """

    result: Any
    error: dict[str, Any] | None
    log: str


class Worker:
    """A helper process that has imported some modules and forks for each job.

    Args:
        preload: Names of modules; of functions as ``module:function``, which are called.  Those that are not installed are left out.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = tuple(preload)
        self._process: subprocess.Popen[str] | None = None

    def run(self, task: str, folder: Path, arguments: dict[str, Any], *, seconds: float = JOB_SECONDS) -> Outcome:
        """Runs one job.

        Args:
            task: Name of a function in ``tasks``.
            folder: The job's folder.
            arguments: Plain data for the function.
            seconds: Wall-clock limit.

        Returns:
            The outcome; this function never raises for what the child does.
        """
        job = {"task": task, "arguments": arguments, "seconds": seconds}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        status = self._ask(str(folder))
        return _outcome(folder, status)

    def _ask(self, line: str) -> str:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
        except (BrokenPipeError, OSError):
            answer = ""
        if not answer:
            self.close()
            return "the helper process ended"
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", "-m", f"{__package__}.worker", *self._preload]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            atexit.register(self.close)
        return self._process

    def close(self) -> None:
        """Ends the helper process."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.close)
            process.kill()
            process.communicate()


_workers: dict[tuple[str, ...], Worker] = {}


def worker_with(preload: Sequence[str]) -> Worker:
    """The worker of this process that has imported these modules; started at its first job."""
    return _workers.setdefault(tuple(preload), Worker(preload))


def _outcome(folder: Path, status: str) -> Outcome:
    log_path, result_path = folder / "log.txt", folder / "result.json"
    log = log_path.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:] if log_path.exists() else ""
    if status == "0" and result_path.exists():
        answer = json.loads(result_path.read_text(encoding="utf-8"))
        return Outcome(answer.get("result"), answer.get("error"), log)
    return Outcome(None, {"type": "Died", "message": _how_it_died(status), "traceback": ""}, log)


def _how_it_died(status: str) -> str:
    if status == "timeout":
        return "it did not finish in time (EDGEWRIGHT_JOB_SECONDS)"
    try:
        code = int(status)
    except ValueError:
        return status
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it exited with status {code}"


def _serve() -> None:
    """The helper process: forks for each line on stdin, answers with the child's exit status."""
    channel = os.dup(1)
    os.dup2(2, 1)
    _quietly_load(sys.argv[1:])
    gc.freeze()  # what a collection visits is copied into the child that does it
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        pid = os.fork()
        if pid == 0:
            os.close(channel)
            _child(folder, job)
        os.write(channel, f"{_wait(pid, job['seconds'])}\n".encode())


def _quietly_load(names: Sequence[str]) -> None:
    import importlib

    sink = os.open(os.devnull, os.O_WRONLY)
    saved = os.dup(2)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    try:
        for name in names:
            module, _, function = name.partition(":")
            try:
                loaded = importlib.import_module(module)
                if function:
                    getattr(loaded, function)()
            except (ImportError, AttributeError):
                continue
    finally:
        os.dup2(saved, 2)
        os.dup2(saved, 1)


def _wait(pid: int, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return str(os.waitstatus_to_exitcode(status))
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "timeout"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _child(folder: Path, job: dict[str, Any]) -> None:
    os.setsid()
    _die_with_parent()
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    answer = _answer(job)
    temporary = folder / "result.partial"
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    os.replace(temporary, folder / "result.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _die_with_parent() -> None:
    """Linux ends this process when the helper ends; elsewhere it runs to its end unheard."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    import traceback

    from . import tasks

    try:
        return {"result": getattr(tasks, job["task"])(**job["arguments"])}
    except BaseException as error:
        return {"error": tasks.describe(error, traceback.format_exc())}


if __name__ == "__main__":
    _serve()
