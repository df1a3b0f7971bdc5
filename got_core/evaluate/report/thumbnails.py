"""Small copies of pictures inside a page, and how much of it they may take.

Belongs here: shrinking, encoding, counting bytes. Not here: which pictures a page shows (`cases`).
"""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field

from PIL import Image

from got_core.corpus.decode import ImageError, decode_image
from got_core.evaluate.geneval.layout import Limits

SIDE = 384
"""Pixels of the longer side of a picture in the page, at most."""
EXACT = 128
"""A picture up to this side is kept without loss, so that it can be enlarged."""
QUALITY = 80

_LIMITS = Limits(formats=("PNG", "JPEG", "WEBP"), max_pixels=1 << 26)
"""What is decoded: pictures may come from anybody."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture of the page."""

    number: int
    width: int
    """Of the original, pixels: boxes that were found are in these."""

    height: int


@dataclass
class Thumbnails:
    """The pictures of one page, each once."""

    budget: int
    """Bytes that all of them may take in the page."""

    uris: list[str] = field(default_factory=list)
    used: int = 0
    _known: dict[str, Thumbnail] = field(default_factory=dict)

    def spend(self, data: bytes) -> bool:
        """Count other pictures of the page; whether there was room."""
        size = 4 * len(data) // 3
        if self.used + size > self.budget:
            return False
        self.used += size
        return True

    def add(self, picture: bytes | Image.Image) -> Thumbnail | str:
        """The picture's place in the page, or why it is not there: `unreadable: ...`, or FULL."""
        key = _key(picture)
        if key in self._known:
            return self._known[key]
        try:
            image = decode_image(picture, _LIMITS) if isinstance(picture, bytes) else picture
        except ImageError as error:
            return f"unreadable: {error}"
        uri = data_uri(image)
        if self.used + len(uri) > self.budget:
            return FULL
        self.used += len(uri)
        self.uris.append(uri)
        made = Thumbnail(len(self.uris) - 1, image.width, image.height)
        self._known[key] = made
        return made


FULL = "left out: the page is full"


def _key(picture: bytes | Image.Image) -> str:
    data = picture if isinstance(picture, bytes) else repr(picture.size).encode() + picture.tobytes()
    return hashlib.sha256(data).hexdigest()


def data_uri(image: Image.Image) -> str:
    """A picture as it stands in a page."""
    buffer = io.BytesIO()
    small = image.convert("RGB")
    if max(small.size) <= EXACT:
        small.save(buffer, format="WEBP", lossless=True, quality=50, method=2)
    else:
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.save(buffer, format="WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
