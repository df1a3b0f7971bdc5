from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from got_core.chain.boxes import WHOLE, Box
from got_core.chain.grammar import Boxed, Chain, Text, parse
from got_core.chain.layout import canvases, fill_region
from got_core.chain.palette import PALETTE, palette_color, rgb


def test_pixels_are_floored_and_clipped() -> None:
    assert Box.from_pixels((10, 0, 64, 63.9), 64, 64) == Box(156, 0, 999, 998)
    assert Box.from_pixels((-3, 5, 70, 6), 64, 10) == Box(0, 500, 999, 600)


@pytest.mark.parametrize("size", [64, 100, 333, 1024])
def test_pixel_boxes_survive_the_way_to_chain_units_and_back(size: int) -> None:
    for low in range(0, size - 2, max(1, size // 37)):
        back = Box.from_pixels((low, low + 1, size - 1, size), size, size).to_pixels(size, size)
        assert np.allclose(back, (low, low + 1, size - 1, size), atol=size / 1000)


@pytest.mark.parametrize(
    "bad", [(5, 0, 4, 9), (0, 5, 9, 4), (-1, 0, 5, 5), (0, 0, 1000, 5), (0, 0, 5.0, 5), (0, 0, True, 5)]
)
def test_a_box_refuses_bad_coordinates(bad: tuple) -> None:
    with pytest.raises(ValueError, match=r"box"):
        Box(*bad)


def test_a_box_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size must be positive"):
        Box.from_pixels((0, 0, 1, 1), 0, 64)


def test_iou() -> None:
    a = Box(0, 0, 100, 100)
    assert a.iou(a) == 1
    assert a.iou(Box(50, 0, 150, 100)) == pytest.approx(1 / 3)
    assert a.iou(Box(100, 100, 200, 200)) == 0
    assert Box(5, 5, 5, 5).iou(Box(5, 5, 5, 5)) == 1
    assert Box(5, 5, 5, 5).iou(Box(6, 6, 6, 6)) == 0


def test_palette_colours_are_plainly_distinct_and_none_is_black() -> None:
    values = [(0, 0, 0), *map(rgb, PALETTE)]
    nearest = min(math.dist(a, b) for k, a in enumerate(values) for b in values[:k])
    assert nearest > 75
    assert all(name.isalpha() and name.islower() for name in PALETTE)


def test_palette_wraps_and_unknown_colours_are_refused() -> None:
    assert palette_color(len(PALETTE) + 2) == PALETTE[2]
    with pytest.raises(ValueError, match=r"unknown colour 'reddish'"):
        rgb("reddish")


def test_one_canvas_a_box_filled_in_its_colour() -> None:
    chain = Chain(
        (Text("a cat "), Boxed(Box(156, 0, 312, 999)), Text(" "), Boxed(Box(0, 0, 499, 499), "white"))
    )
    drawn = canvases(chain, 32, 64)
    assert drawn.shape == (2, 32, 64, 3)
    assert drawn.dtype == np.uint8
    expected = np.zeros((32, 64, 3), dtype=np.uint8)
    expected[:, 9:20] = rgb("red")
    assert np.array_equal(drawn[0], expected)
    assert (drawn[1, :16, :32] == 255).all()
    assert drawn[1].sum() == 16 * 32 * 3 * 255


def pil_rectangle(box: Box, width: int, height: int, color: str) -> np.ndarray:
    """What PIL paints with float corners, as the released inference code hands them over."""
    picture = Image.new("RGB", (width, height))
    corners = (box.x1 / 1000 * width, box.y1 / 1000 * height, box.x2 / 1000 * width, box.y2 / 1000 * height)
    ImageDraw.Draw(picture).rectangle(corners, fill=color)
    return np.asarray(picture)


def painted_and_pil(box: Box, width: int, height: int, color: str = "red") -> tuple[np.ndarray, np.ndarray]:
    ours = canvases(Chain((Boxed(box, color),)), height, width)[0]
    return ours, pil_rectangle(box, width, height, color)


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(64, 64, 3000), (96, 160, 2000), (333, 100, 2000), (512, 768, 150), (1024, 1024, 80)],
)
def test_canvases_are_pixel_for_pixel_what_pil_paints(width: int, height: int, count: int) -> None:
    rng = np.random.default_rng(width)
    for number in range(count):
        (x1, x2), (y1, y2) = np.sort(rng.integers(0, 1000, size=(2, 2))).tolist()
        ours, theirs = painted_and_pil(Box(x1, y1, x2, y2), width, height, PALETTE[number % len(PALETTE)])
        assert np.array_equal(ours, theirs), (x1, y1, x2, y2)


@pytest.mark.parametrize("corners", [(0, 0, 0, 0), (500, 3, 500, 999), (999,) * 4, (0, 0, 999, 999)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 1), (64, 64), (1000, 8), (1001, 8), (2048, 8)])
def test_degenerate_and_outermost_boxes_are_painted_as_by_pil(corners: tuple, size: tuple) -> None:
    ours, theirs = painted_and_pil(Box(*corners), *size)
    assert np.array_equal(ours, theirs)
    assert ours.any()


def test_every_number_of_the_box_is_truncated_as_by_pil() -> None:
    for size in (64, 100, 333, 1000, 1024):
        for value in range(1000):
            rows, columns = fill_region(Box(value, 0, value, 0), 1, size)
            drawn = pil_rectangle(Box(value, 0, value, 0), size, 1, "white").any(axis=2)[0]
            assert (rows, np.flatnonzero(drawn).tolist()) == (slice(0, 1), [columns.start])


def test_the_box_of_an_object_covers_it_and_at_most_a_pixel_more_on_each_side() -> None:
    for low, high in [(3, 17), (40, 61), (20, 46), (0, 64), (8, 24)]:
        rows, columns = fill_region(Box.from_pixels((low, low, high, high), 64, 64), 64, 64)
        assert rows == columns
        assert low - 1 <= rows.start <= low and high <= rows.stop <= high + 1


def test_no_box_gives_one_black_canvas_and_a_point_one_pixel() -> None:
    empty = canvases(parse("nothing here"), 16, 24)
    assert empty.shape == (1, 16, 24, 3)
    assert not empty.any()
    assert canvases(Chain((Boxed(Box(999, 999, 999, 999)),)), 8, 8)[0].any(axis=2).sum() == 1
    assert canvases(Chain((Boxed(WHOLE),)), 8, 8)[0].any(axis=2).all()
    with pytest.raises(ValueError, match=r"canvas size"):
        canvases(Chain(()), 0, 8)
    with pytest.raises(ValueError, match=r"canvas size"):
        fill_region(WHOLE, 8, 0)
