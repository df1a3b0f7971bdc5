"""Where a training picture lies in its original: resized, then cut out, and the chain's boxes moved along.

Belongs here: pure geometry of sizes, boxes and pixels. Not here: which samples make a batch (``batches``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.grammar import Boxed, Chain, Text

Size = tuple[int, int]
"""Width and height in pixels."""


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
        """A chain with its boxes moved along; of a box outside the window only the words remain."""
        if self.size == self.resized:
            return chain
        parts: list[Text | Boxed] = []
        for part in chain.parts:
            if isinstance(part, Text):
                parts = [*_without_double_space(parts, part), part]
            elif (box := self.box(part.box)) is not None:
                parts.append(replace(part, box=box))
            elif part.words:
                parts.append(Text(part.words))
        if parts and isinstance(last := parts[-1], Text):
            parts[-1] = Text(last.text.rstrip())
        return Chain(tuple(parts))

    def keeps(self, chain: Chain) -> bool:
        """Whether something of every box is inside the window."""
        boxes = () if self.size == self.resized else chain.boxes
        return all(self.box(placed.box) is not None for placed in boxes)

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


def _without_double_space(parts: list[Text | Boxed], following: Text) -> list[Text | Boxed]:
    """Parts without the space before a box that is gone, where the text after it makes its own break."""
    before = parts[-1] if parts else None
    if isinstance(before, Text) and before.text.endswith(" ") and following.text[:1] in tuple(" ,.;:"):
        return [*parts[:-1], Text(before.text[:-1])]
    return parts


def stretched(original: Size, size: Size, told: Size | None = None) -> Placement:
    """The whole picture, its aspect ratio given up. ``told`` is the original size that the U-Net is told."""
    return Placement(told or original, size, (0, 0), size)


def covering(original: Size, size: Size, across: float = 0.5, down: float = 0.5) -> Placement:
    """The largest window of the shape of ``size``: resized to cover it, then cut.

    ``across`` and ``down`` in [0, 1] say where in the free space the window lies; 0.5 is the middle.
    """
    scale = max(size[0] / original[0], size[1] / original[1])
    resized = (max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale)))
    left, top = round(across * (resized[0] - size[0])), round(down * (resized[1] - size[1]))
    return Placement(original, resized, (left, top), size)


def bucket_sizes(resolution: int, multiple: int, widest: float = 2.0) -> list[Size]:
    """Picture sizes of about ``resolution`` squared pixels, from 1 : ``widest`` to ``widest`` : 1, by width.

    Both sides are multiples of ``multiple``. Raises ValueError where the resolution is not.
    """
    if resolution % multiple or resolution < multiple:
        raise ValueError(f"resolution {resolution} is not a multiple of bucket_multiple {multiple}")
    cells = resolution // multiple
    sizes = set()
    for across in range(1, cells * math.ceil(widest) + 1):
        down = round(cells * cells / across)
        if down and max(across / down, down / across) <= widest:
            sizes |= {(across * multiple, down * multiple), (down * multiple, across * multiple)}
    return sorted(sizes)


def nearest_bucket(original: Size, sizes: Sequence[Size]) -> int:
    """Index of the size whose aspect ratio is nearest to the picture's, as a ratio of ratios."""
    aspect = math.log(original[0] / original[1])
    return min(range(len(sizes)), key=lambda k: abs(math.log(sizes[k][0] / sizes[k][1]) - aspect))
