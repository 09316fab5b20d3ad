"""What ``evaluate`` is given: the module, or the lowered files behind the module's own signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from edgewright_runtime.bundle import Lowered
from edgewright_runtime.engines import engine_named

from .flat import Captured
from .verify import as_array


def module_predictor(module: torch.nn.Module) -> Callable[..., Any]:
    """The module without gradients."""

    def predict(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return module(*args, **kwargs)

    return predict


@contextmanager
def session_predictor(captured: Captured, lowered: Lowered, threads: int) -> Iterator[Callable[..., Any]]:
    """The files in their engine, taking and returning what the module does."""
    with engine_named(lowered.engine).open(lowered, threads=threads) as session:

        def predict(*args: Any, **kwargs: Any) -> Any:
            arrays = [as_array(tensor) for tensor in captured.select(args, kwargs)]
            results = session.run(*arrays)
            return captured.restore([torch.from_numpy(array) for array in results.values()])

        yield predict
