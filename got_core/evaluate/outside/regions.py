"""The region of an edit: where a picture was meant to change.

Belongs here: boxes, plans and masks as pixels, and the margin around them. Not here: what lies outside
(`changes`).
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable

import numpy as np
from PIL import Image, UnidentifiedImageError

from got_core.chain.grammar import Chain
from got_core.evaluate.apart.edit_plans import planned_area
from got_core.evaluate.emu_edit.measuring import FORMATS, MAX_PIXELS

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

HALF = 128
"""Level, or opacity, from which a soft mask counts: JPEG leaves no mask black and white."""

_GREY, _COLOURED = 48, 0.02


class NoRegionError(ValueError):
    """A mask that says nothing about where to edit."""


def of_boxes(boxes: Iterable[Box], height: int, width: int, margin: int) -> np.ndarray:
    """(height, width) bool: the pixels that boxes touch, and `margin` pixels around them."""
    inside = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        rows = slice(max(int(y1) - margin, 0), max(math.ceil(y2) + margin, 0))
        inside[rows, max(int(x1) - margin, 0) : max(math.ceil(x2) + margin, 0)] = True
    return inside


def of_chain(chain: Chain, height: int, width: int, margin: int) -> np.ndarray:
    """The pixels that a plan's boxes paint, with a margin."""
    return widened(planned_area(chain, height, width), margin)


def widened(inside: np.ndarray, margin: int) -> np.ndarray:
    """A region and all pixels at most `margin` rows and columns from it."""
    if margin < 1 or not inside.any():
        return inside
    from scipy import ndimage  # slow to load, and lists of benchmarks need none of it

    return ndimage.maximum_filter(inside.astype(np.uint8), size=2 * margin + 1, mode="constant") > 0


def read_mask(data: bytes) -> np.ndarray:
    """(h, w) bool: where a mask's file says to edit.

    With an alpha channel that is where it is transparent, as inpainting takes masks; else where it is light.
    Raises NoRegionError for what is no mask: no readable picture, a coloured one, one that marks nothing.
    """
    inside = _marked(_opened(data))
    if not inside.any():
        raise NoRegionError("its mask marks nothing")
    return inside


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise NoRegionError(f"its mask has {picture.width} x {picture.height} pixels")
            picture.load()
    except NoRegionError:
        raise
    except UnidentifiedImageError:  # its own words name an address in memory: no two would be alike
        raise NoRegionError(f"its mask cannot be read: it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise NoRegionError(f"its mask cannot be read: {error}") from error
    return picture


def _marked(picture: Image.Image) -> np.ndarray:
    if "A" in picture.getbands() or "transparency" in picture.info:
        return np.asarray(picture.convert("RGBA").getchannel("A")) < HALF
    levels = np.asarray(picture.convert("RGB"), np.int16)
    spread = levels.max(axis=2) - levels.min(axis=2)
    if (spread > _GREY).mean() > _COLOURED:
        raise NoRegionError("its mask is a coloured picture without an alpha channel")
    return np.asarray(picture.convert("L")) >= HALF


def resized(inside: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A region at another size (width, height), nearest pixels."""
    if (inside.shape[1], inside.shape[0]) == size:
        return inside
    return np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
