"""SmartEdit's figures of one edited picture: PSNR, SSIM and MSE of pictures times their mask, and the crop
that CLIP sees.

Belongs here: pictures and masks to numbers. Not here: the networks (`lpips`, `evaluate.networks`), the data
(`reason_edit_data`), or rows (`masked_judging`).

Source, edited picture and mask are brought to 256 x 256 pixels, pictures bicubic, masks nearest. Pictures are
multiplied by 1 - mask; all pixels count, also those that are black in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from got_core.evaluate.outside import likeness
from got_core.evaluate.outside.regions import HALF, NoRegionError

SIDE = 256


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """How a mask is read."""

    soft: bool
    """As the published script does: levels / 255 as they are, the box of all that is not 0, without its last
    row and column. Else: 1 from HALF up and 0 below, the box of the ones with all its rows and columns."""

    def record(self) -> dict[str, Any]:
        """As a protocol holds it."""
        level = "levels / 255" if self.soft else f"1 from {HALF} of 255, else 0"
        box = "levels above 0, without the last row and column" if self.soft else "the ones, whole"
        return {"mask": level, "box": box, "times": "1 - mask", "ssim": likeness.RECORD, "size": SIDE}


THRESHOLDED = MaskRule(soft=False)
PUBLISHED = MaskRule(soft=True)

RESIZE = {"pictures": f"{SIDE} x {SIDE}, bicubic", "mask": f"{SIDE} x {SIDE}, nearest"}


@dataclass(frozen=True)
class Mask:
    """A mask at SIDE."""

    weight: np.ndarray
    """(SIDE, SIDE) float64: 1 where nothing should change, 0 where the edit belongs."""

    box: tuple[int, int, int, int]
    """Left, upper, right, lower of the edit, as Pillow crops."""


def read_mask(image: Image.Image, rule: MaskRule) -> Mask:
    """A mask picture. Raises NoRegionError where it marks nothing, or everything."""
    levels = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST), np.float64)
    marked = levels > 0 if rule.soft else levels >= HALF
    if not marked.any():
        raise NoRegionError("its mask marks nothing")
    weight = 1 - (levels / 255 if rule.soft else marked.astype(np.float64))
    if not weight.any():
        raise NoRegionError("its mask marks the whole picture")
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    more = 0 if rule.soft else 1
    return Mask(weight, (int(columns[0]), int(rows[0]), int(columns[-1]) + more, int(rows[-1]) + more))


def at_side(picture: Image.Image) -> Image.Image:
    """A picture at SIDE."""
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def crop(picture: Image.Image, mask: Mask) -> Image.Image | None:
    """What CLIP sees of a picture at SIDE; None for a box without an area."""
    left, upper, right, lower = mask.box
    return picture.crop(mask.box) if right > left and lower > upper else None


def times_mask(picture: Image.Image, mask: Mask) -> np.ndarray:
    """(SIDE, SIDE, 3) float64 in [0, 1]: a picture at SIDE without what was to be edited."""
    return np.asarray(picture, np.float64) / 255 * mask.weight[..., None]


def masked_figures(source: np.ndarray, edited: np.ndarray) -> dict[str, float | None]:
    """`mse`, `psnr` and `ssim` of two pictures of `times_mask`; a PSNR of equal ones is None."""
    error = float(np.square(source - edited).mean())
    return {"mse": error, "psnr": likeness.psnr(error), "ssim": likeness.ssim(source, edited)}
