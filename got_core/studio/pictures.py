"""Two pictures beside each other: what changed, and where.

Belongs here: measures and pictures of a change. Not here: reading files (`got_core.corpus.decode`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.layout import fill_region
from got_core.registry.picture_file import picture_bytes

_FULL = 64
"""Levels of change that the heat map shows in full."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a second picture has otherwise outside of some boxes."""

    levels: np.ndarray
    """float (H, W): mean absolute difference of the three colours, 0..255; 0 inside of the boxes."""

    outside: np.ndarray
    """bool (H, W): pixels outside of all boxes."""

    @property
    def median(self) -> float:
        """Of the pixels outside, in levels of 255; 0 where there are none."""
        return float(np.median(self.levels[self.outside])) if self.outside.any() else 0.0

    @property
    def mean(self) -> float:
        """As `median`, but the mean."""
        return float(self.levels[self.outside].mean()) if self.outside.any() else 0.0


def change_outside(before: Image.Image, after: Image.Image, boxes: Iterable[Box]) -> Change:
    """How two pictures differ outside of boxes (thousandths of the sides). The first is taken in the size of
    the second."""
    after = after.convert("RGB")
    before = before.convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
    first, second = (np.asarray(one, dtype=np.float32) for one in (before, after))
    levels, outside = np.abs(first - second).mean(axis=2), np.ones(first.shape[:2], dtype=bool)
    for box in boxes:
        outside[fill_region(box, after.height, after.width)] = False
    return Change(levels=np.where(outside, levels, 0), outside=outside)


def heat_map(change: Change) -> Image.Image:
    """Red where something changed, the more the denser; elsewhere transparent. RGBA."""
    alpha = np.clip(change.levels / _FULL * 255, 0, 255).astype(np.uint8)
    colours = np.zeros((*alpha.shape, 4), dtype=np.uint8)
    colours[..., 0], colours[..., 3] = 255, alpha
    return Image.fromarray(colours)


def data_url(data: bytes | Image.Image) -> str:
    """A PNG, in the page itself: no other artist can ask for it."""
    content = picture_bytes(data) if isinstance(data, Image.Image) else data
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
