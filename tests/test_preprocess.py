"""Photos to tensors and scores to labels: equal to the golden vectors, and InputError for what is no photo."""

from __future__ import annotations

import io
import json
import math
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as pil
from PIL import __version__ as pillow_version
from PIL import features

from device_profiles.errors import InputError, OptionError
from edgewright_runtime import preprocess
from edgewright_runtime.preprocess import Classify, Image, Prediction

GOLDEN = Path(__file__).parent / "golden"
FOLDER = GOLDEN / "preprocess"
VECTORS = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
RANKS = json.loads((FOLDER / "rank.json").read_text(encoding="utf-8"))
SAME_LIBRARIES = VECTORS["made_with"]["pillow"] == pillow_version and VECTORS["made_with"][
    "libjpeg_turbo"
] == features.version("libjpeg_turbo")
PHOTOS = sorted(path.name for path in (FOLDER / "photos").iterdir())


def case_name(case: dict[str, Any]) -> str:
    return "-".join([case["photo"], *(f"{key}={value}" for key, value in case["image"].items())])


def image_of(case: dict[str, Any]) -> Image:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in case["image"].items()}
    return Image(**fields)


def levels(array: np.ndarray, image: Image) -> np.ndarray:
    """Back to levels of 255, as (height, width, 3)."""
    square = array[0].transpose(1, 2, 0) if image.layout == "NCHW" else array[0]
    return (square.astype(np.float64) * image.std + image.mean) / image.scale


# The golden vectors.


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_name)
def test_golden_tensors(case: dict[str, Any]) -> None:
    image, want = image_of(case), np.load(FOLDER / case["tensor"])
    got = image.load(FOLDER / "photos" / case["photo"])
    assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.float32, image.shape, True)
    assert np.abs(levels(got, image) - levels(want, image)).max() <= VECTORS["tolerance_levels"] + 1e-3
    if SAME_LIBRARIES:
        assert np.array_equal(got, want)


@pytest.mark.parametrize("case", RANKS["cases"])
def test_golden_ranks(case: dict[str, Any]) -> None:
    labels = tuple(case["labels"]) if case["labels"] else None
    got = Classify(softmax=case["softmax"], top_k=case["top_k"]).rank(np.array([case["scores"]]), labels)
    want = case["expected"]
    assert [(row.index, row.label) for row in got] == [(row["index"], row["label"]) for row in want]
    for row, expected in zip(got, want, strict=True):
        assert row.score == pytest.approx(expected["score"], abs=RANKS["tolerance"])


def test_the_script_makes_these_vectors(tmp_path: Path) -> None:
    """The tensors follow from the photos; the photos follow from the seed where the encoders are the same."""
    code = "import sys, make_preprocess as m; m.FOLDER = m.Path(sys.argv[1]); m.main()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=GOLDEN, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in FOLDER.iterdir())
    if SAME_LIBRARIES:
        for path in sorted(FOLDER.rglob("*.*")):
            assert (tmp_path / path.relative_to(FOLDER)).read_bytes() == path.read_bytes(), path.name


def test_the_vectors_cover_what_is_declared() -> None:
    fields = [case["image"] for case in VECTORS["cases"]]
    assert {case["photo"] for case in VECTORS["cases"]} == set(PHOTOS)
    assert {row.get("resize") for row in fields} == {None, *preprocess._FILTERS}
    assert {row.get("layout") for row in fields} >= {None, "NHWC"}
    assert {key for row in fields for key in row} == set(Image.__dataclass_fields__)


def test_the_eight_orientations_are_one_photo() -> None:
    image = Image(size=16)
    upright = np.asarray(pil.open(FOLDER / "photos" / "turned-1.jpg"))
    for orientation, turned in {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright, -1), 7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright),
    }.items():  # fmt: skip
        found = image.load(FOLDER / "photos" / f"turned-{orientation}.jpg")
        assert np.array_equal(found, image.load(np.ascontiguousarray(turned))), orientation


# Ways to give a photo.


def test_a_path_text_an_image_and_an_array_are_the_same_photo() -> None:
    path, image = FOLDER / "photos" / "rgb.png", Image(size=16)
    with pil.open(path) as photo:
        array = np.asarray(photo)
        found = [image.load(given) for given in (path, str(path), photo, array, np.asfortranarray(array), array.copy())]
    assert all(np.array_equal(found[0], other) for other in found)


