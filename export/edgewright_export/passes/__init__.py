"""Graph passes on the captured program: one file each, one line in :data:`PASSES`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

import torch

from edgewright_runtime.quiet import quiet

PASSES = {
    "explicit_attention": "explicit_attention",
    "named_constants": "named_constants",
    "topk_values": "topk_values",
    "xnnpack_grids": "xnnpack_grids",
}


def run_passes(names: Iterable[str], program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Runs passes in order; each takes and returns an ExportedProgram."""
    for name in names:
        with quiet():
            program = import_module(f"{__name__}.{PASSES[name]}").run(program)
    return program
