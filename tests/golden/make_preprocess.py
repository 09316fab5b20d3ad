"""Makes the vectors of ``tests/golden/preprocess``: ``python tests/golden/make_preprocess.py``.

``photos/`` holds small photos made from a seed.  ``cases.json`` names for each case a photo, the fields
of ``sdk.Image`` and the file with the expected float32 tensor; ``made_with`` says which libraries
decoded and scaled.  ``rank.json`` holds scores with what ``sdk.Classify`` makes of them.

The tensors come from the slow oracle below, which is written from the declaration in ``sdk.Image`` and
shares no code with it: only Pillow decodes and scales.  Other implementations (C, JavaScript, another
Pillow) must meet each tensor within one level of 255 before normalisation, and each score within
1e-6; the order of the classes must be the same.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pil
from PIL import __version__ as pillow_version
from PIL import features

SEED = 20240229
FOLDER = Path(__file__).parent / "preprocess"
FILTERS = {
    "nearest": pil.Resampling.NEAREST,
    "bilinear": pil.Resampling.BILINEAR,
    "bicubic": pil.Resampling.BICUBIC,
    "lanczos": pil.Resampling.LANCZOS,
}
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def scene(width: int, height: int, channels: int) -> np.ndarray:
    """Edges, gradients and some noise: each filter does something else with it."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(9 * x + 3 * c) * np.cos(7 * y - c) + (((x * 6).astype(int) + c) % 2) for c in range(channels)]
    noise = np.random.default_rng(SEED + width * height * channels).normal(0, 0.15, (height, width, channels))
    return np.clip((np.stack(waves, -1) + noise + 1) * 85, 0, 255).astype(np.uint8)


def photos() -> dict[str, tuple[pil.Image, dict[str, Any]]]:
    rgb = pil.fromarray(scene(40, 28, 3))
    flat = rgb.quantize(4).convert("RGB")
    made: dict[str, tuple[pil.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}),
        "photo.jpg": (rgb, {"quality": 95, "subsampling": 0}),
        "grayscale.png": (rgb.convert("L"), {}),
        "grayscale.jpg": (rgb.convert("L"), {"quality": 95}),
        "grayscale16.png": (pil.fromarray(scene(31, 23, 1)[..., 0].astype(np.uint16) * 257 - 1), {}),
        "bilevel.png": (rgb.convert("1", dither=pil.Dither.NONE), {}),
        "rgba.png": (pil.fromarray(scene(25, 33, 4)), {}),
        "grayscale-alpha.png": (pil.fromarray(scene(25, 33, 4)).convert("LA"), {}),
        "palette.png": (rgb.quantize(16), {}),
        "palette-transparent.png": (rgb.quantize(16), {"transparency": 3}),
        "palette-alphas.png": (rgb.quantize(16), {"transparency": bytes(range(0, 256, 16))}),
        "rgb-transparent.png": (flat, {"transparency": flat.getpixel((0, 0))}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 95, "subsampling": 0}),
        "one-pixel.png": (rgb.crop((5, 5, 6, 6)), {}),
        "exact.png": (rgb.crop((0, 0, 16, 16)), {}),
        "wide.png": (pil.fromarray(scene(300, 2, 3)), {}),
        "tall.png": (pil.fromarray(scene(1, 90, 3)), {}),
        "halves.png": (rgb.crop((0, 0, 25, 10)), {}),
        "progressive.jpg": (rgb, {"quality": 90, "progressive": True, "subsampling": 0}),
    }
    for orientation in TURNS:
        exif = pil.Exif()
        exif[0x0112] = orientation
        made[f"turned-{orientation}.jpg"] = (rgb, {"quality": 95, "subsampling": 0, "exif": exif})
    return made


def cases() -> list[dict[str, Any]]:
    """Each photo once, and the first one with every option."""
    rows = [{"photo": name, "image": {"size": 16}} for name in photos()]
    for resize in FILTERS:
        rows.append({"photo": "rgb.png", "image": {"size": 12, "resize": resize}})
        rows.append({"photo": "rgb.png", "image": {"size": 50, "resize": resize, "crop": 0.875}})
    rows += [
        {"photo": "rgb.png", "image": {"size": 16, "layout": "NHWC"}},
        {"photo": "rgb.png", "image": {"size": 16, "layout": "NHWC", **IMAGENET}},
        {"photo": "rgb.png", "image": {"size": 16, "crop": 0.875, **IMAGENET}},
        {"photo": "rgb.png", "image": {"size": 16, "scale": 1.0}},
        {"photo": "rgb.png", "image": {"size": 16, "scale": 2 / 255, "mean": [1, 1, 1]}},
        {"photo": "rgb.png", "image": {"size": 1}},
        {"photo": "halves.png", "image": {"size": 5, "crop": 0.4}},
        {"photo": "halves.png", "image": {"size": 7, "crop": 1.0}},
        {"photo": "exact.png", "image": {"size": 14, "crop": 0.875}},
        {"photo": "one-pixel.png", "image": {"size": 1}},
        {"photo": "one-pixel.png", "image": {"size": 9, "resize": "lanczos"}},
        {"photo": "rgba.png", "image": {"size": 16, "layout": "NHWC", "resize": "bicubic"}},
    ]
    return [{**row, "tensor": f"{position:02}.npy"} for position, row in enumerate(rows)]


