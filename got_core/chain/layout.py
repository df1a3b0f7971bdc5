"""Layout canvases: a chain's boxes as pictures, the raw material of the spatial guidance Gs.

Belongs here: drawing boxes. Not here: encoding or averaging the canvases (`model`).
"""

from __future__ import annotations

import numpy as np

from got_core.chain.boxes import Box
from got_core.chain.grammar import Chain
from got_core.chain.palette import rgb


def canvases(chain: Chain, height: int, width: int) -> np.ndarray:
    """One canvas per box: uint8 (N, H, W, 3), black with the box filled in its mask colour.

    A chain without boxes gives one black canvas (1, H, W, 3). Corners are value / 1000 * size, rounded; a box
    covers at least one pixel. Released inference code (one canvas per box, RGB, black). Raises ValueError for
    a size that is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"canvas size must be positive, got {width}x{height}")
    boxes = chain.boxes
    drawn = np.zeros((max(len(boxes), 1), height, width, 3), dtype=np.uint8)
    for canvas, placed in zip(drawn, boxes, strict=False):
        rows, columns = fill_region(placed.box, height, width)
        canvas[rows, columns] = rgb(placed.color)
    return drawn


def fill_region(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that a box covers on an H x W canvas, at least one pixel each."""
    x1, y1, x2, y2 = box.to_pixels(width, height)
    return _span(y1, y2, height), _span(x1, x2, width)


def _span(low: float, high: float, size: int) -> slice:
    start = min(round(low), size - 1)
    return slice(start, max(round(high), start + 1))
