"""A change between two pictures as a picture.

Belongs here: colours. Not here: the figures (`changes`).
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIDE = 384
"""Longest side of a heat map, in pixels."""

FULL = 64
"""Levels of 255 at which the colours end."""

_STOPS = (0.0, 0.08, 0.35, 0.7, 1.0)
_COLOURS = np.array([(60, 60, 60), (90, 30, 110), (220, 50, 40), (250, 170, 30), (255, 255, 210)], np.float64)
"""From no change to a large one; light is much, also for those who see no red."""

_EDGE = (90, 200, 250)


def heat_map(
    source: Image.Image, levels: np.ndarray, inside: np.ndarray, *, framed: np.ndarray | None = None
) -> Image.Image:
    """RGB, at most SIDE pixels a side: outside the region the change by colour over the dimmed source, inside
    the grey source, its edge in blue. `levels`: (h, w), of 255; `inside`: (h, w) bool; `framed`: of which the
    edge is shown in place of the region's."""
    grey = np.asarray(source.convert("L"), np.float64)[..., None]
    strength = np.clip(levels / FULL, 0, 1)
    coloured = np.stack([np.interp(strength, _STOPS, _COLOURS[:, c]) for c in range(3)], axis=-1)
    weight = np.minimum(0.35 + 2 * strength, 1)[..., None]
    shown = np.where(inside[..., None], grey, weight * coloured + (1 - weight) * grey * 0.6)
    shown[_edge(inside if framed is None else framed)] = _EDGE
    picture = Image.fromarray(shown.round().astype(np.uint8))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return picture


def _edge(inside: np.ndarray) -> np.ndarray:
    """Pixels of the region beside one that is none."""
    edge = np.zeros_like(inside)
    for axis in (0, 1):
        for step in (1, -1):
            edge |= inside & ~np.roll(inside, step, axis=axis)
    return edge


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
