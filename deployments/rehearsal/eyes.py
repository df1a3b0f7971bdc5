"""What a picture shows, as far as colours tell: areas of a photograph and flat shapes that were pasted on it.

Belongs here: pixels to names and rectangles. Not here: how that is asked for and said (``server``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from deployments.rehearsal.pictures import COLOURS

GRID = 64
"""Cells across and down in which areas are looked for."""
FINE = 128
"""The same for shapes."""
SMALLEST_AREA, SMALLEST_SHAPE = 0.04, 0.006
"""Shares of the picture."""
TOLERANCE = 60.0
"""Distance in RGB at which a pixel still has a shape's colour: what JPEG and resizing leave of it."""
FILLED = {"square": 0.93, "disc": 0.7}
"""Share of its rectangle that a form fills, at least: all of it, or a quarter of pi."""
HUES = (
    (0.04, "red"),
    (0.11, "brown"),
    (0.19, "yellow"),
    (0.46, "green"),
    (0.72, "blue"),
    (0.93, "pink"),
    (1.01, "red"),
)
"""Upper end of each hue, in turns."""


class Found(NamedTuple):
    """Something in a picture."""

    name: str
    box: tuple[float, float, float, float]
    """Left, top, right and bottom edge as shares of the sides."""
    share: float
    """Of the picture's area."""


def areas(image: Image.Image) -> list[Found]:
    """The largest connected area of each colour, the largest first."""
    names = _colour_names(image)
    found = (_largest(names == name, f"{name} area") for name in np.unique(names))
    seen = [one for one in found if one is not None and one.share >= SMALLEST_AREA]
    return sorted(seen, key=lambda one: (-one.share, one.name))


def shapes(image: Image.Image) -> list[Found]:
    """Flat discs and squares in the colours of COLOURS."""
    pixels = np.asarray(image.convert("RGB").resize((FINE, FINE), Image.Resampling.BOX), dtype=float)
    return [one for colour in COLOURS for one in _shapes_of(pixels, colour)]


def find(image: Image.Image, phrase: str) -> Found | None:
    """What a phrase such as `red disc` or `brown area` names; None where the picture does not show it."""
    wanted = re.sub(r"\W+", " ", phrase.lower()).strip()
    return next((one for one in (*shapes(image), *areas(image)) if one.name in wanted), None)


def place_of(box: tuple[float, float, float, float]) -> str:
    """Where in the picture the middle of a rectangle lies, in words."""
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    row = "upper " if down < 0.38 else "lower " if down > 0.62 else ""
    column = "left" if across < 0.38 else "right" if across > 0.62 else ""
    if column:
        return f"at the {row}{column}"
    return {"upper ": "at the top", "lower ": "at the bottom", "": "in the centre"}[row]


def _shapes_of(pixels: np.ndarray, colour: str) -> Iterator[Found]:
    near = np.sqrt(((pixels - np.array(COLOURS[colour])) ** 2).sum(axis=-1)) < TOLERANCE
    one = _largest(near, colour)
    if one is None or one.share < SMALLEST_SHAPE:
        return
    left, top, right, bottom = one.box
    filled = one.share / ((right - left) * (bottom - top))
    form = next((name for name, least in FILLED.items() if filled >= least), None)
    if form is not None:
        yield one._replace(name=f"{colour} {form}")


def _largest(mask: np.ndarray, name: str) -> Found | None:
    labels, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    label = int(sizes.argmax())
    down, across = ndimage.find_objects(labels)[label]
    height, width = mask.shape
    box = (across.start / width, down.start / height, across.stop / width, down.stop / height)
    return Found(name, box, float(sizes[label]) / mask.size)


def _colour_names(image: Image.Image) -> np.ndarray:
    """The colour's name of each cell, (GRID, GRID)."""
    small = image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX)
    hue, saturation, value = (np.asarray(band, dtype=float) / 255 for band in small.convert("HSV").split())
    names = np.full(hue.shape, "grey", dtype="<U6")
    for end, name in reversed(HUES):
        names[(saturation >= 0.22) & (hue < end)] = name
    names[(saturation < 0.22) & (value > 0.78)] = "white"
    names[value < 0.22] = "black"
    return names
