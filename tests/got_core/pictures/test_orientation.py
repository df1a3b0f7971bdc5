"""Pictures come the right way up, whatever else is broken in their metadata."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.pictures.orientation import upright
from tests.got_core.pictures.awkward import encode, entry, exif, oriented

CONFIG = IngestConfig()
CORNERS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
"""No turn or mirror of it is like another."""


def turned_by_pillow(value: int) -> np.ndarray:
    image = CORNERS.copy()
    image.getexif()[0x0112] = value
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize(("order", "kind"), [("<", 3), (">", 3), ("<", 4), (">", 1)])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_all_eight(value: int, order: str, kind: int, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(CORNERS, format, exif=exif(order, [oriented(order, value, kind)]), **options)
    assert (np.asarray(decode_image(data, CONFIG)) == turned_by_pillow(value)).all()


TAGS = (0x0102, 0x010E, 0x010F, 0x011A, 0x0128, 0x0132, 0x014A, 0x8298, 0x8769, 0x8825, 0x927C, 0xA005)
KINDS = (0, 1, 2, 3, 5, 7, 10, 12, 13, 16, 99)
COUNTS = (0, 1, 1000, 2**31, 2**32 - 1)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", TAGS)
def test_beside_a_broken_tag(order: str, tag: int) -> None:
    values = (bytes(4), struct.pack(order + "I", 8), struct.pack(order + "I", 60000), b"\xff" * 4)
    for kind, count, value in itertools.product(KINDS, COUNTS, values):
        entries = sorted([entry(order, tag, kind, count, value), oriented(order, 6)],
                         key=lambda one: struct.unpack(order + "H", one[:2]))  # fmt: skip
        image = decode_image(encode(CORNERS, "JPEG", exif=exif(order, entries)), CONFIG)
        assert image.size == (32, 48), f"{tag:#x} of type {kind}, {count} times, at {value!r}"


@pytest.mark.parametrize("claimed", [2, 100, 65535])
def test_in_a_directory_that_is_cut(claimed: int) -> None:
    image = decode_image(encode(CORNERS, "JPEG", exif=exif("<", [oriented("<", 6)], claimed)), CONFIG)
    assert image.size == (32, 48)


@pytest.mark.parametrize(
    "block",
    [
        exif("<", [oriented("<", 0)]),
        exif("<", [oriented("<", 9)]),
        exif("<", [oriented("<", 65535)]),
        exif("<", [entry("<", 0x0112, 2, 1, b"6")]),
        exif("<", [entry("<", 0x0112, 3, 2, b"\6\0\6\0")]),
        exif("<", []),
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0XX*\0" + bytes(30),
        exif("<", [oriented("<", 6)])[:20],
    ],
)
def test_what_says_nothing_turns_nothing(block: bytes) -> None:
    assert decode_image(encode(CORNERS, "JPEG", exif=block), CONFIG).size == CORNERS.size


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {}/></x:xmpmeta>'


@pytest.mark.parametrize(
    "claimed", ['tiff:Orientation="6"', "tiff:Orientation='6'", "><tiff:Orientation>6</a"]
)
def test_xmp_counts_where_exif_is_silent(claimed: str) -> None:
    packet = XMP.format(claimed)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet)
    for data in (encode(CORNERS, "JPEG", xmp=packet.encode()), encode(CORNERS, "PNG", pnginfo=info)):
        assert decode_image(data, CONFIG).size == (32, 48)
    both = encode(CORNERS, "JPEG", xmp=packet.encode(), exif=exif("<", [oriented("<", 1)]))
    assert decode_image(both, CONFIG).size == CORNERS.size


def test_the_text_that_imagemagick_writes() -> None:
    for hexed, size in ((exif("<", [oriented("<", 6)]).hex(), (32, 48)), ("no hex", CORNERS.size)):
        info = PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n 40\n{hexed}\n")
        assert decode_image(encode(CORNERS, "PNG", pnginfo=info), CONFIG).size == size


def test_nothing_is_left_that_would_turn_it_again() -> None:
    image = decode_image(encode(CORNERS, "PNG", exif=exif("<", [oriented("<", 6)])), CONFIG)
    assert ImageOps.exif_transpose(image).size == upright(image).size == image.size == (32, 48)
