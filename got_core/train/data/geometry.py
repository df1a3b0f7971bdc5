"""Where a training picture lies in its original: resized, then cut out, and the chain's boxes moved along.

Belongs here: pure geometry of sizes, boxes and pixels. Not here: which sizes there are (``model.buckets``),
and which samples make a batch (``batches``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.grammar import Boxed, Chain
from got_core.model.buckets import Size

KEPT_SHARE = 5
"""A crop keeps at least one part in so many of a box. With less of it in the picture, its words would be a
wrong label."""


@dataclass(frozen=True)
class Placement:
    """A training picture as a window of its resized original."""

    original: Size
    """Size of the original picture."""
    resized: Size
    """Size the original is resized to; no smaller than ``size`` on either axis."""
    corner: tuple[int, int]
    """Left and top edge of the window in the resized picture."""
    size: Size
    """Size of the window, which is the training picture."""

    def resize(self, image: Image.Image) -> np.ndarray:
        """The resized picture, uint8 (H, W, 3), of the original or of another one of the same scene."""
        same = image.size == self.resized
        return np.asarray(image if same else image.resize(self.resized, Image.Resampling.BICUBIC))

    def window(self, resized: np.ndarray) -> np.ndarray:
        """The training picture: a view into the resized one."""
        (left, top), (width, height) = self.corner, self.size
        return resized[top : top + height, left : left + width]

    def box(self, box: Box) -> Box | None:
        """The part of a box that is inside the window, in the window's coordinates; None where nothing is.

        Edges move outwards to the next whole coordinate, so what a box holds stays in it. The last
        coordinate, 999, means the picture's edge and stays at the edge.
        """
        x = _span(box.x1, box.x2, self.resized[0], self.corner[0], self.size[0])
        y = _span(box.y1, box.y2, self.resized[1], self.corner[1], self.size[1])
        return None if x is None or y is None else Box(x[0], y[0], x[1], y[1])

    def chain(self, chain: Chain) -> Chain:
        """A chain with its boxes moved along.

        Raises ValueError where a box lies outside the window: see :func:`keeping`.
        """
        if self.size == self.resized:
            return chain
        return Chain(tuple(self._moved(part) if isinstance(part, Boxed) else part for part in chain.parts))

    def _moved(self, part: Boxed) -> Boxed:
        box = self.box(part.box)
        if box is None:
            raise ValueError(f"the box {part.box} lies outside of the window {self}: move it with `keeping`")
        return replace(part, box=box)

    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's size numbers: original height and width, top and left of the crop, height and width."""
        (width, height), (left, top), (w, h) = self.original, self.corner, self.size
        return (height, width, top, left, h, w)


def _span(low: int, high: int, resized: int, corner: int, size: int) -> tuple[int, int] | None:
    """One axis of :meth:`Placement.box`, in whole numbers throughout: an uncut axis changes nothing."""
    far = LIMIT if high == LIMIT - 1 else high
    start = max(low * resized - LIMIT * corner, 0)
    end = min(far * resized - LIMIT * corner, LIMIT * size)
    if start > end or (start == end and low != high):
        return None
    first = min(start // size, LIMIT - 1)
    return first, max(first, min(-(-end // size), LIMIT - 1))


def stretched(original: Size, size: Size, told: Size | None = None) -> Placement:
    """The whole picture, stretched to a size. ``told`` is the original size that the U-Net is told."""
    return Placement(told or original, size, (0, 0), size)


def covering(original: Size, size: Size, across: float = 0.5, down: float = 0.5) -> Placement:
    """The largest window of the shape of ``size``: resized to cover it, then cut.

    ``across`` and ``down`` in [0, 1] say where in the free space the window lies; 0.5 is the middle.
    """
    scale = max(size[0] / original[0], size[1] / original[1])
    resized = (max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale)))
    left, top = round(across * (resized[0] - size[0])), round(down * (resized[1] - size[1]))
    return Placement(original, resized, (left, top), size)


def keeping(placement: Placement, chain: Chain) -> Placement | None:
    """The placement with its window moved, no further than needed, to keep something of every box.

    Something is a fifth of the box's side, or a window full of one longer than five windows, on each axis;
    a covering window has room to move along one of them. None where no place keeps something of all boxes.
    """
    boxes = [placed.box for placed in chain.boxes]
    axes = zip(placement.corner, placement.resized, placement.size, strict=True)
    spans = ([(box.x1, box.x2) for box in boxes], [(box.y1, box.y2) for box in boxes])
    corner = []
    for (wanted, resized, size), sides in zip(axes, spans, strict=True):
        limits = [_corners(low, high, resized, size) for low, high in sides]
        first = max([0, *(low for low, _ in limits)])
        last = min([resized - size, *(high for _, high in limits)])
        if first > last:
            return None
        corner.append(min(max(wanted, first), last))
    return replace(placement, corner=(corner[0], corner[1]))


def _corners(low: int, high: int, resized: int, size: int) -> tuple[int, int]:
    """First and last corner of a window along one axis that keeps something of a box, in whole numbers."""
    far = LIMIT if high == LIMIT - 1 else high
    unit = KEPT_SHARE * LIMIT
    least = min((far - low) * resized, unit * size)
    first = KEPT_SHARE * low * resized + least - unit * size
    last = KEPT_SHARE * far * resized - least
    return -(-first // unit), last // unit