def test_a_photo_is_not_changed() -> None:
    photo = pil.open(FOLDER / "photos" / "turned-6.jpg")
    before = (photo.size, photo.mode, photo.tobytes(), dict(photo.getexif()))
    Image(size=4).load(photo)
    assert (photo.size, photo.mode, photo.tobytes(), dict(photo.getexif())) == before


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "lanczos"])
def test_a_tower_is_scaled_in_width_first(resize: str) -> None:
    """Pillow's own order depends on its version and on the sizes."""
    array = np.random.default_rng(0).integers(0, 2, (80, 20, 3), dtype=np.uint8) * 255
    want = array
    for size in ((7, 80), (7, 28)):
        want = np.asarray(pil.fromarray(want).resize(size, preprocess._FILTERS[resize]))
    found = Image(size=7, resize=resize, layout="NHWC", scale=1.0).load(array)  # type: ignore[arg-type]
    assert np.array_equal(found[0], want[10:17])


def test_one_colour_stays_one_colour_under_every_filter() -> None:
    for resize in preprocess._FILTERS:
        array = np.full((37, 11, 3), (10, 200, 255), np.uint8)
        found = levels(Image(size=23, resize=resize).load(array), Image(size=23))
        assert np.allclose(found, (10, 200, 255), atol=1e-3)


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = (np.arange(256, dtype=np.uint16) << 8).reshape(16, 16) + 255
    found = Image(size=16).load(pil.fromarray(deep))
    assert np.array_equal(found, Image(size=16).load(np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, -1)))


def test_normalisation_is_float32_in_the_declared_order() -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    image = Image(size=16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="NHWC")
    f = np.float32
    value = (f(array[3, 5, 1]) * f(1 / 255) - f(0.456)) / f(0.224)
    assert image.load(array)[0, 3, 5, 1] == value


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (64, 64), (63, 65)])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.3])
def test_any_shape_gives_the_declared_shape(size: int, shape: tuple[int, int], crop: float) -> None:
    image = Image(size=size, crop=crop)
    assert image.load(np.zeros((*shape, 3), np.uint8)).shape == image.shape == (1, 3, size, size)


# What is no photo.


@pytest.mark.parametrize(
    "photo",
    [
        None,
        3,
        b"bytes",
        "missing.png",
        "nul\0.png",
        "n" * 5000,
        Path("/"),
        [[1]],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        pil.new("RGB", (0, 0)),
        pil.new("F", (4, 4)),
        pil.new("I", (4, 4)),
    ],
    ids=lambda photo: f"{type(photo).__name__} {str(getattr(photo, 'shape', photo))[:12]!r}",
)
def test_what_is_no_photo_is_an_input_error(photo: Any) -> None:
    with pytest.raises(InputError, match="photo"):
        Image(size=8).load(photo)


