"""A changed module, the student, learns to do what the unchanged one, its teacher, does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from device_profiles import Finding
from device_profiles.errors import MethodError

from .. import place
from .batches import Batch


class Distillation:
    """Loss of a student: its features and its outputs against the teacher's, and the user's loss if there is one.

    Args:
        student: In evaluation mode.
        teacher: In evaluation mode; it is left as it is.
        path: Submodule of both whose output, or the first of its outputs, are the features.
        adapter: Brings the student's features to the shape of the teacher's.
        loss: From outputs and targets to a scalar, or None.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        path: str,
        adapter: nn.Module,
        loss: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._student, self._teacher, self._path = student, teacher, path
        self._adapter, self._loss = adapter, loss

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted, wanted_features = self._run(self._teacher, batch)
        outputs, features = self._run(self._student, batch)
        total = relative_error(self._adapter(features.float()), wanted_features.float())
        total = total + outputs_apart(outputs, wanted, batch.targets)
        return total if self._loss is None else total + labelled(self._loss, outputs, batch.targets)

    def _run(self, module: nn.Module, batch: Batch) -> tuple[Any, Tensor]:
        with output_of(module, self._path) as seen:
            return ran(module, batch), seen[-1]


def labelled(loss: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> Tensor:
    """The user's loss.

    Raises:
        MethodError: It is no tensor without axes.
    """
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.dim():
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise MethodError(f"the loss of train returns {what}; expected a tensor without axes, such as a mean")
    return value


def ran(module: nn.Module, batch: Batch) -> Any:
    """What a module returns for a batch.

    Raises:
        MethodError: It fails; names the place in the user's model.
    """
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (batch.args, batch.kwargs))
    try:
        return module(*args, **kwargs)
    except Exception as error:
        path, line = place.raised_at(error, module)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
        found = Finding(path, "", line, reason, "batches need the shapes of example_inputs, but for their first axis")
        raise MethodError(f"{type(module).__name__} does not run on a batch of train", [found]) from error


@contextmanager
def output_of(module: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Collects what a submodule returns, behind all hooks that it has; of several outputs the first."""
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, (tuple, list)) else output)

    with module.get_submodule(path).register_forward_hook(hook):
        yield seen


def outputs_apart(outputs: Any, wanted: Any, targets: Any) -> Tensor:
    """How far all outputs are from the teacher's; those of another shape are left out.

    With class numbers as targets outputs are logits, and their distributions are compared (Hinton et al. 2015,
    "Distilling the knowledge in a neural network", section 2); otherwise their values are.
    """
    compare = divergence if isinstance(targets, Tensor) and not targets.is_floating_point() else relative_error
    pairs = zip(_floats(outputs), _floats(wanted), strict=True)
    return sum((compare(ours, theirs) for ours, theirs in pairs if ours.shape == theirs.shape), torch.zeros(()))


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the softmax over the last axis, the mean over all others."""
    ours, theirs = (x.log_softmax(-1) for x in (logits, wanted))
    return nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1).mean()


def relative_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over the variance of what is wanted, if it varies, so that its unit does not matter."""
    variance = wanted.var(correction=0)
    return nn.functional.mse_loss(values, wanted) / torch.where(variance > 0, variance, torch.ones_like(variance))


def _floats(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
