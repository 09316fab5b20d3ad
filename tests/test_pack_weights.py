"""Packed weights in a bundle: sealed anew, used by the native engine, the same results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import device_profiles
import sdk
from edgewright_runtime import native_library
from edgewright_runtime.measure import machine
from sdk.cli import main
from sdk.pack_weights import isa_of
from tests.tiny_bundle import make_tiny_bundle

pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def bundle(tmp_path: Path) -> sdk.Bundle:
    return sdk.Bundle.open(make_tiny_bundle(tmp_path, engine="native"))


def test_a_bundle_is_sealed_anew_in_its_place(bundle: sdk.Bundle) -> None:
    expected = sdk.load(bundle.path).run(IMAGE)["logits"]
    before = (bundle.path / "model.onnx").read_bytes()
    packed = bundle.pack_weights(isas=["neon", "avx2"])
    assert packed.path == bundle.path and packed.sha256 != bundle.sha256
    assert set(packed.manifest.files) - set(bundle.manifest.files) == {"packed/neon-v1.bin", "packed/avx2-v1.bin"}
    assert (packed.path / "model.onnx").read_bytes() == before and packed.file_bytes > bundle.file_bytes
    np.testing.assert_array_equal(sdk.load(packed.path).run(IMAGE)["logits"], expected)
    again = packed.pack_weights(isas="scalar")
    assert {name for name in again.manifest.files if name.startswith("packed/")} == {"packed/scalar-v1.bin"}


def test_the_default_is_the_instruction_set_of_the_device(tmp_path: Path) -> None:
    for device, isa in (("raspberry-pi-5", "neon"), ("intel-n100", "avx2"), ("browser-chromium", "wasm")):
        assert isa_of(device_profiles.device(device)) == isa
    (tmp_path / "board").mkdir()
    opened = sdk.Bundle.open(make_tiny_bundle(tmp_path / "board", device="raspberry-pi-4b", engine="native"))
    assert "packed/neon-v1.bin" in opened.pack_weights(output=tmp_path / "new.edge").manifest.files
    assert sdk.Bundle.open(opened.path).sha256 == opened.sha256


def test_on_this_machine_the_default_is_what_the_engine_uses(bundle: sdk.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWRIGHT_FORCE_ISA", raising=False)
    packed = bundle.pack_weights()
    names = [name for name in packed.manifest.files if name.startswith("packed/")]
    own = native_library.Model(bundle.path / "model.onnx").pack()
    assert [(bundle.path / name).read_bytes() for name in names] == [own], machine()


def test_an_archive_gives_a_folder_beside_it(bundle: sdk.Bundle, tmp_path: Path) -> None:
    archive = sdk.Bundle.open(bundle.pack(tmp_path / "other.edgez"))
    assert archive.pack_weights(isas="neon").path == tmp_path / "other.edge"
    assert "packed/neon-v1.bin" in sdk.Bundle.open(tmp_path / "other.edge").manifest.files


def test_what_cannot_be_packed_leaves_the_bundle(bundle: sdk.Bundle, tmp_path: Path) -> None:
    with pytest.raises(sdk.OptionError, match=r"'mmx'.*neon"):
        bundle.pack_weights(isas=["neon", "mmx"])
    with pytest.raises(sdk.OutputError, match=r"must end in \.edge"):
        bundle.pack_weights(isas="neon", output=tmp_path / "new")
    assert sdk.Bundle.open(bundle.path).sha256 == bundle.sha256
    (bundle.path / "model.onnx").write_bytes(b"\0" * (bundle.path / "model.onnx").stat().st_size)
    with pytest.raises(sdk.BundleError):
        bundle.pack_weights(isas="neon")


def test_the_command(bundle: sdk.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["pack-weights", str(bundle.path), *arguments])
        assert not stop.value.code
        return capsys.readouterr().out

    found = json.loads(call("--isa", "neon", "--json"))
    assert found["sha256"] == sdk.Bundle.open(bundle.path).sha256 and found["path"] == str(bundle.path)
    assert "packed/avx2-v1.bin" in call("--isa", "avx2")
