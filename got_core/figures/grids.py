"""Pictures of results: a grid with planned boxes drawn on, and small previews that fit into metadata.

Belongs here: composing PIL images. Not here: judging them, or loss curves. Needs PIL only.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

RIGHT, WRONG, PLAIN = (38, 138, 74), (196, 48, 43), (150, 150, 150)
INK, PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class GridItem:
    """One picture of a grid."""

    image: Image.Image
    caption: str = ""
    boxes: tuple[tuple[tuple[float, float, float, float], str], ...] = ()
    """Boxes with their PIL colour name, as fractions of width and height: (x1, y1, x2, y2) in [0, 1]."""

    correct: bool | None = None
    """Colours the frame: green, red, or grey if not judged."""

    note: str = ""
    """A word below the caption, such as `drawn wrong`."""


def picture_grid(items: Sequence[GridItem], *, columns: int = 6, side: int = 160) -> Image.Image:
    """Lay the items out row by row: each picture scaled into a square of `side` px, boxes over it, text
    below.

    Raises ValueError for an empty list.
    """
    if not items:
        raise ValueError("a picture grid needs at least one picture")
    columns = min(columns, len(items))
    font = ImageFont.load_default(size=max(9, side // 14))
    cells = [_cell(item, side, font) for item in items]
    width, height = cells[0].width, max(cell.height for cell in cells)
    rows = -(-len(cells) // columns)
    grid = Image.new("RGB", (columns * width, rows * height), PAPER)
    for index, cell in enumerate(cells):
        grid.paste(cell, ((index % columns) * width, (index // columns) * height))
    return grid


def _cell(item: GridItem, side: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Image.Image:
    margin, frame, line = 6, 3, int(max(9, side // 14) * 1.25)
    inner = side - 2 * frame
    cell = Image.new("RGB", (side + 2 * margin, side + 2 * margin + 4 * line), PAPER)
    draw = ImageDraw.Draw(cell)
    outline = PLAIN if item.correct is None else RIGHT if item.correct else WRONG
    draw.rectangle((margin, margin, margin + side - 1, margin + side - 1), outline=outline, width=frame)
    cell.paste(with_boxes(item.image, item.boxes, inner), (margin + frame, margin + frame))
    letters = max(8, int(side / (max(9, side // 14) * 0.53)))
    lines = textwrap.wrap(item.caption, letters)[:3]
    for row, text in enumerate(lines):
        draw.text((margin, margin + side + 2 + row * line), text, fill=INK, font=font)
    if item.note:
        draw.text((margin, margin + side + 2 + len(lines) * line), item.note, fill=outline, font=font)
    return cell


def with_boxes(
    image: Image.Image,
    boxes: Sequence[tuple[tuple[float, float, float, float], str]],
    side: int | None = None,
) -> Image.Image:
    """A copy of the picture, scaled to fit `side` px if given, with boxes outlined in their own colours.

    Boxes are fractions of width and height. A dark line around each coloured one keeps it visible anywhere.
    """
    shown = image.convert("RGB")
    if side is not None:
        scale = side / max(shown.size)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        shown = shown.resize(size, Image.Resampling.LANCZOS)
        square = Image.new("RGB", (side, side), PAPER)
        square.paste(shown, (0, 0))
    else:
        size, square = shown.size, shown.copy()
    draw = ImageDraw.Draw(square)
    for (x1, y1, x2, y2), color in boxes:
        left, top = round(x1 * (size[0] - 1)), round(y1 * (size[1] - 1))
        right, bottom = round(x2 * (size[0] - 1)), round(y2 * (size[1] - 1))
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK)
        draw.rectangle((left, top, right, bottom), outline=color, width=2)
    return square


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def image_markdown(image: Image.Image, *, alt: str = "pictures", max_bytes: int = 60_000) -> str:
    """A markdown image with the picture inside as a data URI, at most `max_bytes` characters long.

    PNG if that fits, else JPEG at falling quality, then at falling size. Raises ValueError if even a picture
    of 16 px does not fit.
    """
    shown = image.convert("RGB")
    while max(shown.size) >= 16:
        for mime, data in _encodings(shown):
            text = f"![{alt}](data:image/{mime};base64,{base64.b64encode(data).decode()})"
            if len(text) <= max_bytes:
                return text
        shown = shown.resize((max(1, shown.width * 3 // 4), max(1, shown.height * 3 // 4)))
    raise ValueError(f"a picture does not fit into {max_bytes} characters of markdown; allow more")


def _encodings(image: Image.Image):
    yield "png", png_bytes(image)
    for quality in (88, 75, 60):
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        yield "jpeg", buffer.getvalue()
