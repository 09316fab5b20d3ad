"""What turns a photo into an input and scores into an answer: declared once, run identically everywhere.

The declarations travel in the manifest.  ``tests/golden/preprocess`` holds vectors that every
implementation (this one, C, JavaScript) must meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from device_profiles.errors import InputError, OptionError

Resize = Literal["nearest", "bilinear", "bicubic", "lanczos"]
MAX_SCALED_PIXELS = 1 << 28
"""Limit on a scaled photo, so that a strip of pixels cannot ask for all memory."""


@dataclass(frozen=True)
class Image:
    """Photo to input tensor.

    The photo is turned upright (EXIF), converted to 8-bit RGB (of 16 bits the upper 8 are taken, an
    alpha channel is laid over black), scaled so that its shorter side is ``round(size / crop)``,
    cropped in the centre to ``size`` x ``size``, and mapped per channel by
    ``(value * scale - mean) / std`` in float32.  Scaling is Pillow's antialiased resampling on 8-bit
    values with the filter ``resize``, in width and then in height; ``round`` takes halves to the even number.

    Args:
        size: Side of the square, pixels.
        resize: Resampling filter.
        crop: Share of the scaled photo's shorter side that is kept, in (0, 1].
        mean: Per channel, in the unit after ``scale``.
        std: Per channel, positive.
        layout: ``NCHW`` or ``NHWC``; the batch dimension is 1.
        scale: Factor on the 8-bit values; 1/255 gives 0 to 1.

    Raises:
        OptionError: A field is out of range.

    Example:
        >>> Image(size=224, crop=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).size
        224
    """

    size: int
    resize: Resize = "bilinear"
    crop: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        wrong = [text for bad, text in self._rules() if bad]
        if wrong:
            raise OptionError(f"sdk.Image: {'; '.join(wrong)}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        for name in ("crop", "scale"):
            object.__setattr__(self, name, float(getattr(self, name)))

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        return (
            (type(self.size) is not int or not 1 <= self.size <= 1 << 14, f"size {self.size!r} is not in 1..16384"),
            (self.resize not in list(_FILTERS), f"resize {self.resize!r} is none of {', '.join(_FILTERS)}"),
            (not _is_number(self.crop) or not 0 < self.crop <= 1, f"crop {self.crop!r} is not in (0, 1]"),
            (not _is_triple(self.mean), f"mean {self.mean!r} is not three numbers"),
            (not _is_triple(self.std) or min(self.std) <= 0, f"std {self.std!r} is not three positive numbers"),
            (not _is_number(self.scale) or self.scale <= 0, f"scale {self.scale!r} is not a positive number"),
            (self.layout not in ("NCHW", "NHWC"), f"layout {self.layout!r} is neither NCHW nor NHWC"),
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor that :meth:`load` returns."""
        side = self.size
        return (1, 3, side, side) if self.layout == "NCHW" else (1, side, side, 3)

    def load(self, photo: Any) -> np.ndarray:
        """Turns a photo into a float32 tensor of :attr:`shape`.

        Args:
            photo: A path, a ``PIL.Image.Image``, or a uint8 array of shape (height, width, 3).

        Raises:
            InputError: Not a readable photo.
        """
        pixels = np.asarray(self._square(_open(photo)), dtype=np.float32)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        values = (pixels * np.float32(self.scale) - mean) / std
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], dtype=np.float32)

    def _square(self, photo: Any) -> Any:
        short = round(self.size / self.crop)
        width, height = photo.size
        ratio = short / min(width, height)
        target = (max(short, round(width * ratio)), max(short, round(height * ratio)))
        if target[0] * target[1] > MAX_SCALED_PIXELS:
            raise InputError(
                f"a photo of {width} x {height} pixels becomes {target[0]} x {target[1]} when its shorter side is "
                f"scaled to {short}; at most {MAX_SCALED_PIXELS} pixels are scaled, crop it first"
            )
        filter = _FILTERS[self.resize]  # in two steps, because Pillow from 13 on would scale a tower in height first
        scaled = photo.resize((target[0], height), filter).resize(target, filter)
        left, top = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        return scaled.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class Classify:
    """Scores to labels.

    Args:
        output: Name of the output with the scores, shape (1, classes); None: the first output.
        softmax: Whether to turn the scores into probabilities.
        top_k: How many labels.
    """

    output: str | None = None
    softmax: bool = True
    top_k: int = 5

    def __post_init__(self) -> None:
        if type(self.top_k) is not int or self.top_k < 1:
            raise OptionError(f"sdk.Classify: top_k {self.top_k!r} is not a positive integer")

    def rank(self, scores: np.ndarray, labels: tuple[str, ...] | None) -> tuple[Prediction, ...]:
        """The best classes, best first; ties go to the lower index.

        Args:
            scores: Float array of ``classes`` values, any leading dimensions of size 1.
            labels: One per class, or None.

        Raises:
            InputError: More than one row of scores, or another number of labels.
        """
        row = np.asarray(scores, dtype=np.float64).squeeze()
        row = row[None] if row.ndim == 0 else row
        if row.ndim != 1 or row.size == 0:
            raise InputError(f"classify needs one row of scores, the output has shape {np.shape(scores)}")
        if labels is not None and len(labels) != row.size:
            raise InputError(f"the bundle has {len(labels)} labels, the output has {row.size} classes")
        values = _softmax(row) if self.softmax else row
        best = np.argsort(-values, kind="stable")[: self.top_k]
        return tuple(Prediction(int(i), labels[i] if labels else str(i), float(values[i])) for i in best)


@dataclass(frozen=True)
class Prediction:
    """One class with its score: a probability if the bundle's ``postprocess`` says softmax."""

    index: int
    label: str
    score: float


_FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(values: Any) -> bool:
    try:
        return len(values) == 3 and all(map(_is_number, values))
    except TypeError:
        return False


def _softmax(row: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinite scores become NaN, as everywhere else
        raised = np.exp(row - row.max())
        return np.asarray(raised / raised.sum())


def _open(photo: Any) -> Any:
    from PIL import Image as pil

    try:
        if isinstance(photo, np.ndarray):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
                raise InputError(
                    f"a photo array must be uint8 of shape (height, width, 3), got {photo.dtype} {photo.shape}"
                )
            return _upright_rgb(pil.fromarray(photo))
        if isinstance(photo, pil.Image):
            return _upright_rgb(photo)
        with pil.open(Path(photo)) as opened:
            return _upright_rgb(opened)
    except InputError:
        raise
    except Exception as error:  # a decoder raises whatever a damaged file makes it raise
        raise InputError(f"cannot read a photo from {photo!r}: {error}") from error


def _upright_rgb(photo: Any) -> Any:
    from PIL import Image as pil
    from PIL import ImageOps

    if 0 in photo.size:
        raise InputError(f"a photo of {photo.width} x {photo.height} pixels is empty")
    upright = _eight_bit(ImageOps.exif_transpose(photo), photo.format)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = pil.alpha_composite(pil.new("RGBA", upright.size, (0, 0, 0, 255)), upright)
    return upright.convert("RGB")


def _eight_bit(photo: Any, format: str | None) -> Any:
    """A photo of more than 8 bits reduced to the upper 8; Pillow itself would clip it to white."""
    if photo.mode.startswith("I;16") or (photo.mode == "I" and format == "PNG"):
        from PIL import Image as pil

        return pil.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    if photo.mode in ("I", "F"):
        raise InputError(f"a photo of mode {photo.mode} has no fixed range; convert it to 8 bits a channel first")
    return photo
