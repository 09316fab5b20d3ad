"""The results file: rows while a sweep runs, one JSON at its end, and the table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now

from .attempt import ELSE, NO_SAMPLE, OUTCOMES, Row
from .operators import operators

FILE = Path(__file__).parent / "results" / "operators.json"
_PACKAGES = ("edgewright", "torch", "onnx", "onnxscript", "onnxruntime", "executorch", "litert-torch", "ai-edge-litert")


def read_rows(folder: Path) -> dict[tuple[str, str], Row]:
    """The latest row of every operator and target: the results file, then what sweeps have added.

    Args:
        folder: Where the shards write, a line a row.
    """
    found: dict[tuple[str, str], Row] = {}
    if FILE.exists():
        for plain in json.loads(FILE.read_text(encoding="utf-8"))["rows"]:
            found[plain["op"], plain["target"]] = Row(**plain)
    added = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    for plain in sorted(added, key=lambda line: line["at"]):
        row = Row(**plain["row"])
        found[row.op, row.target] = row
    return found


def counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Outcomes by target."""
    by_target: dict[str, Counter[str]] = {}
    for row in rows:
        by_target.setdefault(row.target, Counter())[row.outcome] += 1
    return {target: {o: by_target[target][o] for o in OUTCOMES} for target in sorted(by_target)}


def write(rows: Iterable[Row]) -> None:
    """Writes the results file."""
    ordered = sorted(rows, key=lambda row: (row.op, row.target))
    data: dict[str, Any] = {
        "date": now(),
        "machine": machine(),
        "versions": {name: installed(name) for name in _PACKAGES},
        "operators": {"in_database": len(operators()), "with_rows": len({row.op for row in ordered})},
        "counts": counts(ordered),
    }
    lines = ",\n".join(f"  {json.dumps(row.plain())}" for row in ordered)
    head = json.dumps(data, indent=1)[:-2]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def table(rows: Iterable[Row]) -> str:
    """Counts as text, then the common causes and every row that is anything else."""
    listed = list(rows)
    lines = [f"{'target':<12}" + "".join(f"{outcome:>15}" for outcome in OUTCOMES)]
    for target, row in counts(listed).items():
        lines.append(f"{target:<12}" + "".join(f"{row[outcome]:>15}" for outcome in OUTCOMES))
    for row in listed:
        if row.outcome == ELSE:
            lines.append(f"! {row.op} [{row.target}] {row.error}: {row.message}")
    lost = sorted({f"{row.op}: {row.message}" for row in listed if row.outcome == NO_SAMPLE})
    return "\n".join([*lines, *(f"- {text}" for text in lost)])


def causes(rows: Iterable[Row], *, most: int = 25) -> str:
    """How often each error occurs, by target."""
    found = Counter((row.target, row.error, (row.finding.partition(": ")[2] or row.message)[:110]) for row in rows if row.error)
    return "\n".join(f"{n:4} {target:<12} {error}: {text}" for (target, error, text), n in found.most_common(most))
