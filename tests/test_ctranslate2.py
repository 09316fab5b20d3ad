"""The reader of CTranslate2's model files."""

from __future__ import annotations

import struct

import pytest
import torch

from apps import ctranslate2


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def file(tensors: dict[str, torch.Tensor], version: int = 6) -> bytes:
    numbers = {torch.float32: 0, torch.float16: 4}
    content = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        values = tensor.numpy().tobytes()
        head = struct.pack(f"<B{tensor.ndim}IBI", tensor.ndim, *tensor.shape, numbers[tensor.dtype], len(values))
        content += text(name) + head + values
    return content + struct.pack("<I", 0)


def test_tensors_come_back_in_float32(tmp_path):
    tensors = {"a/weight": torch.randn(3, 4), "b": torch.randn(5).half(), "scalar": torch.tensor(2.5)}
    (tmp_path / "m.bin").write_bytes(file(tensors))
    found = ctranslate2.read(tmp_path / "m.bin")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], tensor.float())


def test_another_version_is_refused(tmp_path):
    (tmp_path / "m.bin").write_bytes(file({}, version=7))
    with pytest.raises(ValueError, match="m.bin has format 7, expected 6"):
        ctranslate2.read(tmp_path / "m.bin")


def test_a_cut_off_file_is_refused_wherever_it_ends(tmp_path):
    content = file({"a": torch.randn(2, 3)})[:-4]
    for kept in range(len(content)):
        (tmp_path / "m.bin").write_bytes(content[:kept])
        with pytest.raises(ValueError, match=f"ends at byte {kept}"):
            ctranslate2.read(tmp_path / "m.bin")
