"""Aspect buckets: sizes of about one area, in which pictures are trained and edits drawn.

Belongs here: which sizes there are, and the one for a picture. Not here: how a picture becomes one of that
size (``train.data.geometry`` in training, `frames` where a pipeline draws).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""Width and height in pixels."""


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
