"""What is wrong at one place, and what to change there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One problem, at one place in the user's model or environment.

    Args:
        module_path: Qualified name of the module in the user's model, ``""`` where there is none.
        op: The operation, for example ``aten.fft_fft.default``.
        source_line: ``file:line`` with the source text where it is known, else ``""``.
        reason: Why it does not work.
        fix: What to change.
    """

    module_path: str
    op: str
    source_line: str
    reason: str
    fix: str

    def lines(self) -> list[str]:
        """The finding as at most four indented lines of at most 160 characters."""
        place = " ".join(part for part in (self.module_path, f"[{self.op}]" if self.op else "") if part)
        rows = [f"  {place or 'model'}: {self.reason}"]
        if self.source_line:
            rows.append(f"    at {self.source_line}")
        if self.fix:
            rows.append(f"    fix: {self.fix}")
        return [row if len(row) <= 160 else row[:157] + "..." for row in rows]
