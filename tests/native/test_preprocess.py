"""Photos and scores through the C library: the golden vectors, the Python path bit for bit, and what is no photo."""

from __future__ import annotations

import ctypes
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pil

from device_profiles.errors import InputError
from edgewright_runtime import native_library
from edgewright_runtime.native_library import Class, Model, NativeError, Photo, Ranking, Tensor
from edgewright_runtime.native_library import Image as Native
from edgewright_runtime.preprocess import Classify, Image
from sdk import Bundle
from tests.native.small_models import batched_linear
from tests.native.test_engine import INVALID_ARGUMENT, INVALID_MODEL, SHAPE_MISMATCH, refused
from tests.native.test_memory import Memory
from tests.test_preprocess import FOLDER, RANKS, SAME_LIBRARIES, VECTORS, case_name, image_of, levels
from tests.tiny_bundle import LABELS, make_tiny_bundle

RESIZES = {"nearest": 1, "bilinear": 2, "bicubic": 3, "lanczos": 4}
LAYOUTS = {"NCHW": 1, "NHWC": 2}
ORIENTATION = 0x0112
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (21, 34, 3), dtype=np.uint8)


def native(image: Image, **changed: Any) -> Native:
    """``edge_image`` of the same fields."""
    fields = {
        "struct_size": ctypes.sizeof(Native),
        "size": image.size,
        "resize": RESIZES[image.resize],
        "layout": LAYOUTS[image.layout],
        "crop": image.crop,
        "scale": image.scale,
        "mean": (ctypes.c_double * 3)(*image.mean),
        "std": (ctypes.c_double * 3)(*image.std),
    }
    return Native(**{**fields, **changed})


def decoded(path: Path) -> tuple[np.ndarray, str, int]:
    """What a decoder hands over: pixels as they are stored, their mode, and the orientation."""
    with pil.open(path) as photo:
        orientation = photo.getexif().get(ORIENTATION, 0)
        if photo.mode.startswith("I"):
            return (np.asarray(photo) >> 8).astype(np.uint8), "L", orientation
        if photo.mode in ("1", "P") or "transparency" in photo.info:
            photo = photo.convert("RGBA" if "transparency" in photo.info else "RGB")
        return np.asarray(photo), photo.mode, orientation


# Photos


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_name)
def test_golden_tensors(case: dict[str, Any]) -> None:
    image, path = image_of(case), FOLDER / "photos" / case["photo"]
    got, want = native(image).load(*decoded(path)), np.load(FOLDER / case["tensor"])
    assert got.shape == image.shape
    assert np.abs(levels(got, image) - levels(want, image)).max() <= VECTORS["tolerance_levels"] + 1e-3
    if SAME_LIBRARIES:
        assert np.array_equal(got, want)
    assert np.array_equal(got, image.load(path))


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(1, 120),
    crop=st.one_of(st.just(1.0), st.floats(0.1, 1)),
    resize=st.sampled_from(sorted(RESIZES)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    two_tone=st.booleans(),
)
def test_any_photo_is_what_python_makes_of_it(
    width: int, height: int, size: int, crop: float, resize: Any, layout: Any, two_tone: bool
) -> None:
    draw = np.random.default_rng(width * height + size)
    pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if two_tone:  # what overshoots most
        pixels = (pixels > 127).astype(np.uint8) * 255
    mean, std = draw.uniform(-1, 1, 3), draw.uniform(0.1, 2, 3)
    image = Image(size=size, crop=crop, resize=resize, layout=layout, mean=tuple(mean), std=tuple(std))
    assert np.array_equal(native(image).load(pixels), image.load(pixels))


@pytest.mark.parametrize("resize", sorted(RESIZES))
def test_a_photo_of_a_camera(resize: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1512, 2016, 3), dtype=np.uint8)
    image = Image(size=224, crop=0.875, resize=resize)
    assert np.array_equal(native(image).load(pixels), image.load(pixels))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK"])
def test_every_pixel_of_two_values(mode: str) -> None:
    """Laying over black and mixing inks round as Pillow does, for all 65536 pairs of a colour and an alpha or black."""
    colour, other = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    pixels = np.stack([colour] * (len(mode) - 1) + [other], -1)
    photo = pil.frombytes(mode, (256, 256), pixels.tobytes())
    image = Image(size=256, scale=1.0)
    assert np.array_equal(native(image).load(pixels, mode), image.load(photo))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_pixel(mode: str, orientation: int) -> None:
    channels = 4 if mode == "CMYK" else len(mode)
    pixels = DRAW.integers(0, 256, (13, 22, channels), dtype=np.uint8)
    photo = pil.frombytes(mode, (22, 13), pixels.tobytes())
    photo.getexif()[ORIENTATION] = orientation
    image = Image(size=9, crop=0.8, resize="bicubic")
    assert np.array_equal(native(image).load(pixels, mode, orientation), image.load(photo))


