"""Channels of the whole model change places, so that rows lie together whose weights can become zero together.

Xu et al. 2023, "SparseByteNN: a novel mobile inference acceleration framework based on fine-grained group sparsity", abstract,
"whole network rearrangement": what reads the channels of a layer is permuted as the layer is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright_runtime.quiet import quiet

from ...state import State
from ...training.loop import progress
from ..quantization.calls import Call
from ..quantization.graph import open_graph, tensor_at
from .axes import Axis, free
from .importance import looked_at
from .layers import Choice, layers
from .order import order

_CHECKED = 4
"""Calibration inputs on which it is seen that the model computes the same."""
_NEAR = 1e-3
"""Part of the largest output by which sums in another order may differ."""
_Move = tuple[Sequence[Axis], Tensor]
"""What is permuted, and the order."""


def rearranged(state: State, choice: Choice, share: float, given: Sequence[Call]) -> tuple[State, str]:
    """The state with a module that computes the same, and what was done, in words that follow a line.

    Args:
        state: Its module stays what it is.
        choice: Which layers become sparse.
        share: Of zeros, in each of them.
        given: Calibration inputs.
    """
    graph = open_graph(state)
    sparse = layers(graph, dict(state.module.named_parameters(remove_duplicate=False)), choice).sparse
    known = looked_at(graph, sparse, given)
    costs = {(name, 0): tensor_at(graph, name).detach().square() * curvature for name, curvature in known.items()}
    sets = [axes for axes in free(graph, state.module) if any(axis in costs for axis in axes)]
    moves: list[_Move] = []
    for number, axes in enumerate(sets):
        best = order([costs[axis] for axis in axes if axis in costs], choice.pattern.rows, share)
        moves += [] if best is None else [(axes, best)]
        progress.info("sparsity: order of channels %d of %d", number + 1, len(sets))
    if not moves:
        return state, f"; no channels rearranged: {'no order is better' if sets else 'all have to stay in place'}"
    module = _permuted(state.module, moves)
    if not _alike(state.module, module, given[:_CHECKED]):
        return state, "; no channels rearranged: the model would compute something else"
    count = sum(axis in costs for axes, _ in moves for axis in axes)
    return replace(state, module=module), f"; channels of {count} layers rearranged"


def _permuted(module: nn.Module, moves: Sequence[_Move]) -> nn.Module:
    """A copy; a tensor of several names is permuted once."""
    with quiet():
        made = copy.deepcopy(module)
    done: set[tuple[int, int]] = set()
    for (name, axis), best in ((axis, best) for axes, best in moves for axis in axes):
        tensor = tensor_at(made, name).detach()
        if (tensor.data_ptr(), axis) not in done:
            tensor.copy_(tensor.index_select(axis, best))
        done.add((tensor.data_ptr(), axis))
    return made


def _alike(one: nn.Module, other: nn.Module, given: Sequence[Call]) -> bool:
    """Whether modules return the same but for rounding."""
    with torch.no_grad(), quiet():
        pairs = [[pytree.tree_leaves(module(*call.args, **call.kwargs)) for module in (one, other)] for call in given]
    return all(_near(a, b) for leaves in pairs for a, b in zip(*leaves, strict=True) if isinstance(a, Tensor))


def _near(wanted: Tensor, found: Tensor) -> bool:
    a, b = wanted.double(), found.double()
    largest = a[a.isfinite()].abs().max() if bool(a.isfinite().any()) else torch.zeros(())
    return bool(torch.allclose(a, b, rtol=0.0, atol=_NEAR * float(largest), equal_nan=True))
