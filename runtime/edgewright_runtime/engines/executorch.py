"""ExecuTorch programs in the Python bindings of the executorch wheel."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_profiles import Finding
from device_profiles.errors import DependencyError, RuntimeFailure

from .. import executorch_shim
from ..bundle.lowered import Lowered
from ..quiet import quiet
from ..session import Session
from . import installed, missing_package, subgraph_library


class ExecuTorch:
    """ExecuTorch with the XNNPACK delegate.  Its Python bindings load torch themselves."""

    name = "executorch"
    extra = "executorch"
    packages = ("executorch",)
    formats = ("executorch",)

    def available(self) -> Finding | None:
        """See :class:`edgewright_runtime.engines.Engine`."""
        return missing_package(self.packages, self.extra)

    def open(self, lowered: Lowered, *, threads: int) -> Session:
        """See :class:`edgewright_runtime.engines.Engine`."""
        library = subgraph_library(lowered)
        try:
            with quiet():
                from executorch.extension.pybindings import portable_lib

                _use_threads(threads)
                if library is not None:
                    executorch_shim.load(library)
                module = portable_lib._load_for_executorch(str(lowered.path()))
                module.method_meta("forward")
        except DependencyError:
            raise
        except Exception as error:
            said = executorch_shim.explain(error)
            raise RuntimeFailure(f"executorch {installed('executorch')} cannot open the model: {said}") from error
        return _Session(lowered, module, threads)


_threads_now: int | None = None


def _use_threads(count: int) -> None:
    """Sets the one thread pool of the process, which all ExecuTorch sessions share."""
    global _threads_now
    if count != _threads_now:
        from executorch.extension.pybindings import portable_lib

        with quiet():
            portable_lib._unsafe_reset_threadpool(count)
        _threads_now = count


class _Session(Session):
    def __init__(self, lowered: Lowered, module: Any, threads: int) -> None:
        super().__init__(lowered, engine="executorch", engine_version=installed("executorch") or "", threads=threads)
        self._module = module

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        import torch

        _use_threads(self.threads)
        tensors = [torch.from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]
        try:
            results = self._module.forward(tensors)
        except Exception as error:
            raise RuntimeFailure(f"executorch could not run the model: {executorch_shim.explain(error)}") from error
        return [results[int(spec.binding)].numpy() for spec in self.outputs]

    def close(self) -> None:
        """Releases the program."""
        self._module = None
