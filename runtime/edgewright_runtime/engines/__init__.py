"""Engines: programs that open lowered files.  One file each, one line in :data:`ENGINES`."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from device_profiles import Finding
from device_profiles.errors import BundleError, DependencyError

from ..bundle.lowered import Lowered
from ..native_library import library_path
from ..session import Session

ENGINES = {
    "executorch": "executorch:ExecuTorch",
    "litert": "litert:LiteRT",
    "native": "native:Native",
    "onnxruntime": "onnxruntime:OnnxRuntime",
}


class Engine(Protocol):
    """What every engine file offers."""

    name: str
    extra: str
    """The extra of the distribution that installs it."""
    packages: tuple[str, ...]
    """Distributions that hold it; any one will do, the first is preferred."""
    formats: tuple[str, ...]

    def available(self) -> Finding | None:
        """None if it can run here, else what is missing and the command that installs it."""

    def open(self, lowered: Lowered, *, threads: int) -> Session:
        """Opens the files.

        Raises:
            DependencyError: The engine is not installed.
            RuntimeFailure: The engine refuses the files.
        """


def engine_named(name: str) -> Engine:
    """The engine of a bundle, checked to be installed.

    Raises:
        BundleError: No such engine in this version.
        DependencyError: Not installed; the message has the pip command.
    """
    if name not in ENGINES:
        raise BundleError(f"the bundle needs engine {name!r}; this version has {', '.join(sorted(ENGINES))}")
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(f"{__name__}.{module}"), attribute)()
    missing = engine.available()
    if missing:
        raise DependencyError(f"engine {name}: {missing.reason}; {missing.fix}")
    return engine


def missing_package(packages: tuple[str, ...], extra: str) -> Finding | None:
    """A finding if none of the alternative packages is installed."""
    if any(installed(package) for package in packages):
        return None
    return Finding("", "", "", f"{packages[0]} is not installed", f'pip install "edgewright[{extra}]"')


def older_than(engine: Engine, least: str) -> str | None:
    """The installed version of an engine's first package if it is older than ``least``, else None."""
    found = installed(engine.packages[0])
    return found if found is not None and is_older(found, least) else None


def is_older(version: str, least: str) -> bool:
    """Whether a version comes before another."""
    return _numbers(version) < _numbers(least)


SUBGRAPH = 1
"""Version of ``edgewright::Subgraph`` that our library brings into other engines."""


def subgraph_library(lowered: Lowered) -> str | None:
    """Path of the library that an engine must load for ``edgewright::Subgraph``; None where the files do not have it.

    Raises:
        BundleError: A newer version of the operator is needed.
        DependencyError: The library is not there.
    """
    needed = lowered.requires.get("subgraph")
    if needed is None:
        return None
    if needed > SUBGRAPH:
        raise BundleError(f"the bundle needs edgewright::Subgraph {needed}, this version has {SUBGRAPH}; update edgewright")
    engine_named("native")
    return library_path()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def installed(package: str) -> str | None:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
