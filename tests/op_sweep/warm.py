"""Imported by the workers of a sweep: makes once what every conversion would make again.

Only what is plain Python and starts no thread, so that the worker can still fork.
"""

from __future__ import annotations

import sys

import torch
import torch._functorch.aot_autograd
import torch.export._trace
import torch.export.pt2_archive._package

torch.set_num_threads(1)

if "executorch.exir" in sys.modules:
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    bilinear_2d.get_graphs_dict()
    sdpa.get_graphs()

if "torch.onnx._internal.exporter._core" in sys.modules:
    from torch.onnx._internal.exporter import _registration

    _registration.ONNXRegistry.from_torchlib()
