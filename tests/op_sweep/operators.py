"""torch's own operator database as small modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

SEED = 0
_DTYPES = (torch.float32, torch.int64, torch.int32, torch.bool, torch.bfloat16, torch.complex64)
"""What a sample is asked in: fp32, or the first of the others where an operator takes no fp32."""


@dataclass(frozen=True)
class Sample:
    """One operator with one sample of its arguments.

    Args:
        module: Takes the tensors, holds everything else.
        inputs: The tensors.
        dtype: What the sample was asked in.
    """

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    dtype: str


class Operator(torch.nn.Module):
    """Calls one operator; its tensors are inputs, its other arguments are constants."""

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.call = call
        leaves, self.spec = pytree.tree_flatten((args, kwargs))
        self.slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.constants = [None if i in self.slots else leaf for i, leaf in enumerate(leaves)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.constants)
        for slot, tensor in zip(self.slots, tensors, strict=True):
            leaves[slot] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.call(*args, **kwargs)


def operators() -> dict[str, Any]:
    """Every entry of the database by its full name."""
    return {op.full_name: op for op in op_db}


def sample_of(op: Any) -> Sample:
    """The first sample of an operator.

    Raises:
        LookupError: The database has none for the CPU.
    """
    torch.manual_seed(SEED)
    dtype = next((d for d in _DTYPES if d in op.supported_dtypes("cpu")), None)
    if dtype is None:
        raise LookupError("no common dtype on the CPU")
    found = next(iter(op.sample_inputs("cpu", dtype, requires_grad=False)), None)
    if found is None:
        raise LookupError("the database has no sample")
    args, kwargs = (found.input, *found.args), dict(found.kwargs)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    return Sample(
        Operator(op.op, args, kwargs).eval(), tuple(t.detach() for t in tensors), str(dtype).removeprefix("torch.")
    )
