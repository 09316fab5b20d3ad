"""What a converter imports and makes at its first use; a worker does it once, before it forks for the first job.

No thread may be left: a fork has none of its parent's, but every lock that they held.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator


def program() -> None:
    """The smallest program: exported, saved, loaded and decomposed."""
    import torch

    with _without_threads():
        made, file = torch.export.export(torch.nn.ReLU(), (torch.zeros(1),)), io.BytesIO()
        torch.export.save(made, file)
        file.seek(0)
        torch.export.load(file).run_decompositions()


def onnx() -> None:
    """ONNX functions of all operations."""
    import torch

    with _without_threads():
        torch.onnx.export(torch.nn.ReLU(), (torch.zeros(1),), dynamo=True, verbose=False)


def executorch() -> None:
    """Graphs of what XNNPACK looks for in every program."""
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    with _without_threads():
        bilinear_2d.get_graphs_dict()
        sdpa.get_graphs()


@contextlib.contextmanager
def _without_threads() -> Iterator[None]:
    """Neither OpenMP's nor the one that watches progress bars, of which torch makes one for each graph."""
    import torch

    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        tqdm.monitor_interval = 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