@pytest.mark.parametrize("orientation", [0, 9, 255, 2**32 - 1])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    image = native(Image(size=9))
    assert np.array_equal(image.load(PIXELS, "RGB", orientation), image.load(PIXELS, "RGB", 1))


def given_photo(**changed: Any) -> Photo:
    fields = {
        "struct_size": ctypes.sizeof(Photo),
        "pixel": 3,
        "width": PIXELS.shape[1],
        "height": PIXELS.shape[0],
        "data": PIXELS.ctypes.data,
        "row_bytes": PIXELS.strides[0],
        "bytes": PIXELS.nbytes,
        "orientation": 1,
    }
    return Photo(**{**fields, **changed})


def load_with(image: Native, photo: Photo, short_by: int = 0, tensor_short_by: int = 0) -> np.ndarray:
    """The library's own calls; what is written beyond the workspace or the tensor is found."""
    library, needed = native_library.library(), ctypes.c_size_t()
    native_library._check(library.edge_image_workspace(ctypes.byref(image), ctypes.byref(photo), ctypes.byref(needed)))
    count = 3 * image.size * image.size
    workspace, values = np.full(needed.value + 65, 0x5A, np.uint8), np.full(count + 1, 7, np.float32)
    tensor = Tensor(data=values.ctypes.data, bytes=4 * count - tensor_short_by)
    place = (workspace.ctypes.data + 1, needed.value - short_by)
    status = library.edge_image_load(ctypes.byref(image), ctypes.byref(photo), *place, ctypes.byref(tensor))
    assert (workspace[needed.value + 1 :] == 0x5A).all() and workspace[0] == 0x5A and values[-1] == 7
    if status:
        assert (values == 7).all() and tensor.rank == 0
    native_library._check(status)
    return values[:-1].reshape(tuple(tensor.shape[: tensor.rank]))


@pytest.mark.parametrize("size", [1, 5, 40])
def test_a_row_may_be_longer_than_its_pixels(size: int) -> None:
    image, wide = native(Image(size=size)), np.zeros((PIXELS.shape[0], 120), np.uint8)
    wide[:, : PIXELS.strides[0]] = PIXELS.reshape(PIXELS.shape[0], -1)
    last_row_cut = wide.nbytes - 120 + PIXELS.strides[0]
    photo = given_photo(data=wide.ctypes.data, row_bytes=120, bytes=last_row_cut)
    assert np.array_equal(load_with(image, photo), load_with(image, given_photo()))
    with refused(INVALID_ARGUMENT, "21 rows do not lie in"):
        load_with(image, given_photo(data=wide.ctypes.data, row_bytes=120, bytes=last_row_cut - 1))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"width": 0}, "width 0"),
        ({"height": 0}, "height 0"),
        ({"width": -1}, "width -1"),
        ({"width": 2**31 - 1}, "width 2147483647"),
        ({"height": 2**24 + 1}, "height 16777217"),
        ({"data": None}, "data is NULL"),
        ({"pixel": 0}, "no pixel 0"),
        ({"pixel": 6}, "no pixel 6"),
        ({"row_bytes": 101}, "row_bytes is 101, a row of 34 pixels has 102"),
        ({"row_bytes": 0}, "row_bytes is 0"),
        ({"row_bytes": 2**64 - 1}, "21 rows do not lie in"),
        ({"row_bytes": 2**60, "bytes": 2**64 - 1}, "21 rows do not lie in"),
        ({"bytes": PIXELS.nbytes - 1}, "21 rows do not lie in 2141 bytes"),
        ({"struct_size": 0}, "struct_size of the photo is 0"),
    ],
)
def test_a_photo_that_contradicts_itself_is_refused(changed: dict[str, Any], words: str) -> None:
    with refused(INVALID_ARGUMENT, words):
        load_with(native(Image(size=8)), given_photo(**changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": 0}, "size 0"),
        ({"size": 16385}, "size 16385"),
        ({"size": -(2**31)}, "size -2147483648"),
        ({"resize": 0}, "no resize 0"),
        ({"resize": 5}, "no resize 5"),
        ({"layout": 0}, "no layout 0"),
        *(({"crop": value}, "crop") for value in (0.0, -1.0, 1.5, math.nan, math.inf)),
        *(({"scale": value}, "scale") for value in (0.0, -1.0, math.nan, math.inf)),
        ({"mean": (ctypes.c_double * 3)(0, math.nan, 0)}, r"mean\[1\] -?nan"),
        ({"mean": (ctypes.c_double * 3)(0, 0, math.inf)}, r"mean\[2\] inf"),
        ({"std": (ctypes.c_double * 3)(0, 1, 1)}, r"std\[0\] 0"),
        ({"std": (ctypes.c_double * 3)(1, 1, math.nan)}, r"std\[2\] -?nan"),
        ({"struct_size": 3}, "struct_size of the image is 3"),
        ({"struct_size": 8}, "no resize 0"),
    ],
)
def test_an_image_out_of_range_is_refused(changed: dict[str, Any], words: str) -> None:
    with refused(INVALID_ARGUMENT, words):
        native(Image(size=8), **changed).load(PIXELS)


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = native(Image(size=8), size=0, resize=9, layout=9, crop=0.0, scale=math.nan)
    with refused(INVALID_ARGUMENT, "size 0", "resize 9", "layout 9", "crop 0", "scale"):
        wrong.load(PIXELS)


