"""Geometry of the shapes: which part of every pixel of its box a shape covers.

Belongs here: the outlines that renderer and reader agree on. Not here: colours and scenes (`world`), pictures
(`render`).
Every shape is an inside test over u, v in [0, 1] and touches all four sides of its box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np


def _polygon(points: list[tuple[float, float]]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def inside(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        result = np.zeros(np.broadcast(u, v).shape, dtype=bool)
        for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
            if ya == yb:
                continue
            crosses = (ya > v) != (yb > v)
            result ^= crosses & (u < (xb - xa) * (v - ya) / (yb - ya) + xa)
        return result

    return inside


def _star_points(inner: float = 0.45) -> list[tuple[float, float]]:
    raw = [
        (r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5))
        for k, r in enumerate([1.0, inner] * 5)
    ]
    xs, ys = [p[0] for p in raw], [p[1] for p in raw]
    return [((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys))) for x, y in raw]


_INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25,
    "square": lambda u, v: np.ones(np.broadcast(u, v).shape, dtype=bool),
    "triangle": _polygon([(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)]),
    "cross": lambda u, v: (np.abs(u - 0.5) <= 1 / 6) | (np.abs(v - 0.5) <= 1 / 6),
    "star": _polygon(_star_points()),
    "diamond": lambda u, v: np.abs(u - 0.5) + np.abs(v - 0.5) <= 0.5,
}

SUPERSAMPLE = 8


@lru_cache(maxsize=4096)
def coverage(shape: str, width: int, height: int) -> np.ndarray:
    """Share of every pixel that the shape covers, float32 (height, width) in [0, 1]; do not write to it."""
    s = SUPERSAMPLE
    u = ((np.arange(width * s) + 0.5) / (width * s))[None, :]
    v = ((np.arange(height * s) + 0.5) / (height * s))[:, None]
    fine = np.broadcast_to(_INSIDE[shape](u, v), (height * s, width * s))
    alpha = fine.reshape(height, s, width, s).mean(axis=(1, 3), dtype=np.float32)
    alpha.setflags(write=False)
    return alpha
