"""Instructions of MobileNet-v1 in LiteRT on ARM: ``python -m tests.sparsity.simulate_litert``.

Counted by QEMU in the wheel that a board gets, one thread: with all weights, with LiteRT's own sparse inference, and as one operator
that our engine runs.  Counts are no times.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import sdk
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.engines import installed
from edgewright_runtime.measure import machine, now
from sdk.benchmark import current_commit
from sdk.deploy.folder import deploy_folder
from tests.native import readme
from tests.native.benchmark import mobilenet_v1
from tests.shims import arm_board

RESULT = Path(__file__).parent / "results" / "litert-arm.json"
README = readme.ROOT / "export/edgewright_export/methods/sparsity/README.md"
DEVICE = "raspberry-pi-5:litert"
ZEROS = (0.8, 0.9)
_SCRIPT = """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter, load_delegate
folder, runs = "/board/" + sys.argv[1], int(sys.argv[2])
own = [load_delegate(folder + "/libedgewright.so", {"threads": 1})] if sys.argv[1].startswith("own") else []
one = Interpreter(folder + "/m.edge/model.tflite", num_threads=1, experimental_delegates=own)
one.allocate_tensors()
one.set_tensor(one.get_input_details()[0]["index"], numpy.load("/board/x.npy"))
for _ in range(runs):
    one.invoke()
"""


@click.command()
def main() -> None:
    """Counts, writes the result file and the table."""
    module, given = mobilenet_v1()[0].eval(), (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        np.save(folder / "x.npy", given[0].numpy())
        rows = [_row(module, given, folder, "dense", None)]
        rows += [_row(module, given, folder, kind, zeros) for zeros in ZEROS for kind in ("itself", "own")]
    versions = {"ai-edge-litert": arm_board.PACKAGES[-1].partition("==")[2], "edgewright": installed("edgewright") or ""}
    versions["qemu"] = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    found = {"kind": "simulated", "cpu": arm_board.CPU, "machine": machine(), "versions": versions, "commit": current_commit(), "date": now()}
    write_file(RESULT, json.dumps({**found, "rows": rows}, indent=1, sort_keys=True).encode() + b"\n")
    readme.write_table(README, "litert", text())


def _row(module: torch.nn.Module, given: tuple[torch.Tensor, ...], folder: Path, kind: str, zeros: float | None) -> dict[str, Any]:
    methods = [] if zeros is None else [sdk.methods.WeightSparsity(zeros, allocation="uniform", steps=0, subgraph=kind == "own")]
    with tempfile.TemporaryDirectory() as work:
        bundle = sdk.export(
            module, DEVICE, example_inputs=given, methods=methods, calibration=[given], output=Path(work) / "m.edge"
        )
        deploy_folder(bundle.path, folder / kind)
        once, thrice = (arm_board.instructions(_SCRIPT, folder, kind, runs) for runs in (1, 3))
        shutil.rmtree(folder / kind)
        return {"runs": kind, "zeros": zeros or 0.0, "instructions": (thrice - once) // 2, "file_bytes": bundle.file_bytes}


def text() -> str:
    """One line a file."""
    found = json.loads(RESULT.read_text())
    names = {"dense": "LiteRT, all weights", "itself": "LiteRT leaves zeros out itself", "own": "one operator, our kernels"}
    lines = ["| zeros | what runs it | bytes | instructions of a run (simulated) | of those with all weights |", "|---|---|---|---|---|"]
    dense = found["rows"][0]["instructions"]
    for row in found["rows"]:
        share = f"{row['instructions'] / dense:.2f}"
        lines.append(f"| {row['zeros']:.0%} | {names[row['runs']]} | {row['file_bytes']:,} | {row['instructions']:,} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
