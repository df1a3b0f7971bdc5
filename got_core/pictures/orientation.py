"""Which way up a picture is, read by itself: other metadata may be as broken as it likes.

Pillow's `exif_transpose` reads and rewrites all tags, and loses the orientation where another one is broken.
Belongs here: EXIF and XMP orientation. Not here: any other tag.
"""

from __future__ import annotations

import re
from typing import Literal

from PIL import Image

_TAG = 0x0112
_SIZES = {1: 1, 3: 2, 4: 4}
"""Bytes of a value by EXIF type: BYTE, SHORT (what the standard says), LONG."""
_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([0-9])\b""")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(picture: Image.Image) -> Image.Image:
    """The loaded picture turned as its metadata says; the same object where there is nothing to turn."""
    method = _TRANSPOSE.get(orientation(picture))
    return picture if method is None else picture.transpose(method)


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, or XMP's where EXIF has none. 1 (as it is) where neither can be read.

    A value outside 1..8 comes back as it is and turns nothing.
    """
    found = _in_exif(_exif(picture))
    return found if found is not None else _in_xmp(picture)


def _exif(picture: Image.Image) -> bytes:
    stored = picture.info.get("exif")
    if isinstance(stored, bytes):
        return stored
    text = picture.info.get("Raw profile type exif")  # ImageMagick's, in PNG: three lines, then hex
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _in_exif(exif: bytes) -> int | None:
    """The orientation in the first directory of a TIFF structure; None if there is none."""
    tiff = exif[exif.startswith(b"Exif\0\0") and 6 :]
    order: Literal["little", "big"] | None = {b"II": "little", b"MM": "big"}.get(tiff[:2])  # type: ignore[assignment]
    if order is None:
        return None
    start = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind = (int.from_bytes(tiff[at + k : at + k + 2], order) for k in (0, 2))
        if tag == _TAG:
            count = int.from_bytes(tiff[at + 4 : at + 8], order)
            return int.from_bytes(tiff[at + 8 : at + 8 + _SIZES.get(kind, 0)], order) if count == 1 else 0
    return None


def _in_xmp(picture: Image.Image) -> int:
    stored = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    packet = stored.encode() if isinstance(stored, str) else stored
    found = _XMP.search(packet) if isinstance(packet, bytes) else None
    return int(found[1]) if found else 1
