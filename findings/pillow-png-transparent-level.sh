#!/bin/sh
# Pillow 12.3.0: the transparent level of a grey PNG is compared unscaled, so pictures of 2, 4 and 16 bits lose their transparency.
#
# Seen: a PNG may name one level as transparent (tRNS chunk). With 8 bits and with 1 bit `convert("RGBA")` makes that level
# transparent. With 2 and 4 bits the pixels are scaled to 0..255 and the level is not; with 16 bits per channel in RGB the
# pixels are halved to 8 bits and the level is not: every pixel comes out opaque, and what was hidden is seen. 16-bit grey
# comes out white and opaque. No warning.
# What helps: read the level from `info["transparency"]`, and compare it before the depth is changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'pillow==12.3.0'
"$folder/venv/bin/python" - "$folder" <<'PY'
import io
import struct
import zlib

from PIL import Image


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def alphas(bits, color_type, level, row):
    """Alpha of two pixels of which the first has the transparent level."""
    header = struct.pack(">IIBBBBB", 2, 1, bits, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", level), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    return [image.getpixel((x, 0))[3] for x in (0, 1)]


GREY, RGB = 0, 2
seen = {
    "grey, 1 bit": alphas(1, GREY, struct.pack(">H", 1), bytes([0b10000000])),
    "grey, 2 bits": alphas(2, GREY, struct.pack(">H", 1), bytes([0b01100000])),
    "grey, 4 bits": alphas(4, GREY, struct.pack(">H", 5), bytes([0x59])),
    "grey, 8 bits": alphas(8, GREY, struct.pack(">H", 5), bytes([5, 9])),
    "grey, 16 bits": alphas(16, GREY, struct.pack(">H", 5000), struct.pack(">HH", 5000, 60000)),
    "RGB, 16 bits": alphas(16, RGB, struct.pack(">HHH", *[5000] * 3), struct.pack(">HHHHHH", *[5000] * 3, *[60000] * 3)),
}
for name, found in seen.items():
    print(f"{name}: alpha of the transparent pixel {found[0]}, of the other {found[1]}")
lost = ("grey, 2 bits", "grey, 4 bits", "grey, 16 bits", "RGB, 16 bits")
assert all(found == ([255, 255] if name in lost else [0, 255]) for name, found in seen.items())
print("as described")
PY
