"""What an export hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_profiles.errors import BundleError
from edgewright_runtime.bundle import pack
from edgewright_runtime.bundle.latency import Latency
from edgewright_runtime.bundle.manifest import Manifest, Parity, Quality
from edgewright_runtime.bundle.seal import MANIFEST, MANIFEST_HASH, open_bundle


@dataclass(frozen=True)
class Bundle:
    """A sealed bundle on disk.

    Args:
        path: The folder ``<name>.edge`` or the file ``<name>.edgez``.
        manifest: Everything it says about itself.
        sha256: Hash of the manifest: the bundle's identity.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Reads a bundle and checks every hash.

        Raises:
            BundleError: Damaged, incomplete, foreign or too new.
        """
        opened = open_bundle(Path(path))
        return cls(Path(path), opened.manifest, opened.manifest_sha256)

    @property
    def device(self) -> str:
        """Device id."""
        return self.manifest.device

    @property
    def format(self) -> str:
        """``onnx``, ``executorch`` or ``tflite``."""
        return self.manifest.format

    @property
    def engine(self) -> str:
        """Name of the engine that it was verified with."""
        return self.manifest.engine.name

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the edge methods that were applied, in order."""
        return tuple(str(method["name"]) for method in self.manifest.recipe.methods)

    @property
    def latency(self) -> tuple[Latency, ...]:
        """Seconds a run, with kind; empty while unknown for the device."""
        return self.manifest.latency

    @property
    def memory_bytes(self) -> int:
        """Bytes that a run needs besides the engine itself; its kind is in the manifest."""
        return self.manifest.memory.bytes

    @property
    def file_bytes(self) -> int:
        """Size of the core files."""
        return sum(core.bytes for core in self.manifest.files.values())

    @property
    def parity(self) -> Parity:
        """How far the files' outputs are from the module's."""
        return self.manifest.parity

    @property
    def quality(self) -> Quality | None:
        """What ``evaluate`` returned before and after; None without ``evaluate``."""
        return self.manifest.quality

    def report(self, path: str | Path) -> Path:
        """Writes one self-contained HTML file.

        Returns:
            Its path.

        Raises:
            OutputError: It cannot be written.
        """
        from .report.html import write_report

        return write_report(self, Path(path))

    def pack(self, path: str | Path) -> Path:
        """Writes the bundle as one ``.edgez`` file.

        Returns:
            Its path.

        Raises:
            BundleError: The bundle was changed since it was sealed.
            OutputError: It cannot be written.
        """
        opened = open_bundle(self.path)
        if opened.manifest_sha256 != self.sha256:
            raise BundleError(f"{self.path} was replaced by another bundle; open it again")
        pack.pack(opened.folder, [MANIFEST, *sorted(self.manifest.files), MANIFEST_HASH], Path(path))
        return Path(path)

    def pack_weights(self, *, isas: str | Sequence[str] = (), output: str | Path | None = None) -> Bundle:
        """Seals the bundle anew with its weights as the native engine's kernels read them.

        Such a bundle is about twice as large and opens in less time: nothing is packed at load.  Measurements and
        reports beside the old one are not taken along.

        Args:
            isas: Instruction sets: ``"neon"``, ``"avx2"``, ``"avx512vnni"``, ``"wasm"``, ``"scalar"``; (): that of the
                bundle's device.
            output: Folder of the new bundle; None: in the place of this one, for an ``.edgez`` beside it.

        Returns:
            The new bundle.

        Raises:
            BundleError: The bundle was changed since it was sealed.
            OptionError: The native engine does not run it, or knows no such instruction set.
            OutputError: It cannot be written.

        Example:
            >>> sdk.Bundle.open("mobilenet.edge").pack_weights(isas="neon")  # doctest: +SKIP
        """
        from .pack_weights import pack_weights

        beside = self.path.with_suffix(".edge") if self.path.is_file() else self.path
        target = beside if output is None else Path(output)
        pack_weights(self.path, (isas,) if isinstance(isas, str) else isas, target)
        return Bundle.open(target)
