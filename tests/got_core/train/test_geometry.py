"""Geometry: boxes follow the pixels, and a crop keeps something of each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from got_core.chain.boxes import WHOLE, Box
from got_core.chain.grammar import Chain, parse
from got_core.train.data.geometry import Placement, covering, keeping, stretched

SIZES = st.tuples(st.integers(24, 90), st.integers(24, 90))
SHARES = st.floats(0, 1)


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """A picture's size and a rectangle in it, in pixels, right and bottom exclusive."""
    width, height = draw(SIZES)
    x1, y1 = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    return (width, height), (x1, y1, draw(st.integers(x1 + 8, width)), draw(st.integers(y1 + 8, height)))


@settings(max_examples=150, deadline=None)
@given(rectangles(), SIZES, SHARES, SHARES, st.booleans())
def test_a_painted_rectangle_lies_where_its_moved_box_says(scene, frame, across, down, cut: bool) -> None:
    size, rectangle = scene
    place = covering(size, frame, across, down) if cut else stretched(size, frame)
    picture = Image.new("RGB", size)
    picture.paste((255, 255, 255), rectangle)
    pixels = place.window(place.resize(picture))[..., 0]
    assert pixels.shape == (frame[1], frame[0])
    box = place.box(Box.from_pixels(rectangle, *size))
    rows, columns = np.nonzero(pixels > 128)
    if box is None:
        assert not len(rows)
        return
    x1, y1, x2, y2 = box.to_pixels(*frame)
    if len(rows):
        # Bicubic edges and the rounding of the first box to 1/1000 move an edge by about a pixel, not more.
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        slack = 1.5 * max(1.0, place.resized[0] / size[0], place.resized[1] / size[1])
        assert np.abs(np.subtract(found, (x1, y1, x2, y2))).max() <= slack
    else:
        assert min(x2 - x1, y2 - y1) <= 2


@given(st.tuples(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.integers(0, 999)), SIZES)
def test_an_uncut_picture_keeps_every_coordinate(corners, size) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    box = Box(x1, y1, x2, y2)
    assert stretched(size, (64, 48)).box(box) == box
    assert covering(size, size).box(box) == box


@given(SIZES, SIZES, SHARES, SHARES)
def test_the_whole_frame_stays_whole_and_the_window_inside(size, frame, across, down) -> None:
    place = covering(size, frame, across, down)
    assert place.box(WHOLE) == WHOLE
    for corner, inner, outer in zip(place.corner, place.size, place.resized, strict=True):
        assert 0 <= corner <= outer - inner
    shape, wanted = place.resized[0] / place.resized[1], size[0] / size[1]
    assert shape == pytest.approx(wanted, rel=1.1 / min(place.resized))


def test_a_box_up_to_the_edge_stays_at_the_edge() -> None:
    assert covering((400, 100), (64, 64), across=1.0).box(WHOLE) == WHOLE


LEFT_HALF = Placement((200, 100), (128, 64), (0, 0), (64, 64))


def test_words_stay_and_boxes_move_along() -> None:
    chain = parse("a red circle (0,0),(250,999) and a dog (400,0),(600,999) here.")
    moved = LEFT_HALF.chain(chain)
    assert moved.to_data() == "a red circle (0,0),(500,999) and a dog (800,0),(999,999) here."
    with pytest.raises(ValueError, match=r"the box \(600,0\),\(900,500\) lies outside"):
        LEFT_HALF.chain(parse("a cross (600,0),(900,500)"))


def chain_of(boxes: list[Box]) -> Chain:
    return parse(" and ".join(f"a dog {box}" for box in boxes))


def share_inside(box: Box, place: Placement, axis: int) -> Fraction:
    """Share of the box's side that the window shows, or of the window that the box fills if that is more."""
    low, high = ((box.x1, box.x2), (box.y1, box.y2))[axis]
    resized, size, corner = place.resized[axis], place.size[axis], place.corner[axis]
    start, end = Fraction(low * resized, 1000), Fraction((1000 if high == 999 else high) * resized, 1000)
    inside = min(end, Fraction(corner + size)) - max(start, Fraction(corner))
    if start == end:
        return Fraction(int(inside >= 0))
    return max(inside / (end - start), Fraction(1, 5) if inside == size else Fraction(0))


def keeps_all(boxes: list[Box], place: Placement) -> bool:
    return all(share_inside(box, place, axis) >= Fraction(1, 5) for box in boxes for axis in (0, 1))


@st.composite
def boxes_of_chains(draw: st.DrawFn) -> list[Box]:
    side = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted)
    sides = draw(st.lists(st.tuples(side, side), max_size=4))
    return [Box(x[0], y[0], x[1], y[1]) for x, y in sides]


@settings(max_examples=300, deadline=None)
@given(boxes_of_chains(), st.tuples(st.integers(8, 240), st.integers(8, 240)), SIZES, SHARES, SHARES)
def test_a_window_moves_to_the_nearest_place_that_keeps_something_of_every_box(
    boxes, size, frame, across, down
) -> None:
    drawn, chain = covering(size, frame, across, down), chain_of(boxes)
    room = [outer - inner for outer, inner in zip(drawn.resized, frame, strict=True)]
    assert min(room) == 0, "a covering window has room along one axis alone"
    places = [replace(drawn, corner=(x, y)) for x in range(room[0] + 1) for y in range(room[1] + 1)]
    good = [place for place in places if keeps_all(boxes, place)]
    kept = keeping(drawn, chain)
    assert (kept is None) == (not good)
    if kept is None:
        return
    assert kept in good

    def moved(place: Placement) -> int:
        return sum(abs(a - b) for a, b in zip(place.corner, drawn.corner, strict=True))

    assert moved(kept) == min(map(moved, good))
    assert len(kept.chain(chain).boxes) == len(boxes)
    assert keeping(kept, chain) == kept


@given(boxes_of_chains(), SIZES, SIZES)
def test_a_whole_picture_keeps_every_box_as_it_is(boxes, size, frame) -> None:
    chain = chain_of(boxes)
    assert keeping(stretched(size, frame), chain) == stretched(size, frame)
    assert stretched(size, frame).chain(chain) == chain


@pytest.mark.parametrize(
    ("boxes", "left"),
    [
        ("a dog (800,0),(999,999)", 152),  # from 204.8: a fifth of its 51.2 pixels reaches to 215.04
        ("a dog (200,0),(300,999)", 64),  # where the window lay
        ("a dog (0,0),(100,999)", 20),
        ("a dog (100,0),(200,999) and a cat (350,0),(450,999)", 46),
        ("a dog (100,0),(200,999) and a cat (500,0),(600,999)", None),
        ("a dog (0,0),(100,999) and a cat (900,0),(999,999)", None),
        ("a wall (0,0),(999,999)", 64),
        ("a dog (0,0),(100,999) on a wall (0,0),(999,999)", 20),
    ],
)
def test_windows_worked_out_by_hand(boxes: str, left: int | None) -> None:
    quarter = Placement((400, 100), (256, 64), (64, 0), (64, 64))
    kept = keeping(quarter, parse(boxes))
    assert (kept and kept.corner) == (None if left is None else (left, 0))


def test_size_numbers_are_height_first() -> None:
    place = covering((200, 100), (64, 64), across=1.0)
    assert place.time_ids() == (100, 200, 0, 64, 64, 64)
    assert stretched((200, 100), (64, 48)).time_ids() == (100, 200, 0, 0, 48, 64)
