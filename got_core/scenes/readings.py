"""Readings of pictures, kept for as long as a process lives: several steps in a row ask about the same ones.

Belongs here: what is kept of a reading, and for how many pictures. Not here: reading (`reader`).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from got_core.scenes.config import DEFAULT_READER, ReaderConfig
from got_core.scenes.reader import NotASceneError, read
from got_core.scenes.world import PixelBox

MOST = 10_000
"""Readings that are kept, about a kilobyte each: those of a shard of 5,000 pairs."""


@dataclass(frozen=True, eq=False)
class SeenObject:
    """One object of a picture, without its pixels."""

    shape: str
    color: str
    box: PixelBox
    """x1, y1, x2, y2 in pixels of the picture, exclusive."""


@dataclass(frozen=True, eq=False)
class SeenScene:
    """What a picture shows."""

    objects: tuple[SeenObject, ...]
    """Left to right, as in `reader.Reading`."""
    background: str
    """white, grey or black."""


class Readings:
    """Reads each picture once, whoever asks; the latest MOST are kept. Safe between threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[tuple[ReaderConfig, str], SeenScene | str] = OrderedDict()

    def of(self, image: Image.Image, config: ReaderConfig = DEFAULT_READER) -> SeenScene:
        """The scene that a picture shows. Raises NotASceneError as `reader.read`."""
        key = (config, pixel_hash(image))
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = _seen(image, config)
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        if isinstance(found, str):
            raise NotASceneError(found)
        return found


READINGS = Readings()
"""Those of this process."""


def _seen(image: Image.Image, config: ReaderConfig) -> SeenScene | str:
    try:
        reading = read(image, config=config)
    except NotASceneError as error:
        return str(error)
    objects = tuple(SeenObject(item.shape, item.color, item.box) for item in reading.objects)
    return SeenScene(objects, reading.background)


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's pixels, mode and size."""
    head = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()
