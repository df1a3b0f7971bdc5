"""The fixed sequence of mask colours.

Belongs here: which colour the k-th box of a chain gets, and a colour name's RGB. Not here: what colour an
object has.
"""

from __future__ import annotations

from functools import cache

from PIL import ImageColor

PALETTE: tuple[str, ...] = (
    "red",
    "lime",
    "blue",
    "yellow",
    "magenta",
    "cyan",
    "orange",
    "purple",
    "white",
    "green",
    "navy",
    "teal",
    "maroon",
    "olive",
    "pink",
    "gray",
)
"""PIL colour names, plainly distinct from one another and from the black canvas. The order is a file format:
a trained model has learned it."""


def palette_color(k: int) -> str:
    """Name of the k-th box's colour, k from 0; more boxes than colours wrap round."""
    return PALETTE[k % len(PALETTE)]


def is_color(name: str) -> bool:
    """Whether PIL knows the name (in any case)."""
    return name.lower() in ImageColor.colormap


@cache
def rgb(name: str) -> tuple[int, int, int]:
    """Red, green, blue of a PIL colour name, 0..255 each. Raises ValueError for an unknown name."""
    if not is_color(name):
        raise ValueError(f"unknown colour {name!r}: use a PIL colour name such as {', '.join(PALETTE[:3])}")
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue
