"""Pictures of our own in Reason-Edit's published layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from got_core.evaluate.outside.reason_edit_data import TEXTS
from tests.got_core.evaluate.emu_edit.made import picture

SIZE = (96, 80)
BOX = (24, 16, 72, 56)
"""Where the mask of every sample is, in pixels, far corner excluded."""


def soft_mask(size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] = BOX) -> bytes:
    """A JPEG of a white box on black, whose edges JPEG has softened and whose black is not all 0."""
    image = np.zeros((size[1], size[0]), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    noisy = np.clip(image.astype(int) + np.random.default_rng(0).integers(0, 9, image.shape), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, format="JPEG", quality=60)
    return buffer.getvalue()


def reason_edit_set(folder: Path, each: int = 2) -> Path:
    """`each` samples in every category, below a folder of its own as the archive unpacks."""
    for number, (category, text) in enumerate(TEXTS.items()):
        place = folder / "ReasonEdit_benchmark" / category
        place.mkdir(parents=True)
        lines = []
        for one in range(1, each + 1):
            stem = str(one if one < each else 10)  # by name 10 comes before 2, and 10_mask before 1_mask
            picture(100 * number + one, SIZE).save(place / f"{stem}.png")
            (place / f"{stem}_mask.jpg").write_bytes(soft_mask())
        for stem in sorted(path.name for path in place.glob("*.png")):
            lines.append(f"change {stem} of {category}  CLIP: a thing {stem}\n")
        (place / text).write_text("".join(lines))
    return folder
