"""The platforms that ``build-runtime`` knows.  One more is one line in :data:`TRIPLES`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from device_profiles.errors import OptionError


@dataclass(frozen=True)
class Triple:
    """A platform.

    Args:
        target: What the compiler calls it.
        system: ``CMAKE_SYSTEM_NAME``
        processor: ``CMAKE_SYSTEM_PROCESSOR``
        library: The library's file in the archive.
        cache: Further entries of CMake's cache.
        package: What the archive is for: ``cmake`` (a library that ``find_package`` finds) or ``npm`` (``web.py``).
    """

    target: str
    system: str
    processor: str
    library: str = "lib/libedgewright.so"
    cache: tuple[str, ...] = ()
    package: Literal["cmake", "npm"] = "cmake"


TRIPLES = {
    "aarch64-linux-gnu.2.17": Triple("aarch64-linux-gnu.2.17", "Linux", "aarch64"),
    "aarch64-linux-musl": Triple(
        "aarch64-linux-musl", "Linux", "aarch64", "lib/libedgewright.a", ("BUILD_SHARED_LIBS=OFF",)
    ),
    "x86_64-linux-gnu.2.17": Triple("x86_64-linux-gnu.2.17", "Linux", "x86_64"),
    "wasm32": Triple(
        "wasm32-wasi",
        "Generic",
        "wasm32",
        "dist/edgewright-simd.wasm",
        ("CMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",),
        "npm",
    ),
}
"""By the name that users give: shared libraries for any glibc since 2.17, a static one for programs with musl, the
package for browsers and Node."""


def find_triple(name: str) -> Triple:
    """The platform of that name.

    Raises:
        OptionError: There is none; the message lists those that exist.
    """
    if name not in TRIPLES:
        raise OptionError(f"no triple {name!r}; there are: {', '.join(TRIPLES)}")
    return TRIPLES[name]
