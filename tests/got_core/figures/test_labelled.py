"""Pictures under labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from got_core.figures.grids import RIGHT, WRONG, GridItem
from got_core.figures.labelled import labelled_grid

COLOURS = ("blue", "yellow", "cyan", "magenta")


def test_each_picture_stands_in_its_row_and_column_with_its_frame() -> None:
    items = [GridItem(Image.new("RGB", (8, 8), one), correct=k % 2 == 0) for k, one in enumerate(COLOURS)]
    made = labelled_grid(
        [items[:2], items[2:]], title="a prompt " * 30, columns=["text 1", "text 4"],
        lines=["spatial 1", "spatial 2"], side=64,
    )  # fmt: skip
    levels = np.asarray(made)
    top, left = levels.shape[0] - 2 * 68, levels.shape[1] - 2 * 68
    for k, name in enumerate(COLOURS):
        row, column = top + (k // 2) * 68, left + (k % 2) * 68
        assert tuple(levels[row + 32, column + 32]) == Image.new("RGB", (1, 1), name).getpixel((0, 0))
        assert tuple(levels[row, column]) == (RIGHT if k % 2 == 0 else WRONG)
    assert (levels[:top] < 200).any() and (levels[top:, :left] < 200).any(), "title and labels are written"


def test_labels_have_to_match() -> None:
    item = GridItem(Image.new("RGB", (8, 8)))
    for rows, lines in (([], []), ([[item]], ["a", "b"]), ([[item, item], [item]], ["a", "b"])):
        with pytest.raises(ValueError, match="need as many pictures"):
            labelled_grid(rows, title="", columns=["x", "y"], lines=lines)
