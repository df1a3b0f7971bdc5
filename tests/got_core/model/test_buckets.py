"""Aspect buckets have one area, and every picture has one that is hardly of another aspect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from got_core.model.buckets import bucket_sizes, nearest_bucket


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


@given(st.integers(100, 5000), st.integers(100, 5000))
def test_inside_of_their_range_buckets_stretch_a_picture_by_a_few_percent(width: int, height: int) -> None:
    sizes = bucket_sizes(1024, 64)
    w, h = sizes[nearest_bucket((width, height), sizes)]
    stretch = max(w * height / (h * width), h * width / (w * height))
    widest = max(a / b for a, b in sizes)
    if 1 / widest <= width / height <= widest:
        assert stretch < 1.08
    assert (w - h) * (width - height) >= 0, "a tall picture is never drawn wide"
