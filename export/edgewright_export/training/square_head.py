"""A student's blocks learn to give what the teacher's give.

Kurtic et al. 2023, "Sparse fine-tuning for inference acceleration of large language models", section 3.1 ("SquareHead").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from .distill import output_of


def blocks(module: nn.Module, layers: Collection[str]) -> list[str]:
    """The parts of which a model is a sequence, by path: outermost elements of lists and sequences that hold any of the layers.

    Args:
        module: The model.
        layers: Paths of modules.
    """
    found: list[str] = []
    for path, part in module.named_modules():
        if not isinstance(part, (nn.ModuleList, nn.Sequential)):
            continue
        for name, _ in part.named_children():
            own = f"{path}.{name}" if path else name
            inside = any(layer == own or layer.startswith(f"{own}.") for layer in layers)
            if inside and not any(own.startswith(f"{other}.") for other in found):
                found.append(own)
    return found


@contextmanager
def outputs_of(module: nn.Module, paths: Sequence[str]) -> Iterator[list[list[Tensor]]]:
    """Collects what submodules return, in the order of ``paths``."""
    with ExitStack() as stack:
        yield [stack.enter_context(output_of(module, path)) for path in paths]


def square_head(ours: Sequence[Sequence[Tensor]], theirs: Sequence[Sequence[Tensor]]) -> Tensor:
    """Squared errors over the squares of what is wanted, the mean over all blocks that ran and return floats.

    Args:
        ours: By block, what the student's returned in each call.
        theirs: Likewise of the teacher's.
    """
    pairs = [pair for own, wanted in zip(ours, theirs, strict=True) for pair in zip(own, wanted, strict=False)]
    errors = [
        (own.float() - wanted.float()).square().mean() / wanted.float().square().mean().clamp(min=1e-30)
        for own, wanted in pairs
        if isinstance(own, Tensor) and own.is_floating_point() and own.shape == wanted.shape
    ]
    return torch.stack(errors).mean() if errors else torch.zeros(())
