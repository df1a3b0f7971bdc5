"""Files of the kinds that are read wrongly where only `Image.open(...).convert("RGB")` is called."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tests.got_core.pictures import icc

SIDE = 64
LEFT, RIGHT = (200, 30, 30), (30, 30, 200)


def halves(mode: str = "RGB", size: tuple[int, int] = (SIDE, 48)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, LEFT)
    image.paste(RIGHT, (size[0] // 2, 0, *size))
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def entry(order: str, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """One entry of an EXIF directory."""
    return struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")[:4]


def oriented(order: str, value: int, kind: int = 3) -> bytes:
    """The entry that says which way up."""
    return entry(order, 0x0112, kind, 1, struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], value))


def exif(order: str, entries: Sequence[bytes], claimed: int | None = None) -> bytes:
    """An EXIF block of these entries; `claimed`: their number as it stands there."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + "H", len(entries) if claimed is None else claimed)
    return b"Exif\0\0" + head + count + b"".join(entries) + bytes(4)


def png(bits: int, colour: int, rows: Sequence[bytes], width: int, **chunks: bytes) -> bytes:
    """A PNG of any depth and colour type, chunks before its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *((name.encode(), data) for name, data in chunks.items())]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def files() -> dict[str, bytes]:
    """Awkward files by what is awkward about them."""
    clear = halves("RGBA")
    clear.paste((0, 0, 0, 0), (8, 8, 40, 40))
    deep = np.linspace(0, 65535, SIDE * 48).reshape(48, SIDE).astype(np.uint16)
    adobe, turned = icc.rgb_profile(icc.ADOBE, 563 / 256), exif("<", [oriented("<", 6)])
    broken = exif(">", [entry(">", 0x010E, 2, 2**31, b"\xff" * 4), oriented(">", 8)])
    return {
        "turned": encode(halves(), "JPEG", quality=95, exif=turned),
        "turned beside a broken tag": encode(halves(), "JPEG", quality=95, exif=broken),
        "turned webp": encode(halves(), "WEBP", lossless=True, exif=turned),
        "turned png": encode(clear, "PNG", exif=turned),
        "rgba": encode(clear, "PNG"),
        "la": encode(clear.convert("LA"), "PNG"),
        "transparent palette": encode(clear.quantize(16), "PNG"),
        "transparent colour": encode(halves(), "PNG", transparency=LEFT),
        "sixteen bits": encode(Image.fromarray(deep), "PNG"),
        "one bit": encode(halves("1"), "PNG"),
        "cmyk": encode(halves("CMYK"), "JPEG", quality=95),
        "cmyk with a profile": encode(halves("CMYK"), "JPEG", quality=95, icc_profile=icc.cmyk_profile()),
        "adobe rgb": encode(halves(), "JPEG", quality=95, icc_profile=adobe),
        "adobe rgb with alpha": encode(clear, "PNG", icc_profile=adobe),
        "grey with a profile": encode(halves("L"), "PNG", icc_profile=icc.grey_profile(1.0)),
        "animated": encode(halves(), "WEBP", lossless=True, save_all=True, append_images=[clear]),
    }
