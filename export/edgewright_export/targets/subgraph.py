"""A whole model as one operator of another runtime, ``edgewright::Subgraph``, which our engine runs (``runtime/shims``).

For models whose zeros that runtime would multiply.  Single layers as operators of ours would convert layouts around each.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_profiles import EngineRow
from device_profiles.errors import LoweringError
from device_profiles.record import unstructure
from edgewright_runtime.bundle import Lowered

from ..registry import target_named
from ..tasks import read_lowered
from ..worker import worker_with

if TYPE_CHECKING:
    from ..state import State
    from . import Target

NAME, DOMAIN, VERSION = "Subgraph", "edgewright", 1
REQUIRES = {"subgraph": VERSION}
"""What a session of the other runtime must load."""
FILE = "subgraph.onnx"


def lower(target: Target, state: State, row: EngineRow, folder: Path) -> Lowered:
    """Writes what the native engine takes, then the target's file around it.

    Args:
        target: With ``subgraphs_from``.
        state: Captured.
        row: The target's.
        folder: Empty.

    Raises:
        LoweringError: The native engine or the target cannot have the model.
    """
    import onnx

    native = target_named("native")
    with tempfile.TemporaryDirectory(prefix="edgewright-subgraph-") as work:
        made = Path(work) / "native"
        made.mkdir()
        inner = native.gather(native.lower(replace(state, subgraph=False), row, made))
        model = Path(work) / FILE
        onnx.save_model(onnx.load(str(inner.path())), str(model))
        outcome = worker_with(target.preload).run(
            "embed",
            Path(work),
            {
                "target": target.name,
                "model": str(model),
                "folder": str(folder),
                "inputs": [unstructure(s) for s in inner.inputs],
                "outputs": [unstructure(s) for s in inner.outputs],
            },
        )
    if outcome.error is not None:
        raise LoweringError(f"the model cannot be written as one operator of {target.engine}: {target.explain(outcome.error)}")
    return replace(read_lowered(outcome.result, folder), decisions=inner.decisions)
