"""What an edit changed where nothing had to: the exact counterpart of a judge's score for over-editing.

Belongs here: pixels outside the places of the edit, and what the true edit changes. Not here: whether the
edit was made (`asked`).

The rule. Of each pixel counts the change of its levels, averaged over the channels, as far as it is above
`ExactRules.floor`. Outside are all pixels but those in the old and new boxes of what the edit is about,
widened by `ExactRules.halo`; the boxes of all other objects are always outside. The score is 10 where nothing
counts outside, 0 where as much does as the true edit changes in the whole picture, and linear in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from got_core.evaluate.edit_rules import Expected
from got_core.evaluate.exact.asked import ExactRules
from got_core.planning.geneval import XYXY


@dataclass(frozen=True)
class Excess:
    """What changed outside."""

    score: float
    """0 to 10; 10: nothing."""

    share: float
    """What counts outside, over what the true edit changes."""


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    """Absolute difference of two pictures of one size in levels, averaged over the channels: (H, W)."""
    first, second = (np.asarray(p.convert("RGB"), dtype=np.float64) for p in (one, other))
    return np.abs(first - second).mean(axis=2)  # type: ignore[no-any-return]


def outside(size: int, expected: Sequence[Expected], new: Sequence[XYXY], halo: int) -> np.ndarray:
    """Which pixels had to stay: bool (size, size). `new`: boxes of what was taken for added and changed
    objects."""
    mask = np.ones((size, size), dtype=bool)
    changed = [one.old for one in expected if one.changed and one.old is not None]
    for box in (*changed, *new):
        mask[_pixels(box, halo)] = False
    for one in expected:
        if not one.changed and one.box is not None:
            mask[_pixels(one.box, 0)] = True
    return mask


def excess_of(
    before: Image.Image, after: Image.Image, kept: np.ndarray, true_change: float, rules: ExactRules
) -> Excess:
    """The over-editing of a picture. `kept`: as `outside` gives it; `true_change`: the sum of `difference`
    between source and true result, above 0."""
    levels = np.maximum(difference(before, after) - rules.floor, 0)
    share = float(levels[kept].sum()) / true_change
    return Excess(10 * max(0.0, 1 - share), share)


def _pixels(box: XYXY, halo: int) -> tuple[slice, slice]:
    x1, y1, x2, y2 = box
    rows = slice(max(int(y1) - halo, 0), int(np.ceil(y2)) + halo)
    return rows, slice(max(int(x1) - halo, 0), int(np.ceil(x2)) + halo)
