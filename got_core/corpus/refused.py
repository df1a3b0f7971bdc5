"""Pictures and pairs that ingestion refuses, because somebody wants them gone.

Belongs here: the test of one picture. Not here: who wants what gone (`got_core.curate.takedown`), and what
becomes of a refused row (`ingest`, `pairs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image

from got_core.corpus.decode import ImageError
from got_core.corpus.inspection import Inspected

REASON = "taken_down"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What is refused: by the bytes, and by the very same pixels."""

    ids: frozenset[str] = frozenset()
    """Ids of images and pairs."""
    pixels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Hashes of pixels (`pixels_hash`), by perceptual hash: only pictures with the same one are looked at."""

    def checked(self, one: Inspected, picture: Callable[[], Image.Image]) -> Inspected:
        """The picture as it was inspected, or the error that stands for it, without its id and fingerprint.

        `picture` opens it once more; called only where the perceptual hash is that of a refused one.
        """
        if one.image_id in self.ids:
            return _refused("its bytes are on the takedown list")
        same = self.pixels.get(one.print.phash, frozenset()) if one.print else frozenset()
        if same and pixels_hash(picture()) in same:
            return _refused("its pixels are those of a picture on the takedown list")
        return one


NOTHING = Refused()


def pixels_hash(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.convert("RGB").tobytes()).hexdigest()


def _refused(detail: str) -> Inspected:
    return Inspected(error=ImageError(REASON, detail))
