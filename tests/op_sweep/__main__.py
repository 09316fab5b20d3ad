"""Sweeps torch's operator database: ``python -m tests.op_sweep`` in the root of the repository."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_JOB_SECONDS = "25"
"""A converter gets less than half of an operator's limit: a failure is tried a second time, alone."""


def main() -> int:
    """Runs a sweep or prints what there is; status 1 if anything else than match or our error occurs."""
    options = _options()
    os.environ.setdefault("EDGEWRIGHT_JOB_SECONDS", _JOB_SECONDS)
    from . import results

    if options.verb == "run":
        _run(options)
    rows = results.read_rows(options.partial)
    if options.verb != "run":
        if options.verb == "write":
            results.write(rows.values())
        print(results.table(rows.values()))
        if options.causes:
            print(results.causes(rows.values(), most=options.causes))
    return int(any(row.outcome == "anything else" for row in rows.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.op_sweep", description=__doc__)
    parser.add_argument(
        "verb", nargs="?", default="run", choices=("run", "summary", "write"),
        help="run adds rows, summary prints the table, write makes the results file",
    )
    parser.add_argument("--target", action="append", help="one of the targets; may be given again; default all")
    parser.add_argument("--only", default="", metavar="REGEX", help="operators whose full name matches")
    parser.add_argument("--outcome", default="", metavar="REGEX", help="again, those that ended so before")
    parser.add_argument("--again", action="store_true", help="also what has a row already")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th operator, beginning with the I-th")
    parser.add_argument("--partial", type=Path, default=_partial(), help="folder of the rows of unfinished sweeps")
    parser.add_argument("--causes", type=int, default=0, metavar="N", help="with summary: the N most common causes")
    return parser.parse_args()


def _partial() -> Path:
    return Path(tempfile.gettempdir()) / "edgewright-op-sweep"


def _run(options: argparse.Namespace) -> None:
    import torch

    from edgewright_export.registry import TARGETS

    from . import results
    from .isolate import Isolation
    from .operators import operators

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    torch.set_num_threads(1)
    options.partial.mkdir(parents=True, exist_ok=True)
    index, count = map(int, options.shard.split("/"))
    targets = options.target or list(TARGETS)
    known = results.read_rows(options.partial)
    names = [name for name in operators() if re.search(options.only, name)][index - 1 :: count]
    with tempfile.TemporaryDirectory(prefix="edgewright-op-sweep-") as folder:
        isolation = Isolation(targets, Path(folder))
        try:
            for name in names:
                wanted = [t for t in targets if _is_wanted(known.get((name, t)), options)]
                _sweep(isolation, name, wanted, options.partial / f"{index}-of-{count}.jsonl")
        finally:
            isolation.close()


def _is_wanted(row: Any, options: argparse.Namespace) -> bool:
    if options.outcome:
        return row is not None and re.search(options.outcome, row.outcome) is not None
    return row is None or options.again


def _sweep(isolation: Any, name: str, targets: list[str], path: Path) -> None:
    from .operators import operators

    for row in isolation.rows(name, operators()[name], targets):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time.time(), "row": row.plain()}) + "\n")
        print(f"{row.op:<44} {row.target:<12} {row.outcome:<14} {row.seconds:6.1f} s  {row.error} {row.message[:90]}")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
