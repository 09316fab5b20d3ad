"""Forked children, one an operator, that share the converters' worker processes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edgewright_export.registry import target_named
from edgewright_export.worker import Worker, worker_with

from .attempt import ELSE, NO_SAMPLE, Row, attempt, captured_once
from .operators import Operator, Sample, sample_of

LIMIT_S = 60.0


class Isolation:
    """Runs operators in children of this process.

    Args:
        targets: Keys of the targets.
        folder: Empty; holds what the children and the workers write.
        limit_s: Wall clock of an operator on a target.
    """

    def __init__(self, targets: list[str], folder: Path, limit_s: float = LIMIT_S) -> None:
        self.targets, self.folder, self.limit_s = targets, folder, limit_s
        self._workers: dict[str, Worker] = {}
        for target in targets:
            self._ready(target)
        self._warm_up()

    def rows(self, name: str, op: Any, targets: list[str]) -> Iterator[Row]:
        """What becomes of an operator, target by target."""
        left = list(targets)
        while left:
            for target in left:
                self._ready(target)
            for row in self._one_child(name, op, tuple(left)):
                left.remove(row.target)
                yield row

    def close(self) -> None:
        """Ends the workers."""
        for worker in self._workers.values():
            worker.close()

    def _warm_up(self) -> None:
        """One export here, so that the children inherit what torch imports at first use."""
        home = self.folder / "warm"
        home.mkdir()
        for target in self.targets:
            sample = Sample(Operator(torch.abs, (torch.ones(2),), {}).eval(), (torch.ones(2),), "float32")
            attempt("abs", target, sample, captured_once(sample), [home])

    def _ready(self, target: str) -> None:
        """A worker that lives, with a temporary folder and a working folder of its own."""
        home = self.folder / f"worker-{target}"
        home.mkdir(exist_ok=True)
        worker = self._workers.setdefault(target, worker_with(target_named(target).preload))
        where = Path.cwd()
        os.chdir(home)
        try:
            with _environment(TMPDIR=str(home), OMP_NUM_THREADS="1"):
                worker._started()
        finally:
            os.chdir(where)

    def _one_child(self, name: str, op: Any, targets: tuple[str, ...]) -> Iterator[Row]:
        """Rows until the child is through, dies or is too slow; at least one."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._child(name, op, targets, writing)
        os.close(writing)
        start, waiting = time.monotonic(), list(targets)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while waiting:
                line = _line(pipe, start + self.limit_s)
                if not line:
                    yield self._lost(name, waiting[0], pid, line is None, time.monotonic() - start)
                    return
                row = Row(**json.loads(line))
                waiting.remove(row.target)
                start = time.monotonic()
                yield row
        os.waitpid(pid, 0)

    def _lost(self, name: str, target: str, pid: int, hung: bool, seconds: float) -> Row:
        if hung:
            os.killpg(pid, signal.SIGKILL)
            _kill_jobs(self._workers[target])
            self._workers[target].close()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        how = f"no end after {self.limit_s:g} s" if hung else f"the process ended with status {code}"
        for folder in (self.folder / f"worker-{target}", self.folder / "export", self.folder / "temporary"):
            shutil.rmtree(folder, ignore_errors=True)
        return Row(name, target, ELSE, "Hang" if hung else "Crash", how, seconds=round(seconds, 2))

    def _child(self, name: str, op: Any, targets: tuple[str, ...], pipe: int) -> None:
        os.setpgid(0, 0)
        try:
            self._enter()
            for row in self._attempts(name, op, targets):
                os.write(pipe, json.dumps(row.plain()).encode() + b"\n")
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)

    def _enter(self) -> None:
        """The child's own folders and output; the workers are the parent's children, not this one's."""
        for name in ("export", "temporary"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        os.chdir(self.folder / "export")
        tempfile.tempdir = str(self.folder / "temporary")
        log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        for worker in self._workers.values():
            process = worker._process
            assert process is not None
            process.poll = lambda: None  # type: ignore[method-assign]

    def _attempts(self, name: str, op: Any, targets: tuple[str, ...]) -> Iterator[Row]:
        try:
            sample = sample_of(op)
        except Exception as error:
            first = f"{type(error).__name__}: {error}".partition("\n")[0]
            yield from (Row(name, target, NO_SAMPLE, message=first) for target in targets)
            return
        state: Callable[[], Any] = captured_once(sample)
        for target in targets:
            home = self.folder / f"worker-{target}"
            yield attempt(name, target, sample, state, [self.folder / "export", self.folder / "temporary", home])
            for folder in (self.folder / "export", home):
                _empty(folder)


@contextmanager
def _environment(**changed: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _line(pipe: Any, deadline: float) -> bytes | None:
    """One line; empty at the end of the pipe, None at the deadline."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        byte = pipe.read(1)
        if not byte:
            return b""
        line += byte
    return line


def _kill_jobs(worker: Worker) -> None:
    """Ends the job that a worker is waiting for: it leads its own process group."""
    process = worker._process
    if process is None:
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for pid in children.read_text().split() if children.exists() else ():
        os.killpg(int(pid), signal.SIGKILL)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
