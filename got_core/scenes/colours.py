"""Colours as a scene's reader compares them: CIELAB, and the nearest colour name.

Belongs here: distances between colours. Not here: a picture's colour space (`got_core.pictures.colours`), or
which colours there are (`world`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from got_core.scenes.world import RGB


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB levels 0..255, last axis 3."""
    linear = _LINEAR[np.clip(np.rint(rgb), 0, 255).astype(np.uint8)]
    f = np.cbrt(np.maximum(linear @ _TO_XYZ, 1e-6))
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    found = np.empty_like(f)
    found[..., 0], found[..., 1], found[..., 2] = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return found


def summed(channels: np.ndarray) -> np.ndarray:
    """Sum over a last axis of 3, which NumPy is slow to add up."""
    return channels[..., 0] + (channels[..., 1] + channels[..., 2])


def length(channels: np.ndarray) -> np.ndarray:
    """Euclidean length over a last axis of 3."""
    return np.sqrt(summed(channels**2))


_LEVELS = np.arange(256, dtype=np.float32) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_TO_XYZ = np.array(
    [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]], dtype=np.float32
) / np.array([0.9505, 1.0, 1.089], dtype=np.float32)
PALETTE = {name: lab(np.asarray(value, dtype=np.float32)) for name, value in RGB.items()}
"""CIELAB of every colour name."""


def nearest_color(value: np.ndarray, names: Sequence[str]) -> tuple[str, float]:
    """The one of `names` that is nearest to a CIELAB value, and 0..1: 1 near the name's own value, 0 half way
    to the next one."""
    distance = length(value - palette(tuple(names)))
    if len(names) == 1:
        return names[0], 1.0
    nearest, second = np.argsort(distance, kind="stable")[:2]
    near, far = float(distance[nearest]), float(distance[second])
    return names[nearest], float(np.clip(2 * (1 - 2 * near / (near + far)), 0, 1))


@lru_cache(maxsize=64)
def palette(names: tuple[str, ...]) -> np.ndarray:
    """CIELAB (n, 3) of colour names; do not write to it."""
    return np.stack([PALETTE[name] for name in names])
