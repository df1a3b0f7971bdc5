from __future__ import annotations

import math

import numpy as np
import pytest

from got_core.chain.boxes import WHOLE, Box
from got_core.chain.grammar import Boxed, Chain, Text, parse
from got_core.chain.layout import canvases
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
    expected[:, 10:20] = rgb("red")
    assert np.array_equal(drawn[0], expected)
    assert (drawn[1, :16, :32] == 255).all()
    assert drawn[1].sum() == 16 * 32 * 3 * 255


def test_pixel_boxes_are_filled_exactly() -> None:
    for low, high in [(3, 17), (40, 61), (20, 46), (0, 64)]:
        drawn = canvases(Chain((Boxed(Box.from_pixels((low, low, high, high), 64, 64)),)), 64, 64)[0]
        assert drawn.any(axis=(1, 2)).sum() == high - low
        assert drawn[low, low].any() and drawn[high - 1, high - 1].any()


def test_no_box_gives_one_black_canvas_and_a_point_one_pixel() -> None:
    empty = canvases(parse("nothing here"), 16, 24)
    assert empty.shape == (1, 16, 24, 3)
    assert not empty.any()
    assert canvases(Chain((Boxed(Box(999, 999, 999, 999)),)), 8, 8)[0].any(axis=2).sum() == 1
    assert canvases(Chain((Boxed(WHOLE),)), 8, 8)[0].any(axis=2).all()
    with pytest.raises(ValueError, match=r"canvas size"):
        canvases(Chain(()), 0, 8)
