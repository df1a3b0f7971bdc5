"""Fits the outlines of shapes to a piece of a picture.

Belongs here: which shape, in which box, explains the coverage of one object best. Not here: finding pieces
and their coverage (`reader`), or the shapes (`world`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import ndimage

from got_core.scenes.shapes import coverage
from got_core.scenes.world import PixelBox

_PAD = 3
"""Pixels around an outline that its blurred form may reach."""
_BLUR = 0.9
"""Standard deviation in pixels of the blurred form."""
_BLURRED_FROM = 0.16
"""Misfit of the sharp outline from which the blurred forms are tried too."""


def fit_outline(alpha: np.ndarray, shapes: Sequence[str]) -> tuple[str, PixelBox, float]:
    """Best of the shapes, its box, and the overlap 0..1 of the coverage (H, W) and the outline."""
    field = np.pad(alpha, _PAD)
    blur, best = 0.0, _best_fit(field, 0.0, shapes)
    if best[0] > _BLURRED_FROM:
        best, blur = min((best, blur), (_best_fit(field, _BLUR, shapes), _BLUR))
    _, box, shape = best
    # pixels that the outline's edge crosses are undecided: noise would toss them about
    outline, covered = _drawn(alpha.shape, shape, box, blur), alpha > 0.5
    inside, outside = outline > 0.7, outline < 0.2
    fit = (inside & covered).sum() / max((inside | (outside & covered)).sum(), 1)
    return shape, box, float(fit)


def _best_fit(field: np.ndarray, blur: float, shapes: Sequence[str]) -> tuple[float, PixelBox, str]:
    """Least misfit, box and shape, over all shapes and two first guesses of the box."""
    starts = {_extent(field > 0.5), _extent(field > 0.2)} - {None}
    misfit = _Misfit(field, blur)
    first = {(shape, start): misfit(shape, start) for shape in shapes for start in starts if start}
    least = min(first.values())
    fits = [
        (*_climb(misfit, shape, start), shape)
        for (shape, start), value in first.items()
        if value < 2 * least + 0.15
    ]
    return min(fits)


def _extent(mask: np.ndarray) -> PixelBox | None:
    """Box of a mask of the padded field, in pixels of the picture."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    x1, y1 = int(columns[0]) - _PAD, int(rows[0]) - _PAD
    return (x1, y1, max(int(columns[-1]) + 1 - _PAD, x1 + 3), max(int(rows[-1]) + 1 - _PAD, y1 + 3))


def _climb(misfit: _Misfit, shape: str, box: PixelBox) -> tuple[float, PixelBox]:
    """Move the box's sides pixel by pixel while the outline fits better: blur wears thin tips away."""
    least = misfit(shape, box)
    for _ in range(5):
        best, place = least, box
        for side, step in product(range(4), (-1, 1)):
            sides = list(box)
            sides[side] += step
            trial = (sides[0], sides[1], sides[2], sides[3])
            value = misfit(shape, trial)
            if value < best - 1e-4:
                best, place = value, trial
        if place == box:
            break
        least, box = best, place
    return least, box


class _Misfit:
    """How badly outlines fit a padded field; each is tried once, though several climbs come by it."""

    def __init__(self, field: np.ndarray, blur: float) -> None:
        self._field, self._blur, self._covered = field, blur, float(field.sum())
        self._known: dict[tuple[str, PixelBox], float] = {}

    def __call__(self, shape: str, box: PixelBox) -> float:
        """Sum of |coverage - outline| over the outline's own area; infinite for an impossible box."""
        if (shape, box) not in self._known:
            self._known[shape, box] = self._of(shape, box)
        return self._known[shape, box]

    def _of(self, shape: str, box: PixelBox) -> float:
        x1, y1, x2, y2 = box
        height, width = self._field.shape[0] - 2 * _PAD, self._field.shape[1] - 2 * _PAD
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height or x2 - x1 < 3 or y2 - y1 < 3:
            return float("inf")
        drawn, area = _outline(shape, x2 - x1, y2 - y1, self._blur)
        inside = self._field[y1 : y2 + 2 * _PAD, x1 : x2 + 2 * _PAD]
        wrong = float(np.abs(inside - drawn).sum()) + self._covered - float(inside.sum())
        return wrong / area


@lru_cache(maxsize=8192)
def _outline(shape: str, width: int, height: int, blur: float) -> tuple[np.ndarray, float]:
    """Coverage with _PAD free pixels around it, blurred, and its area."""
    drawn = np.pad(coverage(shape, width, height), _PAD)
    return (ndimage.gaussian_filter(drawn, blur) if blur else drawn), float(drawn.sum())


def _drawn(size: tuple[int, ...], shape: str, box: PixelBox, blur: float) -> np.ndarray:
    x1, y1, x2, y2 = box
    canvas = np.zeros((size[0] + 2 * _PAD, size[1] + 2 * _PAD), dtype=np.float32)
    canvas[y1 : y2 + 2 * _PAD, x1 : x2 + 2 * _PAD] = _outline(shape, x2 - x1, y2 - y1, blur)[0]
    return canvas[_PAD:-_PAD, _PAD:-_PAD]
