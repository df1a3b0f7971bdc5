"""A picture that was drawn before, of which a changed plan draws only a part anew.

Belongs here: which part. Not here: how the rest is kept (`inpaint_mask`), files
(`registry.picture_file`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import Chain
from got_core.pictures.colours import to_rgb


@dataclass(frozen=True)
class Earlier:
    """A picture that was drawn before, and the plan that it was drawn from."""

    image: Image.Image
    chain: Chain

    def changed(self, chain: Chain) -> list[Box]:
        """The boxes of both plans that the other does not have under the same name."""
        old, new = (Counter((one.phrase, one.box) for one in plan.boxes) for plan in (self.chain, chain))
        return [box for _, box in ((old - new) + (new - old)).elements()]

    def joined(self, picture: Image.Image, drawn: np.ndarray) -> Image.Image:
        """A picture of this one's size where it was drawn (cells, bool (h, w)), and this one elsewhere."""
        cells = Image.fromarray(drawn.astype(np.uint8) * 255)
        mask = cells.resize(picture.size, Image.Resampling.NEAREST)
        return Image.composite(picture, to_rgb(self.image), mask)
