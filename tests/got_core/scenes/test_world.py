from __future__ import annotations

import numpy as np
import pytest

from got_core.scenes.render import render
from got_core.scenes.world import (
    FULL,
    NARROW,
    RGB,
    Background,
    Scene,
    SceneObject,
    World,
    place_of,
    relations,
)


def test_narrow_and_full_world_have_the_promised_size() -> None:
    assert len(NARROW.shapes) == 4 and len(NARROW.colors) == 6 and NARROW.max_objects == 3
    assert len(FULL.shapes) == 6 and len(FULL.colors) == 8 and FULL.max_objects == 4
    assert set(FULL.backgrounds) == {"plain", "gradient", "noise"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"shapes": ("circle", "cube")}, "shape.*cube.*triangle"),
        ({"colors": ("teal",)}, "colour.*teal"),
        ({"backgrounds": ("plasma",)}, "background.*plasma"),
        ({"min_object": 40, "max_object": 70}, "do not fit"),
        ({"max_objects": 0}, "at least one object"),
        ({"tones": ()}, "tone"),
    ],
)
def test_a_world_that_cannot_be_drawn_is_refused(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(**setting)


def test_relation_boundary_is_genevals() -> None:
    # equal 100 px boxes: a shift of 40 px shows nothing, 41 shows a relation; the rest over |o| must pass .5,
    # which for one axis happens from twice the margin on
    box = (0, 0, 100, 100)
    assert relations((20, 0, 120, 100), box) == ()
    assert relations((40, 0, 140, 100), box) == ()
    assert relations((41, 0, 141, 100), box) == ("right of",)
    assert relations(box, (41, 0, 141, 100)) == ("left of",)
    assert relations((0, -41, 100, 59), box) == ("above",)
    assert relations((0, 41, 100, 141), box) == ("below",)
    assert relations((300, 300, 400, 400), box) == ("right of", "below")


def test_place_of_is_the_third_of_the_centre() -> None:
    assert place_of((0, 0, 10, 10), 64) == "top left"
    assert place_of((27, 27, 37, 37), 64) == "center"
    assert place_of((54, 27, 64, 37), 64) == "right"
    assert place_of((27, 54, 37, 64), 64) == "bottom"


def test_rendering_is_exact_inside_and_outside_and_repeatable() -> None:
    item = SceneObject("circle", "red", 10, 20, 30, 40, RGB["red"])
    scene = Scene((item,), Background("grey", 150), 64)
    pixels = np.asarray(render(scene))
    assert pixels.shape == (64, 64, 3)
    assert tuple(pixels[30, 20]) == RGB["red"]
    assert tuple(pixels[5, 5]) == (150, 150, 150)
    changed = np.any(pixels != 150, axis=2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == item.box
    assert np.array_equal(pixels, np.asarray(render(scene)))


def test_gradient_and_noise_backgrounds_are_what_they_say() -> None:
    gradient = np.asarray(render(Scene((), Background("grey", 150, "gradient", (20.0, 0.0)), 64)), dtype=int)
    assert gradient[:, -1].mean() - gradient[:, 0].mean() == pytest.approx(20, abs=1)
    noise = np.asarray(render(Scene((), Background("grey", 150, "noise", noise=5.0, noise_seed=3), 64)))
    assert noise[..., 0].std() == pytest.approx(5, abs=0.5)
