"""Geometry: boxes follow the pixels, what is cut away leaves words only, buckets have one area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from got_core.chain.boxes import WHOLE, Box
from got_core.chain.grammar import parse
from got_core.train.data.geometry import Placement, bucket_sizes, covering, nearest_bucket, stretched

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


def test_what_is_cut_away_stays_as_words() -> None:
    left_half = Placement((200, 100), (128, 64), (0, 0), (64, 64))
    chain = parse(
        "a red circle (0,0),(250,999) , a blue cross (600,0),(900,500) and a dog (400,0),(600,999) here"
    )
    moved = left_half.chain(chain)
    assert moved.to_data() == "a red circle (0,0),(500,999) , a blue cross and a dog (800,0),(999,999) here"
    assert [placed.phrase for placed in moved.boxes] == ["a red circle", "a dog"]
    assert not left_half.keeps(chain)
    assert left_half.keeps(parse("a red circle (0,0),(250,999) and a dog (499,0),(600,999)"))


def test_a_lone_box_that_is_cut_away_leaves_a_clean_sentence() -> None:
    left_half = Placement((200, 100), (128, 64), (0, 0), (64, 64))
    assert left_half.chain(parse("a red circle (600,0),(900,500).")).to_data() == "a red circle."
    assert left_half.chain(parse("a red circle (600,0),(900,500)")).to_data() == "a red circle"


def test_size_numbers_are_height_first() -> None:
    place = covering((200, 100), (64, 64), across=1.0)
    assert place.time_ids() == (100, 200, 0, 64, 64, 64)
    assert stretched((200, 100), (64, 48)).time_ids() == (100, 200, 0, 0, 48, 64)


def test_buckets_have_one_area_both_ways_round() -> None:
    sizes = bucket_sizes(1024, 64)
    assert (1024, 1024) in sizes
    assert {(h, w) for w, h in sizes} == set(sizes)
    assert all(w % 64 == h % 64 == 0 and 0.5 <= w / h <= 2 for w, h in sizes)
    assert all(abs(w * h / 1024**2 - 1) < 0.07 for w, h in sizes)
    assert sizes[nearest_bucket((3000, 3010), sizes)] == (1024, 1024)
    assert sizes[nearest_bucket((4000, 2200), sizes)] == (1408, 768)
    with pytest.raises(ValueError, match="bucket_multiple 48"):
        bucket_sizes(1024, 48)
