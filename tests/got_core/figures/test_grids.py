"""Grids and previews."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from got_core.figures.grids import (
    RIGHT,
    WRONG,
    GridItem,
    image_markdown,
    picture_grid,
    with_boxes,
)


def noise(size: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def test_planned_boxes_are_drawn_where_the_fractions_say() -> None:
    black = Image.new("RGB", (10, 10))
    shown = np.asarray(with_boxes(black, [((0.25, 0.5, 0.75, 1.0), "lime")], side=101))
    ys, xs = np.nonzero((shown == (0, 255, 0)).all(axis=2))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (25, 75, 50, 100)
    assert not np.asarray(black).any(), "the picture itself must stay as it was"


def test_degenerate_boxes_do_not_break_a_grid() -> None:
    with_boxes(noise(), [((0.5, 0.5, 0.5, 0.5), "red"), ((0.999, 0.999, 0.999, 0.999), "blue")], side=96)


def test_frame_tells_right_from_wrong_and_captions_are_drawn() -> None:
    items = [GridItem(noise(), "right one", correct=True), GridItem(noise(), "", correct=False)]
    grid = np.asarray(picture_grid(items, columns=2, side=80))
    assert tuple(grid[6, 40]) == RIGHT
    assert tuple(grid[6, grid.shape[1] // 2 + 40]) == WRONG
    text = grid[88:, : grid.shape[1] // 2]
    assert (text < 100).any(), "a caption"
    assert not (grid[88:, grid.shape[1] // 2 :] < 100).any(), "no caption"


def test_rows_and_empty_grid() -> None:
    one = picture_grid([GridItem(noise())], columns=3)
    five = picture_grid([GridItem(noise())] * 5, columns=3)
    assert five.size == (3 * one.width, 2 * one.height)
    with pytest.raises(ValueError, match="at least one"):
        picture_grid([])


def test_markdown_stays_below_its_limit_and_is_a_picture() -> None:
    grid = picture_grid([GridItem(noise(128, k)) for k in range(40)], columns=8)
    text = image_markdown(grid, max_bytes=20_000)
    assert len(text) <= 20_000
    start = text.index("base64,") + len("base64,")
    shown = Image.open(io.BytesIO(base64.b64decode(text[start:-1])))
    assert shown.width >= 16
    with pytest.raises(ValueError, match="does not fit"):
        image_markdown(noise(), max_bytes=100)