@pytest.mark.parametrize("shape", [(1, 60_000, 3), (60_000, 1, 3)])
def test_a_strip_that_would_fill_the_memory_is_refused_as_in_python(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="crop it first"):
        Image(size=224).load(np.zeros(shape, np.uint8))
    with refused(INVALID_ARGUMENT, "crop it first"):
        native(Image(size=224)).load(np.zeros(shape, np.uint8))


def test_a_crop_of_nothing_is_refused() -> None:
    with refused(INVALID_ARGUMENT, "crop it first"):
        native(Image(size=8, crop=5e-324)).load(PIXELS)


def test_the_workspace_is_some_rows_and_must_be_whole() -> None:
    image, needed = native(Image(size=224)), ctypes.c_size_t()
    photo = given_photo(width=4032, height=3024, row_bytes=3 * 4032, bytes=3 * 4032 * 3024)
    library = native_library.library()
    library.edge_image_workspace(ctypes.byref(image), ctypes.byref(photo), ctypes.byref(needed))
    assert needed.value < 150_000
    with refused(INVALID_ARGUMENT, "the workspace has", "ask edge_image_workspace"):
        load_with(image, given_photo(), short_by=16)


def test_a_tensor_that_is_too_small_is_refused() -> None:
    with refused(INVALID_ARGUMENT, "767 bytes", "needs 768"):
        load_with(native(Image(size=8)), given_photo(), tensor_short_by=1)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.float32), np.zeros(4, np.uint8), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)  # fmt: skip
def test_an_array_that_is_no_photo_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(NativeError):
        native(Image(size=8)).load(pixels)
    with refused(INVALID_ARGUMENT, "RGB has 3 channels, given were 4"):
        native(Image(size=8)).load(np.zeros((4, 4, 4), np.uint8), "RGB")


# Scores


def ranked(scores: np.ndarray, *, softmax: bool = True, top_k: int = 5, model: Model | None = None) -> Any:
    return Ranking(ctypes.sizeof(Ranking), int(softmax), top_k).rank(scores, model)


def same_as_python(scores: np.ndarray, *, softmax: bool, top_k: int) -> None:
    """Indices and scores; of both are those NaN that are."""
    want = Classify(softmax=softmax, top_k=top_k).rank(scores, None)
    got = ranked(scores, softmax=softmax, top_k=top_k)
    assert [row[0] for row in got] == [row.index for row in want]
    np.testing.assert_allclose([row[2] for row in got], [row.score for row in want], rtol=0, atol=RANKS["tolerance"])


