"""The manifest: everything a bundle says about itself (``runtime/BUNDLE.md``)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from device_profiles.errors import BundleError
from device_profiles.record import structure, unstructure

from ..preprocess import Classify, Image
from .latency import Latency
from .lowered import Entry

MAJOR, MINOR = 1, 5
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CoreFile:
    """Length and hash of one core file, and the hash of each of its 1 MiB chunks."""

    bytes: int
    sha256: str
    chunk_sha256: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """A run of weights inside a core file that can be mapped or paged on its own."""

    file: str
    offset: int
    bytes: int
    dtype: str
    layout: str
    layer: int | None
    expert: int | None
    residency: Literal["resident", "mapped", "paged"]


@dataclass(frozen=True)
class StateSpec:
    """A tensor that an entry reads and hands back for the next call (KV cache, recurrent state)."""

    input: str
    output: str
    dtype: str
    shape: tuple[int | str, ...]
    axis: int
    max_length: int


@dataclass(frozen=True)
class EngineNeed:
    """The engine that was verified, and what it must offer."""

    name: str
    verified_version: str
    min_version: str
    max_version: str | None
    requires: dict[str, int]
    """``opset``, ``ir_version``, ... where the format has them."""
    cpu_features: tuple[str, ...]
    """Linux hwcap names that the files need."""


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the module's, on the example inputs."""

    name: str
    max_abs: float
    snr_db: float | None
    """None: equal bit for bit (infinite)."""
    cosine: float


@dataclass(frozen=True)
class Parity:
    """Verification of the files on the host, before they were sealed."""

    kind: Literal["measured"]
    threshold_db: float
    engine: str
    engine_version: str
    reference: str
    cases: tuple[str, ...]
    """Which example inputs: ``example``, and the bounds of dynamic dimensions."""
    outputs: tuple[OutputParity, ...]

    @property
    def snr_db(self) -> float:
        """The worst output; infinite where all are equal bit for bit."""
        return min((o.snr_db for o in self.outputs if o.snr_db is not None), default=float("inf"))


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run needs besides the engine itself."""

    bytes: int
    weight_bytes: int
    activation_bytes: int
    kind: Literal["measured", "estimated"]
    source: str


@dataclass(frozen=True)
class Quality:
    """What ``evaluate`` returned."""

    before: float
    after: float
    kind: Literal["measured"]
    source: str


@dataclass(frozen=True)
class Recipe:
    """What was asked for: methods with their options, target, threads."""

    methods: tuple[dict[str, Any], ...]
    target: str
    threads: int


@dataclass(frozen=True)
class Model:
    """What was exported."""

    name: str
    parameters: int
    macs: int
    dtype: str
    example: str
    """Where the example inputs came from."""


@dataclass(frozen=True)
class Layer:
    """A part of the model whose tokens a method dropped, before and after; ``path`` "" is all the rest."""

    path: str
    tokens_before: int | None
    tokens_after: int | None
    """How many tokens the part works on; None for the rest."""
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution, a linear layer or a table of a quantized model."""

    path: str
    op: str
    weights: str
    """dtype in which they are stored: ``float32``, ``int8``, ``int4``, ``int3``, ``int2``."""
    activations: str
    """dtype of the input that they are multiplied with: ``float32``, ``int8``, ``int8 of each run``; behind the latter
    two ``, some tokens int4``."""
    sqnr_db: float | None
    """Of the result, with the float input, against the float layer; None: equal, or not measured."""
    macs: int
    bytes_before: int
    bytes_after: int
    """Of weights and their scales."""


@dataclass(frozen=True)
class SparseLayer:
    """A convolution or linear layer of a model that was made sparse."""

    path: str
    op: str
    pattern: str
    """``(4, 1)``, ``group``, ``unstructured``, ``2:4``, ...; ``dense``."""
    zeros: float
    """Share of its weights, 0 to 1."""
    weights: int
    macs: int
    """Of one run, zeros among them."""
    why_dense: str | None
    """Why it was left as it was; None: it was not."""
    runs: Literal["sparse", "dense"] | None = None
    """Since schema 1.5, as all below: by a kernel that leaves zeros out, or one that does not; None: not known."""
    kernel: str | None = None
    """Which one, as the native engine names it; None: portable code, or another engine's."""
    isa: str | None = None
    """The instruction set for which the native engine decided: that of the machine that exported."""
    sparse_cost: float | None = None
    """Of a sparse kernel over that of the dense one, as the native engine estimates; None: it did not."""
    why: str = ""
    """Why it runs so."""


@dataclass(frozen=True)
class Tried:
    """Something that the model might have become."""

    what: str
    """``float32, as given``, ``26 of 28 layers quantized; float32 stay: conv1, head``."""
    weight_bytes: int
    """Of all constants of its graph, each once: integers with their scales, everything else as it is."""
    quality: float | None
    """What ``evaluate`` returned; None: no finite number, or it was not asked."""
    evaluated: Literal["module", "files"] | None
    """What ``evaluate`` was given; None: it was not asked."""
    chosen: bool
    """Whether it is what the files hold."""


@dataclass(frozen=True)
class Manifest:
    """See ``runtime/BUNDLE.md``; field order is the order of that page."""

    schema: str
    model: Model
    device: str
    format: str
    engine: EngineNeed
    engine_why: str
    entries: dict[str, Entry]
    states: tuple[StateSpec, ...]
    files: dict[str, CoreFile]
    segments: tuple[Segment, ...]
    preprocess: dict[str, Image]
    """By input name."""
    labels: str | None
    """Core file with one label a line."""
    postprocess: Classify | None
    recipe: Recipe
    changes: tuple[str, ...]
    """What methods and passes did, one line each."""
    quantization: dict[str, str] | None
    latency: tuple[Latency, ...]
    memory: MemoryNeed
    parity: Parity
    quality: Quality | None
    versions: dict[str, str]
    layers: tuple[Layer, ...] = ()
    """Since schema 1.1."""
    quantized: tuple[QuantizedLayer, ...] = ()
    """Since schema 1.2."""
    tried: tuple[Tried, ...] = ()
    """Since schema 1.3; first the model as it was given."""
    sparse: tuple[SparseLayer, ...] = ()
    """Since schema 1.4."""

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``: sorted keys, two spaces, one newline at the end."""
        text = json.dumps(unstructure(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Reads ``manifest.json``.

        Raises:
            BundleError: Not JSON, a newer major schema, or fields that are missing or of the wrong type.
        """
        try:
            plain = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
            version = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", plain["schema"])
            if version is None:
                raise ValueError(f"schema is {plain['schema']!r}, not major.minor")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"manifest.json is not a manifest: {error!r}") from error
        major, minor = int(version[1]), int(version[2])
        if major != MAJOR:
            raise BundleError(
                f"the bundle's schema is {major}.{minor}, this runtime reads {MAJOR}.x; "
                "upgrade edgewright or export again"
            )
        try:
            return structure(cls, plain, strict=minor <= MINOR)
        except ValueError as error:
            raise BundleError(f"manifest.json does not fit schema {MAJOR}.{MINOR}:\n{error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} occurs twice in one object")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def digest(data: bytes) -> str:
    """SHA-256 as lower-case hex."""
    return hashlib.sha256(data).hexdigest()
