"""Boxes in the chain's own coordinates.

Belongs here: the box type and its way to and from pixels. Not here: how a box is spelled (`grammar`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LIMIT = 1000
"""Coordinates are whole numbers in [0, LIMIT), normalised per axis (GoT paper, section 3)."""


@dataclass(frozen=True, order=True)
class Box:
    """A box in chain coordinates: x to the right, y down, 0 <= x1 <= x2 < 1000, 0 <= y1 <= y2 < 1000.

    Raises ValueError where a coordinate is no whole number, is out of range or the corners are swapped.
    """

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ValueError(f"box {name} must be a whole number, got {value!r}")
            if not 0 <= value < LIMIT:
                raise ValueError(f"box {name} = {value} is outside 0..{LIMIT - 1}")
        if self.x1 > self.x2 or self.y1 > self.y2:
            raise ValueError(f"box {self} has its corners swapped: need x1 <= x2 and y1 <= y2")

    def __str__(self) -> str:
        return f"({self.x1},{self.y1}),({self.x2},{self.y2})"

    @classmethod
    def from_pixels(cls, xyxy: Sequence[float], width: float, height: float) -> Box:
        """Box of a pixel rectangle (x1, y1, x2, y2); x2 and y2 exclusive, sizes in pixels.

        Each coordinate is floor(1000 * value / size) clipped to 0..999. Raises ValueError where the size is
        not positive or the rectangle's corners are swapped.
        """
        if width <= 0 or height <= 0:
            raise ValueError(f"image size must be positive, got {width}x{height}")
        scaled = [_scale(v, size) for v, size in zip(xyxy, (width, height) * 2, strict=True)]
        return cls(*scaled)

    def to_pixels(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Edges in pixels (x1, y1, x2, y2) = value / 1000 * size, as floats: for measuring, as in an IoU.

        Which pixels the box paints is `layout.fill_region`'s business.
        """
        return (
            self.x1 / LIMIT * width,
            self.y1 / LIMIT * height,
            self.x2 / LIMIT * width,
            self.y2 / LIMIT * height,
        )

    @property
    def width(self) -> int:
        """Width in chain units."""
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        """Height in chain units."""
        return self.y2 - self.y1

    @property
    def area(self) -> int:
        """Area in square chain units."""
        return self.width * self.height

    def iou(self, other: Box) -> float:
        """Intersection over union with another box, 0..1; two equal boxes give 1 even without area."""
        if self == other:
            return 1.0
        across = min(self.x2, other.x2) - max(self.x1, other.x1)
        down = min(self.y2, other.y2) - max(self.y1, other.y1)
        shared = max(across, 0) * max(down, 0)
        union = self.area + other.area - shared
        return shared / union if union else 0.0


WHOLE = Box(0, 0, LIMIT - 1, LIMIT - 1)
"""The whole frame: the box of a style or background edit."""


def _scale(value: float, size: float) -> int:
    return min(max(int(LIMIT * value // size), 0), LIMIT - 1)
