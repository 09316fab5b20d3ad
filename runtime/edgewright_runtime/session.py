"""Sessions: open a bundle, run it, classify a photo."""

from __future__ import annotations

from collections.abc import Mapping
from os import cpu_count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from device_profiles.errors import BundleError, DependencyError, InputError

from .bundle.lowered import Lowered, TensorSpec
from .bundle.manifest import Manifest
from .preprocess import Prediction

if TYPE_CHECKING:
    from .bundle.seal import Opened


class Session:
    """A model that is open in one engine.  Engines subclass it and fill in :meth:`_run`.

    Args:
        lowered: The files.
        engine: Name of the engine.
        engine_version: Its version.
        threads: Threads of the engine.
    """

    def __init__(self, lowered: Lowered, *, engine: str, engine_version: str, threads: int) -> None:
        self.lowered = lowered
        self.engine = engine
        self.engine_version = engine_version
        self.threads = threads
        self.manifest: Manifest | None = None
        self._opened_bundle: Opened | None = None
        self._labels: tuple[str, ...] | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes, in the order of the module's forward."""
        return self.lowered.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes, in the order of the flattened result."""
        return self.lowered.outputs

    def run(self, *args: Any, **named: Any) -> dict[str, np.ndarray]:
        """Runs the model once.

        Args:
            args: Arrays in the order of :attr:`inputs`; one dict of name to array also counts as names.
            named: Arrays by input name.

        Returns:
            Arrays by output name, in the order of :attr:`outputs`.

        Raises:
            InputError: Wrong count, name, dtype or shape; the message lists every mismatch.
            RuntimeFailure: The engine gave up.

        Example:
            ``session.run(x)["logits"]``, ``session.run(input_ids=ids, attention_mask=mask)``
        """
        arrays = self._bind(args, named)
        return dict(zip((spec.name for spec in self.outputs), self._run(arrays), strict=True))

    def classify(self, photo: Any, *, top_k: int | None = None) -> tuple[Prediction, ...]:
        """Labels of a photo, best first, by the bundle's own pre- and post-processing.

        Args:
            photo: A path, a ``PIL.Image.Image``, or a uint8 array of shape (height, width, 3).
            top_k: How many; None: what the bundle says.

        Raises:
            InputError: The bundle carries no ``preprocess``, or the photo cannot be read.
            OptionError: ``top_k`` is not a positive integer.
            RuntimeFailure: The engine gave up.
        """
        manifest = self.manifest
        if manifest is None or len(manifest.preprocess) != 1 or manifest.postprocess is None:
            raise InputError(
                "classify needs a bundle that was exported with preprocess=sdk.Image(...) for one input; "
                "use run() with arrays instead"
            )
        ((name, image),) = manifest.preprocess.items()
        post = manifest.postprocess
        results = self.run(**{name: image.load(photo)})
        scores = results[post.output or self.outputs[0].name]
        ranked = post if top_k is None else type(post)(post.output, post.softmax, top_k)
        return ranked.rank(scores, self._labels)

    def sample_inputs(self, *, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs of the declared shapes, dynamic dimensions at their minimum.

        Args:
            seed: Of the generator; the same seed gives the same values.

        Returns:
            Arrays by input name: floats are standard normal, everything else is one.
        """
        draw = np.random.default_rng(seed)
        arrays = {}
        for spec in self.inputs:
            shape = [size if isinstance(size, int) else _smallest(spec, size) for size in spec.shape]
            values = draw.standard_normal(shape) if spec.numpy_dtype.kind == "f" else np.ones(shape)
            arrays[spec.name] = values.astype(spec.numpy_dtype)
        return arrays

    def close(self) -> None:
        """Releases the engine's memory; the session cannot run afterwards."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        outputs = ", ".join(map(str, self.outputs))
        return f"<Session {self.engine} {self.engine_version}, {self.threads} threads: ({inputs}) -> ({outputs})>"

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError

    def _bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> list[np.ndarray]:
        names = [spec.name for spec in self.inputs]
        problems = []
        if len(args) == 1 and isinstance(args[0], Mapping):
            given = dict(args[0])
        else:
            given = dict(zip(names, args, strict=False))
            if len(args) > len(names):
                problems.append(f"{len(args)} positional inputs, the model takes {len(names)}")
        problems += [f"{name!r} is given twice" for name in named if name in given]
        given.update(named)
        problems += [f"no input {name!r}" for name in given if name not in names]
        problems += [f"{name!r} is missing" for name in names if name not in given]
        arrays: dict[str, np.ndarray] = {}
        for spec in self.inputs:
            if spec.name in given:
                problems += _take(spec, given[spec.name], arrays)
        problems += _disagreements(self.inputs, arrays)
        if problems:
            expected = "; ".join(map(str, self.inputs)) or "no inputs"
            raise InputError(f"{'; '.join(problems)}\nexpected {expected}")
        return [np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape) for name in names]


def _take(spec: TensorSpec, value: Any, arrays: dict[str, np.ndarray]) -> list[str]:
    """Adds the value as an array to ``arrays``; what is wrong with it comes back."""
    try:
        array = np.asarray(value)
    except Exception as error:  # what a foreign tensor raises here is its own business
        return [f"{spec.name!r} cannot be read as an array: {error}"]
    arrays[spec.name] = array
    problems = []
    if array.dtype != spec.numpy_dtype:
        problems.append(f"{spec.name!r} has dtype {array.dtype}, expected {spec.dtype}")
    if not spec.admits(array.shape):
        problems.append(f"{spec.name!r} has shape {array.shape}, expected {spec}")
    return problems


def _disagreements(specs: tuple[TensorSpec, ...], arrays: Mapping[str, np.ndarray]) -> list[str]:
    seen: dict[str, set[int]] = {}
    for spec in specs:
        shape = arrays[spec.name].shape if spec.name in arrays else ()
        for want, size in zip(spec.shape, shape, strict=False):
            if isinstance(want, str):
                seen.setdefault(want, set()).add(size)
    torn = {name: sorted(sizes) for name, sizes in seen.items() if len(sizes) > 1}
    return [f"dimension {name!r} is {' and '.join(map(str, sizes))} at once" for name, sizes in torn.items()]


def _smallest(spec: TensorSpec, name: str) -> int:
    return max(1, spec.bounds[name].min) if name in spec.bounds else 1


def load(path: str | Path, *, threads: int | None = None, check: bool = True) -> Session:
    """Opens a bundle, folder or packed ``.edgez``, in the engine it was verified with.

    Args:
        path: ``model.edge`` or ``model.edgez``.
        threads: Threads of the engine; None: what the bundle's recipe says, at most this machine's cores.
        check: Whether to check every hash first.  Turn it off only for a bundle that was just checked.

    Raises:
        BundleError: Damaged, incomplete, foreign or too new.
        DependencyError: The engine is not installed; the message has the pip command.
        InputError: ``threads`` is not a positive integer.
        RuntimeFailure: The engine refuses the model.
    """
    from .bundle.seal import open_bundle
    from .engines import engine_named, older_than

    opened = open_bundle(Path(path), check=check)
    manifest = opened.manifest
    engine = engine_named(manifest.engine.name)
    too_old = older_than(engine, manifest.engine.min_version)
    if too_old:
        raise DependencyError(
            f"the bundle needs {manifest.engine.name} {manifest.engine.min_version} or newer, {too_old} is installed; "
            f'pip install -U "edgewright[{engine.extra}]"'
        )
    session = engine.open(opened.lowered, threads=_threads(threads, manifest.recipe.threads))
    session.manifest = manifest
    session._opened_bundle = opened
    if manifest.labels:
        session._labels = _read_labels(opened.folder / manifest.labels)
    return session


def _read_labels(path: Path) -> tuple[str, ...]:
    """One label a line; only line feeds end a line, other separators may stand inside a label."""
    try:
        return tuple(path.read_bytes().decode("utf-8").removesuffix("\n").split("\n"))
    except (OSError, ValueError) as error:
        raise BundleError(f"the labels in {path} cannot be read: {error}") from error


def _threads(asked: int | None, recipe: int) -> int:
    if asked is None:
        return max(1, min(recipe, cpu_count() or 1))
    if type(asked) is not int or asked < 1:
        raise InputError(f"threads must be a positive integer, got {asked!r}")
    return asked
