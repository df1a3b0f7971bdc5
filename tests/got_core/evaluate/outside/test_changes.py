"""Two pictures outside a region: figures, regions, sizes, heat maps."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from got_core.chain.grammar import parse
from got_core.evaluate.edit_rules import change_outside
from got_core.evaluate.outside import regions
from got_core.evaluate.outside.changes import NothingOutsideError, OutsideRules, outside_change
from got_core.evaluate.outside.heat import png
from got_core.evaluate.outside.likeness import ssim_map
from tests.got_core.evaluate.emu_edit.made import picture
from tests.got_core.evaluate.outside.reason_edit_set import BOX, SIZE, soft_mask

NOISE = OutsideRules(margin=0)


def painted(image: Image.Image, box: tuple[int, int, int, int], levels: int) -> Image.Image:
    """With so many levels more in a box."""
    made = np.asarray(image).copy()
    made[box[1] : box[3], box[0] : box[2]] += np.uint8(levels)
    return Image.fromarray(made)


@pytest.fixture
def source() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 200, (SIZE[1], SIZE[0], 3)).astype(np.uint8))


def test_figures_by_hand(source: Image.Image) -> None:
    edited = painted(painted(source, (0, 0, 10, 10), 40), (40, 40, 80, 60), 50)
    change = outside_change(source, edited, boxes=[(40, 40, 80, 60)], rules=NOISE)
    outside = SIZE[0] * SIZE[1] - 40 * 20
    assert change.mean_levels == pytest.approx(100 * 40 / outside, rel=1e-6)
    assert change.share_changed == 100 / outside and change.inside_levels == pytest.approx(50)
    error = 100 * (40 / 255) ** 2 / outside
    assert change.psnr == pytest.approx(10 * np.log10(1 / error)) and not change.unchanged
    assert change.area == outside / (SIZE[0] * SIZE[1]) and not change.resized


def test_the_mean_is_that_of_the_rules_of_scenes(source: Image.Image) -> None:
    edited = Image.fromarray(
        np.asarray(source) + np.random.default_rng(1).integers(0, 9, (*SIZE[::-1], 3), np.uint8)
    )
    boxes = [(3.4, 5.0, 30.2, 40.9), (60.0, 50.0, 96.0, 80.0)]
    found = outside_change(source, edited, boxes=boxes, margin=2)
    assert found.mean_levels == pytest.approx(change_outside(source, edited, boxes, 2), rel=1e-6)


def test_what_happens_inside_never_counts(source: Image.Image) -> None:
    edited = painted(source, (0, 0, 20, 20), 30)
    one = outside_change(source, edited, boxes=[(40, 40, 80, 60)], rules=NOISE)
    other = outside_change(
        source, painted(edited, (40, 40, 80, 60), 55), boxes=[(40, 40, 80, 60)], rules=NOISE
    )
    figures = ("mean_levels", "share_changed", "psnr", "ssim")
    assert [getattr(one, name) for name in figures] == [getattr(other, name) for name in figures]


def test_ssim_is_the_mean_over_windows_outside(source: Image.Image) -> None:
    edited = painted(source, (70, 0, 96, 80), 30)
    found = outside_change(source, edited, boxes=[(0, 0, 40, 80)], rules=NOISE).ssim
    whole = ssim_map(np.asarray(source) / 255, np.asarray(edited) / 255)
    assert found == pytest.approx(whole[:, 40:].mean()) and found < 1
    narrow = outside_change(source, edited, boxes=[(0, 0, 90, 80)], rules=NOISE)
    assert narrow.ssim is None and narrow.psnr is not None, "no window has room"


def test_an_unchanged_outside(source: Image.Image) -> None:
    change = outside_change(source, painted(source, (40, 40, 80, 60), 50), boxes=[(40, 40, 80, 60)])
    assert change.unchanged and change.psnr is None and change.ssim == 1
    assert change.mean_levels == change.share_changed == 0
    assert outside_change(source, source, boxes=[(0, 0, 90, 80)], rules=NOISE).ssim is None


def test_margin(source: Image.Image) -> None:
    edited = painted(source, (38, 38, 82, 62), 50)
    assert outside_change(source, edited, boxes=[(40, 40, 80, 60)]).unchanged, "96 / 64 pixels, rounded"
    assert outside_change(source, edited, boxes=[(40, 40, 80, 60)], margin=2).unchanged
    assert not outside_change(source, edited, boxes=[(40, 40, 80, 60)], margin=1).unchanged


def test_plans_and_masks_are_the_same_regions_as_boxes(source: Image.Image) -> None:
    chain = parse("1. a dog (250,250),(750,750)")
    planned = outside_change(source, source, chain=chain, rules=NOISE).inside
    assert planned[20:60, 24:72].all() and not planned[:19].any() and not planned[:, 74:].any()
    mask = regions.read_mask(soft_mask())
    assert np.array_equal(mask, regions.of_boxes([BOX], SIZE[1], SIZE[0], 0)), "JPEG's softness is gone"
    wider = outside_change(source, source, mask=mask, margin=3).inside
    assert np.array_equal(wider, regions.of_boxes([BOX], SIZE[1], SIZE[0], 3))
    twice = np.kron(mask, np.ones((2, 2), bool))
    assert np.array_equal(outside_change(source, source, mask=twice, margin=3).inside, wider)
    with pytest.raises(ValueError, match="give boxes, a chain or a mask"):
        outside_change(source, source)


def test_sizes(source: Image.Image) -> None:
    larger = source.resize((192, 160), Image.Resampling.BICUBIC)
    change = outside_change(source, larger, boxes=[(0, 0, 9, 9)])
    assert change.resized and change.levels.shape == (80, 96)
    small = OutsideRules(most_pixels=1200, margin=0)
    shrunk = outside_change(source, source, boxes=[(48, 40, 96, 80)], rules=small)
    assert shrunk.levels.shape == (31, 37) and shrunk.area == pytest.approx(0.75, abs=0.03)


def test_a_region_without_an_outside(source: Image.Image) -> None:
    with pytest.raises(NothingOutsideError, match=r"all but 0\.0% of the picture lies inside"):
        outside_change(source, source, boxes=[(0, 0, 96, 80)])


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def test_masks_with_an_alpha_channel_are_transparent_where_to_edit(source: Image.Image) -> None:
    alpha = Image.fromarray(np.where(regions.of_boxes([BOX], 80, 96, 0), 0, 255).astype(np.uint8))
    picture_with = source.copy()
    picture_with.putalpha(alpha)
    assert np.array_equal(regions.read_mask(file_of(picture_with)), regions.of_boxes([BOX], 80, 96, 0))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot be read: it is none of PNG"),
        (b"<html>", "cannot be read: it is none of PNG"),
        (file_of(picture(1)), "marks nothing|coloured picture"),
        (file_of(Image.new("L", (8, 8), 100)), "marks nothing"),
        (file_of(Image.new("RGB", (8, 8), (255, 0, 0))), "coloured picture without an alpha channel"),
    ],
)
def test_what_is_no_mask(data: bytes, says: str) -> None:
    with pytest.raises(regions.NoRegionError, match=says):
        regions.read_mask(data)


def test_heat_maps_show_where(source: Image.Image) -> None:
    edited = painted(source, (0, 0, 20, 20), 55)
    shown = np.asarray(outside_change(source, edited, boxes=[(40, 40, 80, 60)], rules=NOISE).heat(), int)
    hot, cold = shown[5:15, 5:15], shown[65:75, 5:35]
    assert (hot[..., 0] - hot[..., 2]).mean() > 80, "warm colours where it changed"
    assert np.abs(cold[..., 0] - cold[..., 2]).max() < 30 and shown[45:55, 45:75].std(axis=-1).max() == 0
    assert tuple(shown[40, 60]) == (90, 200, 250), "the region has an edge"
    large = outside_change(source.resize((960, 800)), edited, boxes=[(0, 0, 5, 5)])
    assert large.heat().size == (384, 320) and png(large.heat())[:4] == b"\x89PNG"
