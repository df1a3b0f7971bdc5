"""Pictures in rows and columns that say what they are.

Belongs here: composing PIL images. Not here: what the rows and columns mean.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from got_core.figures.grids import INK, PAPER, PLAIN, RIGHT, WRONG, GridItem, with_boxes

_GAP, _FRAME = 4, 3


def labelled_grid(
    rows: Sequence[Sequence[GridItem]],
    *,
    title: str,
    columns: Sequence[str],
    lines: Sequence[str],
    side: int = 192,
) -> Image.Image:
    """Pictures under the labels of their columns and beside those of their lines, a title above all.

    Each is scaled into a square of `side` pixels with its boxes over it; the frame is green, red, or grey
    where there is no verdict. Raises ValueError where labels and pictures do not match, or there are none.
    """
    if not rows or not columns or len(rows) != len(lines) or {len(row) for row in rows} != {len(columns)}:
        shape = [len(row) for row in rows]
        raise ValueError(f"{len(lines)} lines of {len(columns)} columns need as many pictures, got {shape}")
    font = ImageFont.load_default(size=max(11, side // 14))
    height = int(font.size * 1.3)  # type: ignore[union-attr]  # a size was asked for
    left = max(int(font.getlength(text)) for text in lines) + 3 * _GAP
    cell = side + _GAP
    above = textwrap.wrap(title, max(20, int((left + cell * len(columns)) / (font.size * 0.55))))[:3]  # type: ignore[union-attr]
    top = (len(above) + 1) * height + 2 * _GAP
    sheet = Image.new("RGB", (left + cell * len(columns), top + cell * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, text in enumerate(above):
        draw.text((_GAP, _GAP + number * height), text, fill=INK, font=font)
    for number, text in enumerate(columns):
        middle = left + number * cell + side // 2
        draw.text((middle, top - height), text, fill=INK, font=font, anchor="ma")
    for number, (text, row) in enumerate(zip(lines, rows, strict=True)):
        draw.text((left - 2 * _GAP, top + number * cell + side // 2), text, fill=INK, font=font, anchor="rm")
        for place, item in enumerate(row):
            sheet.paste(_framed(item, side), (left + place * cell, top + number * cell))
    return sheet


def _framed(item: GridItem, side: int) -> Image.Image:
    frame = PLAIN if item.correct is None else RIGHT if item.correct else WRONG
    square = Image.new("RGB", (side, side), frame)
    square.paste(with_boxes(item.image, item.boxes, side - 2 * _FRAME), (_FRAME, _FRAME))
    return square
