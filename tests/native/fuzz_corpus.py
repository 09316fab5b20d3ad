"""The inputs that fuzzing starts from, ``fuzz_corpus.tar.xz``: small models, archives, manifests and photos.

    python -m tests.native.fuzz_corpus seeds FOLDER   writes what the corpus is made from into a folder
    python -m tests.native.fuzz_corpus keep FOLDER    makes the corpus of a folder's files
    python -m tests.native.fuzz_corpus unpack FOLDER  the files of the corpus, those of ``crashes/`` too

``make fuzz-corpus`` does the first, lets libFuzzer leave out what reaches nothing new, and does the second.  The models
are the node tests of ONNX (https://github.com/onnx/onnx, Apache-2.0), the models of this folder's tests, and what
fuzzing made of both.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sdk import Bundle
from tests.native import state_models
from tests.native.small_models import SMALL, batched_linear
from tests.tiny_bundle import make_tiny_bundle

ARCHIVE = Path(__file__).with_name("fuzz_corpus.tar.xz")
CRASHES = Path(__file__).with_name("crashes")
"""Inputs that once crashed the engine, a file each, named after what was wrong."""
MOST_BYTES = 16_384


def _models() -> Iterator[bytes]:
    from tests.native.test_onnx_nodes import ROWS, RUN, array

    yield batched_linear()
    yield from (make() for make in SMALL.values())
    seen = set()
    for case in RUN:
        yield case.model.SerializeToString()
        content = onnx.ModelProto.FromString(case.model.SerializeToString())
        for value, given in zip(content.graph.input, case.data_sets[0][0], strict=False):
            if array(given).dtype.kind != "f":  # indices and lengths, which random numbers hardly are
                content.graph.initializer.append(onnx.numpy_helper.from_array(array(given), value.name))
        yield content.SerializeToString()
        name = (content.graph.node[0].domain, content.graph.node[0].op_type)
        if len(content.graph.node) == 1 and name not in seen:
            seen.add(name)
            yield from _of_every_dtype(content, sorted({str(d) for row in ROWS[name] for d in row[2]}))


def _of_every_dtype(content: onnx.ModelProto, dtypes: list[str]) -> Iterator[bytes]:
    for dtype in dtypes:
        changed = onnx.ModelProto.FromString(content.SerializeToString())
        for value in changed.graph.input:
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        yield changed.SerializeToString()


def _small_weights() -> Iterator[bytes]:
    """Every use of weights of less than 8 bits, and sparse ones."""
    from tests.native import test_four_bits as four
    from tests.native import test_sparse_files as sparse
    from tests.native import test_three_bits as three

    cases = [four.turned_layer(dtype, group) for dtype in ("int4", "uint4", "int8", "int2") for group in (0, 40)]
    cases += [four.calibrated_convolution(groups, "int4") for groups in (1, 24)]
    cases += [four.calibrated_product(kind) for kind in ("MatMul", "Gemm")]
    cases += [four.dynamic_product(kind) for kind in ("MatMulInteger", "ConvInteger")]
    yield from (graph.model(output) for graph, output, _ in cases)
    yield four.broken((2, 20), axis=0, block_size=32)
    yield from three.files()
    yield from sparse.files()


def _bundles() -> Iterator[bytes]:
    """An archive, and the same as a manifest with its files."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_tiny_bundle(Path(folder))
        yield Bundle.open(bundle).pack(bundle.with_suffix(".edgez")).read_bytes()
        names = ("manifest.json", "labels.txt", "model.onnx")
        yield b"\0".join((bundle / name).read_bytes() for name in names)


def _sequences() -> Iterator[bytes]:
    """Bundles with states, with two entries, and with constants in another file."""
    for options in ({"heads_first": True}, {"heads_first": False, "read_twice": True}):
        made = state_models.decoder(**options)
        bounds = {"new": (1, 3), "past": (0, 9), "total_length": (1, 12)}
        yield _of_one_file({"main": made}, state_models.decoder_states(made), bounds)
    made = state_models.recurrent()
    yield _of_one_file({"main": made, "again": made}, [state_models.state("h", "h_next", (1, 5), -1, 0)])
    tensor = made.graph.initializer[0]
    place = {"location": "weights.bin", "offset": "8", "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    yield _of_one_file({"main": made})


def _of_one_file(
    entries: dict[str, onnx.ModelProto], states: Any = (), bounds: dict[str, tuple[int, int]] | None = None
) -> bytes:
    """As ``fuzz_engine.c`` reads it: all entries are in one file, which is there as ``weights.bin`` too."""
    content = entries["main"].SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        more = {"weights.bin": content}
        bundle = state_models.write_bundle(Path(folder) / "b.edge", entries, states, bounds, more)
        manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["entries"].values():
        entry["file"] = "model.onnx"
    files = manifest["files"]
    manifest["files"] = {"model.onnx": files["main.onnx"], "weights.bin": files["weights.bin"]}
    return json.dumps(manifest).encode() + b"\0\0" + content


def _photos() -> Iterator[bytes]:
    """As ``fuzz_engine.c`` reads them."""
    channels = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4}
    for orientation in range(1, 9):
        for pixel, count in channels.items():
            width, height, resize, layout = 4 + orientation, 3 + pixel, 1 + orientation % 4, 1 + pixel % 2
            numbers = (ord("I"), resize, layout, pixel, width, height, count * width, 2 + pixel, 57344, orientation)
            yield struct.pack("<4B6H", *numbers) + bytes(i * 37 % 256 for i in range(count * width * height))


def seeds(folder: Path) -> None:
    """Every seed that is not too large, named after its content."""
    for content in (*_models(), *_small_weights(), *_bundles(), *_sequences(), *_photos()):
        if len(content) <= MOST_BYTES:
            (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


def keep(folder: Path) -> None:
    """The corpus anew; the same files give the same bytes."""
    partial = ARCHIVE.with_suffix(".partial")
    with tarfile.open(partial, "w:xz", preset=9) as archive:
        for path in sorted(folder.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(ARCHIVE)


def unpack(folder: Path) -> list[Path]:
    """Writes every input; returns their paths."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for crash in CRASHES.iterdir():
        (folder / crash.name).write_bytes(crash.read_bytes())
    return sorted(folder.iterdir())


if __name__ == "__main__":
    {"seeds": seeds, "keep": keep, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
