from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFilter

from got_core.scenes.corpus import TRUTH, reader_accuracy
from got_core.scenes.reader import NotASceneError, read, read_scene
from got_core.scenes.render import render
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import FULL, NARROW, RGB, TONES, Background, Scene, SceneObject, World


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Image.open(buffer)


def _worn(image: Image.Image) -> Image.Image:
    """About what a small VAE does: slight blur, noise at 34 dB."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.6)), dtype=float)
    noise = np.random.default_rng(0).normal(0, 255 * 10 ** (-34 / 20), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "png": lambda image: image,
    "jpeg90": lambda image: _jpeg(image, 90),
    "jpeg85": lambda image: _jpeg(image, 85),
    "worn": _worn,
}


def _truth(scenes: list[Scene]) -> pl.DataFrame:
    rows = [
        {
            "image_id": str(k),
            "path": str(k),
            "kind": "image",
            "style": "",
            "background": scene.background.tone,
            "size": scene.size,
            "objects": [
                {"shape": o.shape, "color": o.color, "x1": o.x1, "y1": o.y1, "x2": o.x2, "y2": o.y2}
                for o in scene.objects
            ],
        }
        for k, scene in enumerate(scenes)
    ]
    return pl.DataFrame(rows, schema=TRUTH)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_reads_shape_colour_count_and_boxes(world: World, view: str) -> None:
    rng = np.random.default_rng(20)
    scenes = [sample_scene(world, rng, "mixed" if k % 2 else None) for k in range(120)]
    images = ((str(k), VIEWS[view](render(scene))) for k, scene in enumerate(scenes))
    figures = reader_accuracy(_truth(scenes), images)
    assert figures["images"] == 120 and figures["refused"] == 0
    assert min(figures["shape"], figures["color"], figures["count"]) >= 0.99
    assert figures["box_iou"] >= 0.98


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_reads_the_background(world: World) -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        scene = sample_scene(world, rng)
        assert read(render(scene)).background == scene.background.tone


def _touching() -> Iterator[tuple[str, str, str]]:
    for a, b in permutations(("red", "orange", "yellow", "green", "blue", "purple"), 2):
        yield a, b, list(TONES)[(len(a) + len(b)) % 3]


@pytest.mark.parametrize("view", ["png", "worn"])
def test_touching_objects_of_unlike_colours_are_two(view: str) -> None:
    for a, b, tone in _touching():
        left = SceneObject("square", a, 8, 20, 30, 42, RGB[a])
        right = SceneObject("circle", b, 30, 22, 50, 42, RGB[b])
        found = read_scene(VIEWS[view](render(Scene((left, right), Background(tone, TONES[tone]), 64))))
        assert [(o.shape, o.color) for o in found] == [("square", a), ("circle", b)]


def test_a_blurred_gap_between_objects_of_one_colour_stays_a_gap() -> None:
    left = SceneObject("square", "yellow", 6, 23, 26, 43, RGB["yellow"])
    right = SceneObject("square", "yellow", 29, 20, 47, 38, RGB["yellow"])
    image = render(Scene((left, right), Background("black", 36), 64)).filter(ImageFilter.GaussianBlur(1))
    assert len(read_scene(image)) == 2


def test_masks_scores_and_order() -> None:
    scene = Scene(
        (
            SceneObject("circle", "red", 40, 10, 56, 26, RGB["red"]),
            SceneObject("cross", "blue", 5, 30, 23, 48, RGB["blue"]),
        ),
        Background("white", 236),
        64,
    )
    cross, circle = read_scene(render(scene))
    assert (cross.shape, cross.box, circle.shape, circle.box) == (
        "cross",
        (5, 30, 23, 48),
        "circle",
        (40, 10, 56, 26),
    )
    assert circle.mask.shape == (64, 64) and circle.mask.sum() == pytest.approx(np.pi * 64, rel=0.05)
    assert not (circle.mask & cross.mask).any()
    assert min(circle.score, cross.score) > 0.95
    assert np.abs(np.subtract(circle.rgb, RGB["red"])).max() <= 1


def test_arrays_and_larger_pictures_read_in_their_own_pixels() -> None:
    scene = Scene((SceneObject("star", "green", 8, 16, 32, 40, RGB["green"]),), Background("black", 36), 64)
    assert read_scene(np.asarray(render(scene)))[0].box == (8, 16, 32, 40)
    large = render(scene).resize((256, 256), Image.Resampling.NEAREST)
    (found,) = read_scene(large)
    assert (found.shape, found.color) == ("star", "green") and found.mask.shape == (256, 256)
    assert np.abs(np.subtract(found.box, (32, 64, 128, 160))).max() <= 4
    with pytest.raises(ValueError, match=r"uint8 array \(H, W, 3\)"):
        read_scene(np.zeros((64, 64), dtype=np.uint8))


def test_a_blank_picture_is_a_scene_without_objects() -> None:
    assert read_scene(Image.new("RGB", (64, 64), (150, 150, 150))) == []


# ---------------------------------------------------------------- what is no scene


def _natural(seed: int, side: int) -> Image.Image:
    """Coloured 1/f noise, the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    frequency[0, 0] = 1 / side
    planes = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / frequency).real for _ in range(3)]
    pixels = 128 + 50 * np.stack([plane / plane.std() for plane in planes], axis=-1)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _drawn(draw: Callable[[ImageDraw.ImageDraw], object]) -> Image.Image:
    canvas = Image.new("RGB", (512, 512), (150, 150, 150))
    draw(ImageDraw.Draw(canvas))
    return canvas.resize((64, 64), Image.Resampling.BOX)


