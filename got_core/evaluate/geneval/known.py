"""Pictures whose content is known, to try a detector of photographs on.

Belongs here: drawings of things that detectors of photographs take for what they are, and pictures that the
user names. Not here: what a detector has to find (`mask2former`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from got_core.corpus.decode import ImageError, decode_image
from got_core.evaluate.geneval.classes import CLASSES, geneval_name
from got_core.evaluate.geneval.layout import Limits

SIDE = 512
_LIMITS = Limits(formats=("PNG", "JPEG", "WEBP"))


@dataclass(frozen=True, kw_only=True)
class KnownPicture:
    """A picture that shows an object of a class."""

    name: str
    cls: str
    image: Callable[[], Image.Image]


def read_known(path: Path) -> list[KnownPicture]:
    """The user's known pictures: JSON lines `{"image": "dog.png", "class": "dog"}`, paths from the file on.

    Raises ValueError naming the line that is wrong, or whose picture cannot be read.
    """
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                found.append(_known(path.parent, line))
            except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
                raise ValueError(
                    f'{path}:{number}: {error}; needed is a line like {{"image": "dog.png", "class": "dog"}} '
                    "with one of GenEval's classes"
                ) from error
    if not found:
        raise ValueError(f"{path} names no known pictures")
    return found


def _known(folder: Path, line: bytes) -> KnownPicture:
    row = json.loads(line)
    cls, place = geneval_name(row["class"]), folder / row["image"]
    if cls not in CLASSES:
        raise ValueError(f"{cls!r} is no class of the detector")
    try:
        picture = decode_image(place.read_bytes(), _LIMITS)
    except ImageError as error:
        raise ValueError(f"{place} cannot be read ({error})") from error
    return KnownPicture(name=row["image"], cls=cls, image=lambda: picture)


def rendered() -> Sequence[KnownPicture]:
    """Four drawings."""
    drawings = {
        "stop sign": _stop_sign,
        "clock": _clock,
        "sports ball": _ball,
        "traffic light": _traffic_light,
    }
    return [KnownPicture(name=name, cls=name, image=draw) for name, draw in drawings.items()]


def _scene() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A street under a sky."""
    image = Image.new("RGB", (SIDE, SIDE), (150, 190, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 360, SIDE, SIDE), fill=(110, 140, 90))
    return image, draw


def _around(x: float, y: float, radius: float, turns: float) -> tuple[float, float]:
    return x + radius * math.sin(2 * math.pi * turns), y - radius * math.cos(2 * math.pi * turns)


def _stop_sign() -> Image.Image:
    image, draw = _scene()
    draw.rectangle((248, 260, 264, 500), fill=(120, 120, 120))
    for radius, colour in ((130, (255, 255, 255)), (120, (190, 20, 30))):
        draw.polygon([_around(256, 170, radius, (k + 0.5) / 8) for k in range(8)], fill=colour)
    draw.text((256, 170), "STOP", fill=(255, 255, 255), anchor="mm", font_size=78)
    return image


def _clock() -> Image.Image:
    image, draw = _scene()
    draw.ellipse((96, 96, 416, 416), fill=(250, 250, 245), outline=(40, 40, 40), width=14)
    for hour in range(1, 13):
        x, y = _around(256, 256, 122, hour / 12)
        draw.text((x, y), str(hour), fill=(20, 20, 20), anchor="mm", font_size=30)
    for radius, turns, width in ((70, 10.15 / 12, 10), (105, 9 / 60, 6)):
        draw.line([(256, 256), _around(256, 256, radius, turns)], fill=(20, 20, 20), width=width)
    return image


def _ball() -> Image.Image:
    image, draw = _scene()
    draw.ellipse((156, 256, 356, 456), fill=(225, 110, 40), outline=(40, 25, 15), width=4)
    draw.line((256, 256, 256, 456), fill=(40, 25, 15), width=4)
    draw.line((156, 356, 356, 356), fill=(40, 25, 15), width=4)
    draw.arc((76, 256, 226, 456), -53, 53, fill=(40, 25, 15), width=4)
    draw.arc((286, 256, 436, 456), 127, 233, fill=(40, 25, 15), width=4)
    return image


def _traffic_light() -> Image.Image:
    image, draw = _scene()
    draw.rectangle((248, 340, 264, SIDE), fill=(70, 70, 70))
    draw.rounded_rectangle((196, 60, 316, 350), 24, fill=(35, 40, 35))
    for y, colour in ((115, (230, 40, 30)), (205, (70, 60, 20)), (295, (20, 60, 30))):
        draw.ellipse((216, y - 40, 296, y + 40), fill=colour)
    return image
