"""What can be in a scene: shapes, colours, backgrounds, sizes, and the value types of one scene.

GenEval's relation rule is here too, because sampler, prompts, held-out rule and reader must agree on it.
Random choice, the shapes' geometry (`shapes`), drawing and wording are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

PixelBox = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""

RGB: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 138, 28),
    "yellow": (246, 218, 52),
    "green": (46, 160, 67),
    "blue": (40, 92, 214),
    "purple": (136, 52, 170),
    "pink": (246, 150, 192),
    "brown": (122, 74, 38),
}
"""Colour names are a subset of GenEval's ten (black and white are left to backgrounds)."""

TONES: dict[str, int] = {"white": 236, "grey": 150, "black": 36}
"""Grey level of every background tone that a caption can name."""

PLURALS: dict[str, str] = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "cross": "crosses",
    "star": "stars",
    "diamond": "diamonds",
}

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
OPPOSITE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}


@dataclass(frozen=True, kw_only=True)
class World:
    """The set of scenes that can be drawn. Raises ValueError for a setting that cannot be rendered."""

    size: int = 64
    """Side of the square picture in pixels."""
    shapes: tuple[str, ...] = ("circle", "square", "triangle", "cross")
    """Object classes, a subset of PLURALS' keys."""
    colors: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple")
    """Object colours, a subset of RGB's keys."""
    max_objects: int = 3
    """Most objects in one scene."""
    backgrounds: tuple[str, ...] = ("plain",)
    """Background kinds: plain, gradient, noise."""
    tones: tuple[str, ...] = ("white", "grey", "black")
    """Background tones, a subset of TONES' keys; the tone is what a caption names."""
    min_object: int = 14
    """Smallest side of an object's box in pixels."""
    max_object: int = 26
    """Largest side of an object's box in pixels."""
    margin: int = 3
    """Pixels that stay free between an object and the picture's edge."""
    gap: int = 3
    """Pixels that stay free between the boxes of two objects."""
    color_jitter: int = 8
    """Largest change of a colour channel from its name's value, in levels of 255."""
    unlike_colors: bool = False
    """Whether the two objects of a text-to-image scene (`two_object`, `position`) always have unlike colours;
    else these are independent. A small model mistakes a pair of one colour, in shapes that it has not seen
    together, for two of one shape."""

    def __post_init__(self) -> None:
        _require_known("shape", self.shapes, PLURALS)
        _require_known("colour", self.colors, RGB)
        _require_known("background", self.backgrounds, ("plain", "gradient", "noise"))
        _require_known("tone", self.tones, TONES)
        if not 4 <= self.min_object <= self.max_object <= self.size - 2 * self.margin:
            raise ValueError(
                f"objects of {self.min_object} to {self.max_object} px do not fit a {self.size} px picture "
                f"with a margin of {self.margin}: need 4 <= min_object <= max_object <= size - 2 * margin"
            )
        if self.max_objects < 1:
            raise ValueError(f"max_objects is {self.max_objects}: a scene holds at least one object")


def _require_known(what: str, names: tuple[str, ...], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise ValueError(f"unknown or missing {what} {unknown}: choose from {', '.join(known)}")


NARROW = World()
FULL = World(
    shapes=("circle", "square", "triangle", "cross", "star", "diamond"),
    colors=("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"),
    max_objects=4,
    backgrounds=("plain", "gradient", "noise"),
)


@dataclass(frozen=True)
class SceneObject:
    """One object: class, colour name, pixel box (exclusive), and the exact fill."""

    shape: str
    color: str
    x1: int
    y1: int
    x2: int
    y2: int
    rgb: tuple[int, int, int]

    @property
    def box(self) -> PixelBox:
        return (self.x1, self.y1, self.x2, self.y2)


@dataclass(frozen=True)
class Background:
    """A plain tone, a linear gradient around it, or fine noise on it."""

    tone: str
    """The name a caption uses."""
    level: int
    """Mean grey level, 0..255."""
    kind: str = "plain"
    slope: tuple[float, float] = (0.0, 0.0)
    """Levels gained from the left to the right and from the top to the bottom edge (gradient)."""
    noise: float = 0.0
    """Standard deviation in levels (noise)."""
    noise_seed: int = 0


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows; the same scene always renders to the same pixels."""

    objects: tuple[SceneObject, ...]
    background: Background
    size: int


# ---------------------------------------------------------------- relations and places


def relations(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[str, ...]:
    """GenEval's relations of box a to box b: none, one, or two on a diagonal (any unit, x1 y1 x2 y2)."""
    offset = ((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2)
    sizes = (a[2] - a[0] + b[2] - b[0], a[3] - a[1] + b[3] - b[1])
    rest = [math.copysign(max(abs(o) - 0.1 * s, 0.0), o) for o, s in zip(offset, sizes, strict=True)]
    if all(abs(r) < 1e-3 for r in rest):
        return ()
    dx, dy = (r / math.hypot(*offset) for r in rest)
    holds = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
    return tuple(name for name, held in zip(RELATIONS, holds, strict=True) if held)


PLACES: tuple[str, ...] = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)


def place_of(box: tuple[float, ...], size: int) -> str:
    """The third of the picture, across and down, that the box's centre is in."""
    column = min(int(3 * (box[0] + box[2]) / 2 / size), 2)
    row = min(int(3 * (box[1] + box[3]) / 2 / size), 2)
    return PLACES[3 * row + column]


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (any unit, x1 y1 x2 y2, ends exclusive)."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(across, 0) * max(down, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0
