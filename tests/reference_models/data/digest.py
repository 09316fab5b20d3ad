"""One hash for a set of arrays."""

from __future__ import annotations

import hashlib

import numpy as np
from torch import Tensor


def digest(*tensors: Tensor) -> str:
    """SHA-256 over shape, dtype and bytes of every tensor, in order."""
    total = hashlib.sha256()
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.numpy())
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