@pytest.mark.parametrize("case", RANKS["cases"])
def test_golden_ranks(case: dict[str, Any], tmp_path: Path) -> None:
    model = Model(make_tiny_bundle(tmp_path, labels=tuple(case["labels"]))) if case["labels"] else None
    got = ranked(np.array([case["scores"]]), softmax=case["softmax"], top_k=case["top_k"], model=model)
    want = case["expected"]
    assert [(i, label or str(i)) for i, label, _ in got] == [(row["index"], row["label"]) for row in want]
    for (_, _, score), expected in zip(got, want, strict=True):
        assert score == pytest.approx(expected["score"], abs=RANKS["tolerance"])


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("top_k", [1, 2, 5, 999, 1000, 2000])
def test_a_thousand_classes_with_ties(softmax: bool, top_k: int) -> None:
    scores = np.random.default_rng(top_k).integers(-40, 40, 1000) / 8
    same_as_python(scores, softmax=softmax, top_k=top_k)
    same_as_python(np.sort(scores), softmax=softmax, top_k=top_k)
    same_as_python(-np.sort(scores) * 100, softmax=softmax, top_k=top_k)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    "scores",
    [
        [np.nan, 1, 2],
        [1, np.nan, 2],
        [2, 1, np.nan],
        [np.nan, np.nan],
        [np.inf, 1],
        [1, np.inf, np.inf],
        [-np.inf, -np.inf],
        [-np.inf, 1, 3],
        [-0.0, 0.0],
        [8e307, -8e307],
        [1000, -2000, -1000],
    ],
)
def test_scores_that_are_no_numbers_rank_as_in_python(scores: list[float], softmax: bool) -> None:
    same_as_python(np.array(scores), softmax=softmax, top_k=3)


@pytest.mark.parametrize("dtype", sorted(d.name for d in native_library.DTYPES.values()))
def test_scores_of_any_dtype(dtype: str) -> None:
    same_as_python(np.array([[3, 100, 0, 7]]).astype(dtype), softmax=False, top_k=4)


@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (1, 1, 4), (4, 1, 1)])
def test_dimensions_of_one_do_not_matter(shape: tuple[int, ...]) -> None:
    scores = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert ranked(scores)[0][0] == scores.size - 1


@pytest.mark.parametrize("shape", [(2, 4), (0,), (1, 0), (2, 2, 1)])
def test_more_or_less_than_one_row_is_refused(shape: tuple[int, ...]) -> None:
    with refused(SHAPE_MISMATCH, "one row of scores"):
        ranked(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"rank": -1}, SHAPE_MISMATCH),
        ({"rank": 9}, SHAPE_MISMATCH),
        ({"dtype": 0}, INVALID_ARGUMENT),
        ({"dtype": 99}, INVALID_ARGUMENT),
        ({"bytes": 15}, INVALID_ARGUMENT),
        ({"data": None}, INVALID_ARGUMENT),
        ({"shape": (ctypes.c_int64 * 8)(2**62)}, INVALID_ARGUMENT),
        ({"shape": (ctypes.c_int64 * 8)(-4)}, SHAPE_MISMATCH),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(changed: dict[str, Any], status: int) -> None:
    values, best, count = np.zeros(4, np.float32), (Class * 4)(), ctypes.c_size_t(77)
    fields = {"dtype": 1, "rank": 1, "shape": (ctypes.c_int64 * 8)(4), "data": values.ctypes.data, "bytes": 16}
    tensor, ranking = Tensor(**{**fields, **changed}), Ranking(ctypes.sizeof(Ranking), 1, 4)
    given = (ctypes.byref(ranking), ctypes.byref(tensor), None, best, ctypes.byref(count))
    assert native_library.library().edge_rank(*given) == status and count.value == 77


def test_no_classes_asked_for_is_refused() -> None:
    with refused(INVALID_ARGUMENT, "top_k"):
        ranked(np.zeros(4), top_k=0)


# Bundles


def test_a_bundle_says_how(tmp_path: Path) -> None:
    sealed = make_tiny_bundle(tmp_path)
    archive = Bundle.open(sealed).pack(tmp_path / "tiny.edgez").read_bytes()
    declared = Bundle.open(sealed).manifest.preprocess["image"]
    for model in (Model(sealed), Model(archive)):
        for image in (model.image(), model.image("image")):
            assert bytes(image) == bytes(native(declared))
        ranking = model.ranking()
        assert (ranking.softmax, ranking.top_k, ranking.output) == (1, 5, b"logits")
        assert model.labels == LABELS
        (logits,) = model.session().run([model.image().load(PIXELS)])
        assert [row[1] for row in ranking.rank(logits, model)] == [LABELS[row[0]] for row in ranking.rank(logits)]


