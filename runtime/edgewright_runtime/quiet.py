"""Keeps third-party noise off the terminal and puts it into the log instead."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

log = logging.getLogger("edgewright.thirdparty")
log.addHandler(logging.NullHandler())
_lock = threading.RLock()
_depth = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Sends file descriptors 1 and 2 to a temporary file, then to the log ``edgewright.thirdparty``.

    Libraries print from C++ as well as from Python, so the descriptors themselves are
    redirected.  Nested use is one redirection.
    """
    global _depth
    with _lock:
        if _depth:
            yield
            return
        _depth += 1
        try:
            with tempfile.TemporaryFile() as sink:
                with _redirected(sink.fileno()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield
                sink.seek(0)
                text = sink.read().decode(errors="replace").strip()
                if text:
                    log.debug("%s", text)
        finally:
            _depth -= 1


@contextmanager
def _redirected(sink: int) -> Iterator[None]:
    _flush()
    saved = [(fd, os.dup(fd)) for fd in (1, 2) if _is_open(fd)]
    streams = sys.stdout, sys.stderr
    try:
        for fd, _ in saved:
            os.dup2(sink, fd)
        sys.stdout, sys.stderr = _straight(1), _straight(2)
        yield
    finally:
        _flush()
        sys.stdout, sys.stderr = streams
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)


@cache
def _straight(fd: int) -> IO[str]:
    """A stream that always writes to a descriptor; a logging handler may keep it for ever."""
    return open(fd, "w", buffering=1, closefd=False, errors="replace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