def upright_rgb(path: Path) -> np.ndarray:
    """Decoded, turned, alpha over black, as (height, width, 3) uint8."""
    with pil.open(path) as photo:
        turn = TURNS[photo.getexif().get(0x0112, 1)]
        if photo.mode.startswith("I"):
            gray = (np.asarray(photo).astype(np.int64) >> 8).astype(np.uint8)
            return turn(np.stack([gray] * 3, -1))
        if photo.mode in ("RGBA", "LA") or "transparency" in photo.info:
            rgba = np.asarray(photo.convert("RGBA")).astype(np.int64)
            product = rgba[..., :3] * rgba[..., 3:]
            return turn(((product + 127) // 255).astype(np.uint8))
        return turn(np.asarray(photo.convert("RGB")))


def tensor(path: Path, image: dict[str, Any]) -> np.ndarray:
    """What ``sdk.Image(**image).load(path)`` must return."""
    pixels = upright_rgb(path)
    height, width, _ = pixels.shape
    size, crop = image["size"], image.get("crop", 1.0)
    short = half_to_even(size / crop)
    ratio = short / min(width, height)
    scaled_width = max(short, half_to_even(width * ratio))
    scaled_height = max(short, half_to_even(height * ratio))
    photo = pil.fromarray(np.ascontiguousarray(pixels))
    resize = FILTERS[image.get("resize", "bilinear")]
    scaled = np.asarray(photo.resize((scaled_width, height), resize).resize((scaled_width, scaled_height), resize))
    left, top = (scaled_width - size) // 2, (scaled_height - size) // 2
    square = scaled[top : top + size, left : left + size].astype(np.float32)
    mean = np.array(image.get("mean", [0, 0, 0]), np.float32)
    std = np.array(image.get("std", [1, 1, 1]), np.float32)
    values = (square * np.float32(image.get("scale", 1 / 255)) - mean) / std
    if image.get("layout", "NCHW") == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None], np.float32)


def half_to_even(value: float) -> int:
    below = math.floor(value)
    rest = value - below
    return below + (rest > 0.5 or (rest == 0.5 and below % 2 == 1))


def ranked(scores: list[float], labels: list[str] | None, softmax: bool, top_k: int) -> list[dict[str, Any]]:
    """What ``sdk.Classify`` must return, by sorting and ``math.exp``."""
    values = list(scores)
    if softmax:
        raised = [math.exp(value - max(scores)) for value in scores]
        values = [value / math.fsum(raised) for value in raised]
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:top_k]
    return [{"index": i, "label": labels[i] if labels else str(i), "score": values[i]} for i in order]


def rank_cases() -> list[dict[str, Any]]:
    noise = np.random.default_rng(SEED).normal(0, 3, 12).round(4).tolist()
    given: list[tuple[list[float], list[str] | None, bool, int]] = [
        ([0.5, 2.0, -1.0, 2.0], ["cat", "dog", "fox", "owl"], True, 4),
        ([0.5, 2.0, -1.0, 2.0], ["cat", "dog", "fox", "owl"], False, 2),
        ([1.0, 1.0, 1.0], ["a", "a", "b"], True, 3),
        ([1000.0, 999.0, -1000.0], None, True, 5),
        ([-1e30, 1e30], None, True, 2),
        ([3.25], ["only"], True, 5),
        ([0.0] * 7, None, False, 5),
        (noise, None, True, 5),
        (noise, None, False, 12),
    ]
    return [
        {
            "scores": scores,
            "labels": labels,
            "softmax": softmax,
            "top_k": top_k,
            "expected": ranked(scores, labels, softmax, top_k),
        }
        for scores, labels, softmax, top_k in given
    ]


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    (FOLDER / "photos").mkdir(parents=True, exist_ok=True)
    for name, (photo, options) in photos().items():
        photo.save(FOLDER / "photos" / name, **options)
    rows = cases()
    for row in rows:
        np.save(FOLDER / row["tensor"], tensor(FOLDER / "photos" / row["photo"], row["image"]))
    made_with = {"pillow": pillow_version, "libjpeg_turbo": features.version("libjpeg_turbo"), "seed": SEED}
    write_json(FOLDER / "cases.json", {"made_with": made_with, "tolerance_levels": 1, "cases": rows})
    write_json(FOLDER / "rank.json", {"tolerance": 1e-6, "cases": rank_cases()})


if __name__ == "__main__":
    main()
