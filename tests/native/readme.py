"""Tables of READMEs that scripts make from result files, between the marks ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from __future__ import annotations

from pathlib import Path

from edgewright_runtime.bundle.paths import write_file

ROOT = Path(__file__).parents[2]
NATIVE, WEB = ROOT / "runtime" / "native" / "README.md", ROOT / "runtime" / "web" / "README.md"


def _parts(path: Path, mark: str) -> tuple[str, str, str]:
    before, rest = path.read_text(encoding="utf-8").split(f"<!-- {mark} -->\n")
    table, after = rest.split(f"\n<!-- /{mark} -->")
    return before, table, after


def table_of(path: Path, mark: str) -> str:
    """What stands between the marks."""
    return _parts(path, mark)[1]


def write_table(path: Path, mark: str, table: str) -> None:
    """Replaces what stands between the marks, and prints it."""
    before, _, after = _parts(path, mark)
    write_file(path, f"{before}<!-- {mark} -->\n{table}\n<!-- /{mark} -->{after}".encode())
    print(table)
