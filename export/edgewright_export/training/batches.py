"""What the user passes as ``train=``, checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from device_profiles.errors import OptionError

from ..example import given as inputs_given

_EXPECTED = (
    "expected (batches, loss): an iterable of (inputs, targets) such as a DataLoader, and a function "
    "loss(outputs, targets) or None"
)


class Batch(NamedTuple):
    """Inputs of ``forward``, and what the loss compares its outputs with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any


@dataclass(frozen=True)
class Train:
    """Data and loss.

    Args:
        batches: An iterable of (inputs, targets) that can be read again, or a function that returns one.
        loss: From outputs and targets to a scalar; None: there are no labels.
    """

    batches: Iterable[Any] | Callable[[], Iterable[Any]]
    loss: Callable[[Any, Any], Any] | None

    def epoch(self) -> Iterator[Batch]:
        """All batches once.

        Raises:
            OptionError: There is none, or one is no pair.
        """
        epoch = iter(self.batches() if callable(self.batches) else self.batches)
        first = next(epoch, None)
        if first is None:
            raise OptionError("train holds no batch; each epoch needs at least one (inputs, targets)")
        yield _batch(first)
        yield from map(_batch, epoch)

    def endless(self) -> Iterator[Batch]:
        """All batches, epoch after epoch.

        Raises:
            OptionError: As for one epoch.
        """
        while True:
            yield from self.epoch()


def given(train: Any) -> Train | None:
    """``train=`` as the user passed it; None for None.

    Raises:
        OptionError: It is no pair of batches and loss, or its batches can be read only once.
    """
    if train is None:
        return None
    if not isinstance(train, (tuple, list)) or len(train) != 2:
        raise OptionError(f"train is {_said(train)}; {_EXPECTED}")
    batches, loss = train
    if not callable(batches) and not isinstance(batches, Iterable):
        raise OptionError(f"the batches of train are {_said(batches)}; {_EXPECTED}")
    if isinstance(batches, Iterator):
        raise OptionError(
            f"the batches of train are {_said(batches)}, which can be read once; training reads them again and again: "
            "pass a list, a DataLoader, or the function that makes the iterator"
        )
    if loss is not None and not callable(loss):
        raise OptionError(f"the loss of train is {_said(loss)}; {_EXPECTED}")
    return Train(batches, loss)


def _batch(given: Any) -> Batch:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise OptionError(f"a batch of train is {_said(given)}; expected (inputs, targets)")
    example = inputs_given(given[0], None)
    return Batch(example.args, example.kwargs, given[1])


def _said(value: Any) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if isinstance(value, (tuple, list)) else f"a {kind}"