def test_a_model_that_does_not_say_how_is_refused(tmp_path: Path) -> None:
    for source in (batched_linear(), make_tiny_bundle(tmp_path, preprocess=False, labels=())):
        model = Model(source)
        assert model.labels == ()
        with refused(INVALID_ARGUMENT, "does not say how a photo", "preprocess=sdk.Image"):
            model.image()
        with refused(INVALID_ARGUMENT, "does not say how its scores", "preprocess=sdk.Image"):
            model.ranking()
    with refused(INVALID_ARGUMENT, "input pixels"):
        Model(make_tiny_bundle(tmp_path)).image("pixels")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    with refused(SHAPE_MISMATCH, "4 labels, the output has 3 classes"):
        ranked(np.zeros(3), model=Model(make_tiny_bundle(tmp_path)))


def edited(sealed: Path, change: Any) -> Path:
    """The bundle with another manifest, sealed again."""
    import hashlib

    manifest = json.loads((sealed / "manifest.json").read_text())
    change(manifest)
    content = json.dumps(manifest).encode()
    (sealed / "manifest.json").write_bytes(content)
    (sealed / "manifest.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")
    return sealed


def test_fields_that_a_manifest_leaves_out_are_those_of_python(tmp_path: Path) -> None:
    def strip(manifest: Any) -> None:
        manifest["preprocess"]["image"] = {"size": 8}
        manifest["postprocess"] = {}

    sealed = edited(make_tiny_bundle(tmp_path), strip)
    assert Bundle.open(sealed).manifest.preprocess["image"] == Image(size=8)
    assert bytes(Model(sealed).image()) == bytes(native(Image(size=8)))
    assert (Model(sealed).ranking().softmax, Model(sealed).ranking().top_k) == (1, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", None), ("size", 0), ("size", 8.0), ("size", 2**31), ("size", "8"), ("resize", "area"), ("resize", 1),
        ("layout", "CHW"), ("layout", None), ("crop", "1"), ("scale", True), ("mean", [0, 0]), ("mean", 0),
        ("std", [1, 1, "1"]), ("std", None),
    ],
)  # fmt: skip
def test_a_declaration_that_is_none_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    sealed = edited(make_tiny_bundle(tmp_path), lambda manifest: manifest["preprocess"]["image"].update({field: value}))
    with refused(INVALID_MODEL, f"'{field}'"):
        Model(sealed).image()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("softmax", 1),
        ("softmax", None),
        ("top_k", 0),
        ("top_k", -1),
        ("top_k", "5"),
        ("output", "other"),
        ("output", 0),
    ],
)
def test_a_ranking_that_is_none_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    sealed = edited(make_tiny_bundle(tmp_path), lambda manifest: manifest["postprocess"].update({field: value}))
    with refused(INVALID_MODEL, f"'{field}'"):
        Model(sealed).ranking()


@pytest.mark.parametrize(
    "labels", [("cat", "", "Füchse 🦊", "d\u2028e\rf"), ("a b", "\t", " ", "\x85"), ("x" * 5000, "b", "c", "d")]
)
def test_only_a_line_feed_ends_a_label(tmp_path: Path, labels: tuple[str, ...]) -> None:
    assert Model(make_tiny_bundle(tmp_path, labels=labels)).labels == labels


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    sealed = make_tiny_bundle(tmp_path)
    content = (sealed / "labels.txt").read_bytes()
    (sealed / "labels.txt").write_bytes(b"\xff" + content[1:])
    with refused(INVALID_MODEL, "not UTF-8"):
        Model(sealed, check=False)


def test_labels_that_are_not_listed_are_refused(tmp_path: Path) -> None:
    sealed = edited(make_tiny_bundle(tmp_path), lambda manifest: manifest.update(labels="other.txt"))
    with refused(INVALID_MODEL, "'other.txt', which the manifest does not list"):
        Model(sealed)


def test_an_allocator_that_fails_while_a_bundle_is_opened_gives_a_status(tmp_path: Path) -> None:
    library = native_library.library()
    content = Bundle.open(make_tiny_bundle(tmp_path)).pack(tmp_path / "tiny.edgez").read_bytes()

    def status(memory: Memory) -> int:
        handle = ctypes.c_void_p()
        options = native_library.ModelOptions(24, ctypes.addressof(memory.allocator), 0)
        found = library.edge_model_open_memory(content, len(content), ctypes.byref(options), ctypes.byref(handle))
        library.edge_model_free(handle)
        return int(found)

    whole = Memory()
    assert status(whole) == 0 and not whole.live
    for call in range(whole.calls):
        memory = Memory(call)
        assert status(memory) == 5 and not memory.live