_L = [(100, 100), (150, 100), (150, 250), (300, 250), (300, 300), (100, 300)]
OTHER: dict[str, Callable[[], Image.Image]] = {
    "natural": lambda: _natural(0, 64),
    "large natural": lambda: _natural(1, 300),
    "coloured background": lambda: Image.new("RGB", (64, 64), (40, 90, 210)),
    "noise": lambda: Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.int64).astype(np.uint8)
    ),
    "angle": lambda: _drawn(lambda d: d.polygon(_L, fill=RGB["red"])),
    "ring": lambda: _drawn(lambda d: d.ellipse((100, 100, 300, 300), outline=RGB["red"], width=40)),
    "other colour": lambda: _drawn(lambda d: d.rectangle((100, 100, 300, 300), fill=(20, 220, 220))),
    "many spots": lambda: _drawn(
        lambda d: [
            d.rectangle((x, y, x + 60, y + 60), fill=RGB["red"])
            for x in range(30, 480, 90)
            for y in (30, 130, 230, 330)
        ]
    ),
    "tiny": lambda: Image.new("RGB", (8, 8)),
}


@pytest.mark.parametrize("name", OTHER)
def test_refuses_what_is_no_scene(name: str) -> None:
    with pytest.raises(NotASceneError):
        read_scene(OTHER[name]())


def test_refuses_real_photographs() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    for pixels in datasets.load_sample_images().images:
        for side in (None, 256, 64):
            photo = Image.fromarray(pixels)
            with pytest.raises(NotASceneError):
                read_scene(photo if side is None else photo.resize((side, side)))


def test_a_detector_keeps_doubtful_objects_with_a_low_score() -> None:
    (angle,) = read_scene(OTHER["angle"](), strict=False)
    assert angle.color == "red" and angle.score < 0.3
    assert read_scene(OTHER["natural"](), strict=False) == []


# ---------------------------------------------------------------- the accuracy figures themselves


def test_accuracy_counts_wrong_missing_and_misplaced_objects() -> None:
    red = SceneObject("circle", "red", 5, 5, 25, 25, RGB["red"])
    blue = SceneObject("square", "blue", 35, 35, 55, 55, RGB["blue"])
    grey = Background("grey", 150)
    truth = _truth([Scene((red, blue), grey, 64), Scene((red,), grey, 64)])
    shown = render(Scene((SceneObject("square", "red", 5, 5, 25, 25, RGB["red"]),), grey, 64))
    figures = reader_accuracy(truth, [("0", shown), ("1", shown), ("unknown", shown)])
    assert (figures["objects"], figures["images"], figures["refused"]) == (3, 2, 0)
    assert figures["shape"] == 0
    assert figures["color"] == pytest.approx(2 / 3) and figures["box_iou"] == pytest.approx(2 / 3)
    assert figures["count"] == pytest.approx(1 / 3)


def test_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of the pictures"):
        reader_accuracy(_truth([]), [])
