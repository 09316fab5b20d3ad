"""What a target makes and an engine opens: files with named, typed inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Bounds:
    """Inclusive range of a dynamic dimension."""

    min: int
    max: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Args:
        name: Name that users pass and read.
        dtype: numpy dtype name (``float32``, ``int64``, ``bool``, ...).
        shape: Sizes; a string names a dynamic dimension.
        bounds: Range of each dynamic dimension by its name.
        binding: Name or index by which the engine knows the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    bounds: dict[str, Bounds]
    binding: str

    def __str__(self) -> str:
        sizes = (str(n) if isinstance(n, int) else self._dynamic(n) for n in self.shape)
        return f"{self.name}: {self.dtype}[{', '.join(sizes)}]"

    def _dynamic(self, name: str) -> str:
        bounds = self.bounds.get(name)
        return f"{name}={bounds.min}..{bounds.max}" if bounds else name

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits, each dimension on its own."""
        return len(shape) == len(self.shape) and all(map(self._fits, self.shape, shape))

    def _fits(self, want: int | str, size: int) -> bool:
        if isinstance(want, int):
            return size == want
        bounds = self.bounds.get(want)
        return bounds is None or bounds.min <= size <= bounds.max

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype as numpy knows it."""
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class Entry:
    """One callable of a bundle: ``main``, later ``prefill``, ``decode``, ...

    Args:
        file: Model file, relative to the bundle.
        inputs: In the order of the module's forward.
        outputs: In the order of the flattened result.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Decision:
    """How the native engine runs a product with constant weights, decided when a session was made on this machine.

    Args:
        paths: Modules of the user's model that it may be of, the likeliest first.
        kernel: Its name; None: portable code.
        isa: The instruction set for which it was decided, that of the kernel or a better one.
        is_sparse: Whether the kernel leaves out zeros.
        has_sparse: Whether there is one that leaves them out and might take its place.
        sparse_cost: Of the sparse kernel over that of the dense one, as estimated; None: nothing was estimated.
    """

    paths: tuple[str, ...]
    kernel: str | None
    isa: str
    is_sparse: bool
    has_sparse: bool
    sparse_cost: float | None


@dataclass(frozen=True)
class StepTime:
    """What a step of the native engine takes.

    Args:
        paths: Modules of the user's model that it may be of, the likeliest first; none where it is no product with constant
            weights.
        seconds: Mean of its runs.
    """

    paths: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Lowered:
    """Unsealed files in a folder.

    Args:
        folder: Where they lie.
        format: ``onnx``, ``executorch`` or ``tflite``.
        engine: Engine that opens them.
        files: All files, relative to ``folder``.
        entries: By name; ``main`` is always there.
        versions: Versions of what wrote the files.
        requires: What the engine must offer: ``opset``, ``ir_version``, ...
        modules: Of an ONNX file's ``main``, by the names of products with constant weights: modules of the user's model
            that each may be of, the likeliest first.
        decisions: Of a model with zeros, where the native engine runs ``main`` or is inside of what does; None: not asked.
        leaves_out_zeros: Whether weights are stored so that an engine of others leaves their zeros out on ARM, by its own rules.
    """

    folder: Path
    format: str
    engine: str
    files: tuple[str, ...]
    entries: dict[str, Entry]
    versions: dict[str, str]
    requires: dict[str, int]
    modules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    decisions: tuple[Decision, ...] | None = None
    leaves_out_zeros: bool = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of ``main``."""
        return self.entries["main"].inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of ``main``."""
        return self.entries["main"].outputs

    def path(self, entry: str = "main") -> Path:
        """The model file of an entry."""
        return self.folder / self.entries[entry].file
