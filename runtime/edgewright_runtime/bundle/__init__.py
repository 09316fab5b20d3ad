"""The bundle: the only thing that the ahead-of-time half and the device half share."""

from .latency import Cycles, Latency, Measurement
from .lowered import Bounds, Entry, Lowered, TensorSpec
from .workload import Op, Workload

__all__ = ["Bounds", "Cycles", "Entry", "Latency", "Lowered", "Measurement", "Op", "TensorSpec", "Workload"]
