"""README.md of this folder, from the cards."""

from __future__ import annotations

import os
from pathlib import Path

from tests.reference_models import MODELS, card, card_path

README = Path(__file__).parent / "README.md"
_HEAD = """# Reference models

Trained once by the scripts here, stored as float16, with the quality that was measured on the stored weights.
`load("vit_fmnist")` from `tests.reference_models` gives the float32 module. `make reference-models` trains all again.
The table is written by `python -m tests.reference_models table` from the cards (`<folder>/<name>.json`).

| model | task | data | parameters | stored | figure | trained |
|---|---|---|---|---|---|---|
"""


def text() -> str:
    """The whole file; models without a card are left out."""
    return _HEAD + "".join(_line(name) for name in MODELS if card_path(name).exists())


def write_table() -> None:
    """Replaces the file at once."""
    partial = README.with_suffix(".partial")
    partial.write_text(text())
    os.replace(partial, README)


def _line(name: str) -> str:
    c = card(name)
    figures = "; ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in c.figures.items())
    trained = f"seed {c.seed}, {c.steps} steps, {c.minutes:.0f} min on {c.threads} thread{'s' * (c.threads > 1)}"
    size = f"{c.weights_bytes / 1e6:.2f} MB"
    return f"| `{name}` | {c.task} | {c.data} | {c.parameters:,} | {size} | {figures} | {trained} |\n"
