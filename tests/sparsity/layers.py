"""Linear layers from no zeros to nothing else beside the dense one: ``python -m tests.sparsity.layers run``.

One layer is one session of the native engine, one thread; those of a shape are interleaved in one run, so that their weights
are not in the first caches.  Zeros are made by size, of random weights, in blocks of four outputs and of single weights.
"""

from __future__ import annotations

import functools
import json

import click
import numpy as np
import torch
from onnx import helper
from torch import nn

from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.measure import machine, measure, now, ratio
from edgewright_runtime.native_library import Model
from sdk.benchmark import current_commit
from tests.native.small_models import model
from tests.sparsity import benchmark
from tests.sparsity.prune import pruned

NAME = "sweep-linear"
SHAPES = ((32, 768, 768), (32, 768, 3072), (197, 384, 1536), (1, 1024, 1000), (1, 768, 3072), (1, 4096, 4096), (4, 768, 768))
"""Rows, depth, outputs."""
SHARES = tuple(percent / 100 for percent in range(0, 101, 10))


def content(rows: int, layer: nn.Linear) -> bytes:
    """The file of one layer, as it is exported."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    constants = {"w": layer.weight.detach().numpy(), "b": layer.bias.detach().numpy()}
    return model(nodes, {"x": (rows, layer.in_features)}, ["y"], constants)


def timed(rows: int, depth: int, outputs: int, samples: int) -> list[dict[str, object]]:
    """A row of the result file for each share of zeros and each pattern."""
    torch.manual_seed(0)
    layer, last, x = nn.Linear(depth, outputs), nn.Linear(1, 1), np.random.default_rng(0).standard_normal((rows, depth), np.float32)
    pattern = {"(4, 1)": 4, "unstructured": 1}
    layers = {"dense": layer}
    for name, side in pattern.items():
        layers |= {f"{name} {share:.0%}": pruned(nn.Sequential(layer, last), share, side)[0] for share in SHARES}
    sessions = {name: Model(content(rows, one)).session(threads=1) for name, one in layers.items()}
    timings = measure(
        {name: functools.partial(session.run, [x]) for name, session in sessions.items()}, min_samples=samples, min_seconds=0
    )
    return [
        {
            "shape": f"{rows}x{depth}x{outputs}",
            "name": name,
            "kernel": next(step.kernel for step in sessions[name].steps()),
            "median_s": timing.median_s,
            "faster_than_dense": ratio(timings["dense"], timing),
        }
        for name, timing in timings.items()
    ]


@click.group()
def main() -> None:
    """Times sparse linear layers."""


@main.command()
@click.option("--samples", default=100, show_default=True, help="Of each contender.")
def run(samples: int) -> None:
    """Writes the result file and prints what is in it."""
    rows = [row for shape in SHAPES for row in timed(*shape, samples)]
    found = {"rows": rows, "kind": "measured", "machine": machine(), "commit": current_commit(), "date": now()}
    write_file(benchmark.RESULTS / f"{benchmark.here(NAME)}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
    for row in rows:
        click.echo("{shape} {name}: {kernel}, {0:.2f} x dense ({1:.2f} to {2:.2f})".format(*row["faster_than_dense"], **row))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