@pytest.mark.parametrize("name", ["rgb.png", "photo.jpg", "turned-6.jpg", "palette.png", "progressive.jpg"])
def test_files_that_were_cut_are_input_errors(name: str, tmp_path: Path) -> None:
    data = (FOLDER / "photos" / name).read_bytes()
    image = Image(size=8)
    for size in range(0, len(data) // 2, max(1, len(data) // 40)):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(InputError, match="cannot read a photo"):
            image.load(tmp_path / name)


@settings(
    max_examples=250, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(name=st.sampled_from(PHOTOS), place=st.floats(0, 0.999), size=st.integers(0, 12), put=st.binary(max_size=12))
def test_damaged_files_give_a_tensor_or_an_input_error(
    name: str, place: float, size: int, put: bytes, tmp_path: Path
) -> None:
    data = (FOLDER / "photos" / name).read_bytes()
    at = int(place * len(data))
    (tmp_path / "x").write_bytes(data[:at] + put + data[at + size :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF data
        try:
            found = Image(size=8).load(tmp_path / "x")
        except InputError:
            return
    assert found.shape == (1, 3, 8, 8)
    assert np.isfinite(found).all()


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and that holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 100_000, (1 << 31) - 1])
def test_a_decompression_bomb_is_an_input_error(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    with pytest.raises(InputError, match="cannot read a photo"):
        Image(size=8).load(tmp_path / "bomb.png")


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_a_strip_that_would_fill_the_memory_is_an_input_error(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="crop it first"):
        Image(size=224).load(np.zeros((*shape, 3), np.uint8))


def test_memory_that_runs_out_while_reading_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(pil, "open", out_of_memory)
    with pytest.raises(InputError):
        Image(size=8).load("photo.png")


# Options.


@pytest.mark.parametrize(
    "fields",
    [
        *({"size": value} for value in (0, -1, 1.0, True, "8", None, (1 << 14) + 1)),
        *({"crop": value} for value in (0, -0.5, 1.001, math.nan, math.inf, None, "1", True)),
        *({"mean": value} for value in (None, 0.5, "abc", (1, 2), (1, 2, 3, 4), (1, 2, math.nan), (1, 2, None))),
        *({"std": value} for value in (None, (0, 1, 1), (1, 1, -1), (1, 1, math.inf), (1, 1), "abc")),
        *({"scale": value} for value in (0, -1, math.nan, math.inf, None, "1")),
        *({"resize": value} for value in (None, "area", "Bilinear", 2, ["nearest"])),
        *({"layout": value} for value in (None, "nchw", "CHW", 1)),
    ],
    ids=str,
)
def test_options_out_of_range_are_option_errors(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(OptionError, match=rf"sdk\.Image: .*{name}"):
        Image(**{"size": 8, **fields})


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        Image(size=0, crop=2, mean=(1,), std=(0, 0, 0), resize="area", layout="CHW", scale=0)  # type: ignore[arg-type]
    assert all(name in str(caught.value) for name in Image.__dataclass_fields__)


def test_numbers_of_numpy_become_plain_numbers() -> None:
    image = Image(size=8, crop=np.float32(0.5), mean=np.float32([0, 1, 2]), std=[1, 2, 3], scale=1)
    assert [type(v) for v in (image.crop, image.scale, *image.mean, *image.std)] == [float] * 8
    assert hash(image) == hash(Image(size=8, crop=0.5, mean=(0, 1, 2), std=(1, 2, 3), scale=1.0))


@pytest.mark.parametrize("top_k", [0, -1, True, 1.0, None, "5"])
def test_a_number_of_labels_that_is_none(top_k: Any) -> None:
    with pytest.raises(OptionError, match="top_k"):
        Classify(top_k=top_k)


# Ranking.


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4), (4, 1, 1), (1, 4, 1, 1)])
def test_leading_dimensions_of_one_do_not_matter(shape: tuple[int, ...]) -> None:
    scores = np.array([1, 3, 2, 0], np.float32).reshape(shape)
    assert [row.index for row in Classify().rank(scores, None)] == [1, 2, 0, 3]


@pytest.mark.parametrize("shape", [(2, 4), (0,), (1, 0), (2, 2, 1)])
def test_other_shapes_are_input_errors(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="one row of scores"):
        Classify().rank(np.zeros(shape), None)


def test_a_single_score_is_a_class() -> None:
    assert Classify().rank(np.float32(7), ("only",)) == (Prediction(0, "only", 1.0),)


def test_labels_of_another_number_are_input_errors() -> None:
    with pytest.raises(InputError, match="3 labels, the output has 2 classes"):
        Classify().rank(np.zeros(2), ("a", "b", "c"))


@pytest.mark.parametrize("scores", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [np.inf, np.inf]])
def test_scores_that_are_no_numbers_warn_nobody(scores: list[float]) -> None:
    found = Classify().rank(np.array(scores), ("a", "b"))
    assert {row.label for row in found} == {"a", "b"}


def test_a_class_that_is_ruled_out_has_probability_zero() -> None:
    assert Classify().rank(np.array([-np.inf, 1.0]), None) == (Prediction(1, "1", 1.0), Prediction(0, "0", 0.0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8"])
def test_scores_of_any_dtype(dtype: str) -> None:
    found = Classify(softmax=False).rank(np.array([3, 100, 7], dtype), None)
    assert [(row.index, row.score) for row in found] == [(1, 100.0), (2, 7.0), (0, 3.0)]


def test_the_golden_photos_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 400_000
    assert all(pil.open(io.BytesIO((FOLDER / "photos" / name).read_bytes())).size for name in PHOTOS)
