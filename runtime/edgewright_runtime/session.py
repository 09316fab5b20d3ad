"""Sessions: open a bundle, run it, classify a photo."""

from __future__ import annotations

from collections.abc import Mapping
from os import cpu_count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from device_profiles.errors import InputError

from .bundle.lowered import Lowered, TensorSpec
from .bundle.manifest import Manifest
from .preprocess import Prediction

if TYPE_CHECKING:
    from .bundle.seal import Opened


class Session:
    """A model that is open in one engine.  Engines subclass it and fill in :meth:`_run`.

    Args:
        lowered: The files.
        engine: Name and version of the engine.
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
        if len(args) == 1 and isinstance(args[0], Mapping):
            args, named = (), {**args[0], **named}
        arrays = self._bind(args, named)
        return dict(zip((spec.name for spec in self.outputs), self._run(arrays), strict=True))

    def classify(self, photo: Any, *, top_k: int | None = None) -> tuple[Prediction, ...]:
        """Labels of a photo, best first, by the bundle's own pre- and post-processing.

        Args:
            photo: A path, a ``PIL.Image.Image``, or a uint8 array of shape (height, width, 3).
            top_k: How many; None: what the bundle says.

        Raises:
            InputError: The bundle carries no ``preprocess``, or the photo cannot be read.
        """
        manifest = self.manifest
        if manifest is None or len(manifest.preprocess) != 1 or manifest.postprocess is None:
            raise InputError(
                "classify needs a bundle that was exported with preprocess=sdk.Image(...); use run() with arrays instead"
            )
        ((name, image),) = manifest.preprocess.items()
        post = manifest.postprocess
        results = self.run(**{name: image.load(photo)})
        scores = results[post.output or self.outputs[0].name]
        ranked = post if top_k is None else type(post)(post.output, post.softmax, top_k)
        return ranked.rank(scores, self._labels)

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
        problems = [f"no input {name!r}" for name in named if name not in names]
        if len(args) > len(names):
            problems.append(f"{len(args)} positional inputs, the model takes {len(names)}")
        given = dict(zip(names, args, strict=False))
        problems += [f"{name!r} is given twice" for name in named if name in given]
        given.update(named)
        problems += [f"{name!r} is missing" for name in names if name not in given]
        if not problems:
            arrays = {spec.name: np.asarray(given[spec.name]) for spec in self.inputs}
            problems = [text for spec in self.inputs for text in _mismatch(spec, arrays[spec.name])]
            problems += _disagreements(self.inputs, arrays)
        if problems:
            expected = "; ".join(map(str, self.inputs)) or "no inputs"
            raise InputError(f"{'; '.join(problems)}\nexpected {expected}")
        return [np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape) for name in names]


def _mismatch(spec: TensorSpec, array: np.ndarray) -> list[str]:
    problems = []
    if array.dtype != spec.numpy_dtype:
        problems.append(f"{spec.name!r} has dtype {array.dtype}, expected {spec.dtype}")
    if not spec.admits(array.shape):
        problems.append(f"{spec.name!r} has shape {array.shape}, expected {spec}")
    return problems


def _disagreements(specs: tuple[TensorSpec, ...], arrays: Mapping[str, np.ndarray]) -> list[str]:
    seen: dict[str, set[int]] = {}
    for spec in specs:
        for want, size in zip(spec.shape, arrays[spec.name].shape, strict=False):
            if isinstance(want, str):
                seen.setdefault(want, set()).add(size)
    return [f"dimension {name!r} is {' and '.join(map(str, sorted(v)))} at once" for name, v in seen.items() if len(v) > 1]


def load(path: str | Path, *, threads: int | None = None, check: bool = True) -> Session:
    """Opens a bundle, folder or packed ``.edgez``, in the engine it was verified with.

    Args:
        path: ``model.edge`` or ``model.edgez``.
        threads: Threads of the engine; None: what the bundle's recipe says, at most this machine's cores.
        check: Whether to check every hash first.  Turn it off only for a bundle that was just checked.

    Raises:
        BundleError: Damaged, incomplete, foreign or too new.
        DependencyError: The engine is not installed; the message has the pip command.
    """
    from .bundle.seal import open_bundle
    from .engines import engine_named

    opened = open_bundle(Path(path), check=check)
    manifest = opened.manifest
    engine = engine_named(manifest.engine.name)
    session = engine.open(opened.lowered, threads=_threads(threads, manifest.recipe.threads))
    session.manifest = manifest
    session._opened_bundle = opened
    if manifest.labels:
        session._labels = tuple((opened.folder / manifest.labels).read_text(encoding="utf-8").splitlines())
    return session


def _threads(asked: int | None, recipe: int) -> int:
    if asked is None:
        return min(recipe, cpu_count() or 1)
    if type(asked) is not int or asked < 1:
        raise InputError(f"threads must be a positive integer, got {asked!r}")
    return asked
