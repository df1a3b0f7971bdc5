"""Layout canvases: a chain's boxes as pictures, the raw material of the spatial guidance Gs.

Belongs here: which pixels a box paints, for canvases and for masks alike. Not here: encoding or averaging the
canvases (`model`), or where the edges of a planned object lie (`Box.to_pixels`).
"""

from __future__ import annotations

import numpy as np

from got_core.chain.boxes import Box
from got_core.chain.grammar import Chain
from got_core.chain.palette import rgb


def canvases(chain: Chain, height: int, width: int) -> np.ndarray:
    """One canvas per box: uint8 (N, H, W, 3), black with the box filled in its mask colour.

    A chain without boxes gives one black canvas (1, H, W, 3), as in the released inference code. Raises
    ValueError for a size that is not positive.
    """
    _check_size(height, width)
    boxes = chain.boxes
    drawn = np.zeros((max(len(boxes), 1), height, width, 3), dtype=np.uint8)
    for canvas, placed in zip(drawn, boxes, strict=False):
        rows, columns = fill_region(placed.box, height, width)
        canvas[rows, columns] = rgb(placed.color)
    return drawn


def fill_region(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that a box paints on an H x W canvas, at least one pixel each.

    Corners are value / 1000 * size, truncated, and the pixel of the far corner is painted too: what the
    released inference code gets from PIL's `ImageDraw.rectangle`. Above 1000 pixels a box up to 999 therefore
    ends before the last row. Raises ValueError for a size that is not positive.
    """
    _check_size(height, width)
    x1, y1, x2, y2 = (int(corner) for corner in box.to_pixels(width, height))
    return slice(y1, y2 + 1), slice(x1, x2 + 1)


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"canvas size must be positive, got {width}x{height}")
