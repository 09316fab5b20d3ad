"""Describes the machine that this process runs on, as a device profile."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from .schema import Core, CoreGroup, DeviceProfile, EngineRow, Memory

_FEATURES = {
    "x86_64": ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni"),
    "aarch64": ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
}


def detect_host(cores: dict[str, Core]) -> DeviceProfile:
    """The profile of this machine; what cannot be read is left out, never guessed.

    Args:
        cores: Known core designs; an ARM host is matched to one by its part number's name.
    """
    info = _cpuinfo()
    core = _core(info)
    group = CoreGroup(
        core=core.id,
        count=os.cpu_count() or 1,
        clock_hz=_clock_hz(info),
        l1d_bytes=_cache_bytes(1),
        l2_bytes=_cache_bytes(2),
        l2_shared=False,
    )
    return DeviceProfile(
        id="host",
        name=f"this machine ({core.name})",
        kind="pc",
        soc=core.name,
        core_groups=(group,),
        memory=Memory(dram_bytes=(_dram_bytes(),), l3_bytes=_cache_bytes(3)),
        engines=_engines(core),
        os=platform.platform(terse=True),
        libc="-".join(platform.libc_ver()),
        python=platform.python_version(),
        sources={"core_groups": "read from /proc/cpuinfo and /sys", "memory": "read from sysconf and /sys"},
        cores={core.id: core},
    )


def _engines(core: Core) -> tuple[EngineRow, ...]:
    return (
        EngineRow(
            "onnxruntime",
            "onnx",
            "runs",
            "fp32 and int8 on all cores",
            install="pip install onnxruntime",
            weight_qmax=63 if saturates(core.features) else 127,
        ),
        EngineRow("litert", "tflite", "runs", "XNNPACK inside", install="pip install ai-edge-litert"),
        EngineRow(
            "executorch", "executorch", "runs", "XNNPACK delegate", install="pip install torch==2.13.0 executorch==1.4.1"
        ),
        EngineRow("native", "onnx", "runs", "our own engine, fp32 and int8", install="pip install numpy"),
    )


def saturates(features: Iterable[str]) -> bool:
    """Whether ONNX Runtime adds pairs of u8 x s8 products in 16 bits on such a core, where 127 is too large a weight
    (its documentation, Quantize ONNX models: AVX2 without VNNI)."""
    return "avx2" in features and not {"avx_vnni", "avx512_vnni"} & set(features)


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _core(info: dict[str, str]) -> Core:
    machine = platform.machine()
    flags = set((info.get("flags") or info.get("features") or "").split())
    features = tuple(name for name in _FEATURES.get(machine, ()) if name in flags)
    bits = 512 if "avx512f" in flags else 256 if "avx2" in flags else 128
    return Core(
        id="host-core",
        name=info.get("model name") or platform.processor() or machine,
        isa=machine,
        features=features,
        vector_bits=bits,
        fp32_macs_per_cycle=2.0 * bits / 32,
        int8_macs_per_cycle=2.0 * bits / 8,
        out_of_order=True,
        sources={"features": "read from /proc/cpuinfo", "vector_bits": "from the features"},
        notes="macs per cycle assume two vector pipes; not measured",
    )


def _clock_hz(info: dict[str, str]) -> int:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    try:
        return int(path.read_text()) * 1000
    except (OSError, ValueError):
        return int(float(info.get("cpu mhz", "0")) * 1e6)


def _cache_bytes(level: int) -> int | None:
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if int((index / "level").read_text()) != level or "Instruction" in (index / "type").read_text():
                continue
            size = re.fullmatch(r"(\d+)([KM])", (index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if size:
            return int(size[1]) * {"K": 1024, "M": 1024 * 1024}[size[2]]
    return None


def _dram_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
