"""Weights out of a model file of CTranslate2, format 6 (which Whisper models are often published in)."""

from __future__ import annotations

import struct
from pathlib import Path

import torch

_DTYPES = {0: torch.float32, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.float16}
_VERSION = 6


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name; half precision becomes float32.

    Raises:
        ValueError: The file is of another version or ends early.
    """
    reader = _Reader(path.read_bytes())
    version = reader.number("I")
    if version != _VERSION:
        raise ValueError(f"{path.name} has format {version}, expected {_VERSION}")
    reader.text()  # the name and the revision of the architecture
    reader.number("I")
    return dict(reader.tensor() for _ in range(reader.number("I")))


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def bytes(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError(f"the file ends at byte {len(self._content)}, {count} more from {self._at} were expected")
        self._at += count
        return taken

    def number(self, kind: str) -> int:
        value: int = struct.unpack(f"<{kind}", self.bytes(struct.calcsize(f"<{kind}")))[0]
        return value

    def text(self) -> str:
        return self.bytes(self.number("H")).removesuffix(b"\0").decode()

    def tensor(self) -> tuple[str, torch.Tensor]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = _DTYPES[self.number("B")]
        values = torch.frombuffer(bytearray(self.bytes(self.number("I"))), dtype=dtype).reshape(shape)
        return name, values.float() if dtype == torch.float16 else values
