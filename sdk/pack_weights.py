"""Seals a bundle anew with its weights packed for the native engine's kernels (``runtime/native/README.md``)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import device_profiles
from device_profiles.errors import OptionError
from device_profiles.schema import DeviceProfile
from edgewright_runtime import native_library
from edgewright_runtime.bundle.paths import partial_folder
from edgewright_runtime.bundle.seal import open_bundle, seal

from .place import output_path

FOLDER = "packed"
_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}


def isa_of(profile: DeviceProfile) -> str:
    """The instruction set whose packed weights serve a device."""
    isas = {core.isa for core in profile.cores.values()}
    if all(isa.startswith("arm") for isa in isas):
        return "neon"
    if "wasm32" in isas:
        return "wasm"
    return "avx512vnni" if set(profile.features) >= _AVX512 else "avx2" if "avx2" in profile.features else "scalar"


def pack_weights(path: Path, isas: Sequence[str], output: Path) -> None:
    """Adds packed weights to a bundle; those that it has already go.

    Args:
        path: The bundle.
        isas: Instruction sets as the native engine names them; (): that of the bundle's device.
        output: The folder of the new bundle; may be the old one's.

    Raises:
        BundleError: The bundle is damaged.
        OptionError: The native engine does not run it, or knows no such instruction set.
        OutputError: It cannot be written.
    """
    output = output_path(output, "", "")
    opened = open_bundle(path)
    manifest = opened.manifest
    wanted = tuple(dict.fromkeys(isas)) or (isa_of(device_profiles.device(manifest.device)),)
    kept = [name for name in manifest.files if not name.startswith(f"{FOLDER}/")]
    try:
        model = native_library.Model(opened.folder, check=False)
        packed = {f"{FOLDER}/{isa}-v1.bin": model.pack(isa) for isa in wanted}
    except (native_library.NativeError, OSError) as error:
        raise OptionError(f"the weights of {path} cannot be packed: {error}") from error
    with partial_folder(output) as folder:
        for name in kept:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(opened.folder / name, folder / name)
        (folder / FOLDER).mkdir(exist_ok=True)
        for name, data in packed.items():
            (folder / name).write_bytes(data)
        seal(folder, manifest, [*kept, *packed], output)
