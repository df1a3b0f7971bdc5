"""The formulas: `cosine` for CLIP-I, CLIP-T and DINO, `direction_cosine` for CLIP-dir, L1 and L2 of levels.

Belongs here: numbers from features and pictures. Not here: where they come from, or means over samples.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

ZERO = 1e-6
"""Length below which a difference of two features of length 1 has no direction."""


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, (n, d) and (n, d) to (n,) float64 in [-1, 1]."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.clip(np.sum(left * right, axis=-1) / lengths, -1.0, 1.0)


def direction_cosine(
    edited: np.ndarray, source: np.ndarray, output_text: np.ndarray, input_text: np.ndarray
) -> np.ndarray:
    """Whether pictures change as their captions do: cos(edited - source, output - input), (n,) float64.

    Features are (n, d) of length 1. NaN where the captions have no direction (they are the same). 0 where
    only the picture has none: it does not change, so it does not change as the captions do; left out
    instead, it would make a model that copies better.
    """
    picture = np.asarray(edited, np.float64) - np.asarray(source, np.float64)
    text = np.asarray(output_text, np.float64) - np.asarray(input_text, np.float64)
    still, unnamed = (np.linalg.norm(one, axis=-1) < ZERO for one in (picture, text))
    found = np.zeros(len(picture))
    moved = ~still & ~unnamed
    found[moved] = cosine(picture[moved], text[moved])
    found[unnamed] = np.nan
    return found


def same_size(picture: Image.Image, reference: Image.Image) -> Image.Image:
    """The picture at the reference's size (bicubic), as MagicBrush's script compares them."""
    if picture.size == reference.size:
        return picture
    return picture.resize(reference.size, Image.Resampling.BICUBIC)


def level_distances(picture: Image.Image, reference: Image.Image) -> tuple[float, float]:
    """L1 and L2: mean absolute and mean squared difference of levels in [0, 1], over pixels and channels.

    RGB pictures of one size (`same_size`).
    """
    difference = np.asarray(picture, np.int16) - np.asarray(reference, np.int16)
    return float(np.abs(difference).mean() / 255), float(
        np.square(difference, dtype=np.int32).mean() / 255**2
    )
