"""Device profiles: what is known about each board, and the root of the error tree."""

from .finding import Finding
from .load import Choice, choose, device, devices
from .schema import Accelerator, Core, CoreGroup, DeviceProfile, EngineRow, Memory

__all__ = [
    "Accelerator",
    "Choice",
    "Core",
    "CoreGroup",
    "DeviceProfile",
    "EngineRow",
    "Finding",
    "Memory",
    "choose",
    "device",
    "devices",
]
