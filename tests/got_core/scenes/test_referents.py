"""Phrases that point at objects."""

from __future__ import annotations

import re

import numpy as np
import pytest

from got_core.scenes import referents
from got_core.scenes.referents import SINGLE, WORDS, Finder, Seen, pointed_out
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import FULL, PLURALS, RGB, Background, Scene, SceneObject

GREY = Background("grey", 150)


def scene(*objects: tuple[str, str, int, int, int]) -> Scene:
    """Of colour, shape, left, top and side each."""
    made = (SceneObject(s, c, x, y, x + side, y + side, rgb=RGB[c]) for c, s, x, y, side in objects)
    return Scene(tuple(made), GREY, 64)


ROW = scene(("red", "circle", 3, 24, 14), ("blue", "square", 24, 24, 14), ("red", "cross", 44, 24, 18))
"""A row of three; the cross is the largest."""


def found(find: Finder, of: Scene) -> dict[str, tuple[int, ...]]:
    return {one.phrase: one.objects for one in find(Seen.of(of))}


@pytest.mark.parametrize(
    ("find", "of", "phrases"),
    [
        (
            referents.far_left_or_right,
            ROW,
            {"the leftmost shape": (0,), "the shape farthest to the right": (2,)},
        ),
        (referents.far_left_or_right, scene(("red", "circle", 3, 3, 14), ("blue", "circle", 9, 40, 14)), {}),
        (
            referents.left_or_right_of_two,
            scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 14)),
            {"the left one of the two circles": (0,), "the right one of the two circles": (1,)},
        ),
        (referents.largest_or_smallest, ROW, {"the largest shape": (2,)}),
        (
            referents.larger_of_two,
            scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 18), ("blue", "square", 3, 40, 20)),
            {"the larger of the two circles": (1,), "the smaller of the two circles": (0,)},
        ),
        (referents.larger_of_two, scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 17)), {}),
        (referents.not_that_color, ROW, {"the only shape that is not red": (1,)}),
        (referents.of_that_color, ROW, {"the blue one": (1,)}),
        (
            referents.of_same_color,
            ROW,
            {
                "the other shape that has the colour of the circle": (2,),
                "the other shape that has the colour of the cross": (0,),
            },
        ),
        (referents.all_of_shape, ROW, {}),
        (referents.all_of_color, ROW, {"both red shapes": (0, 2)}),
        (
            referents.all_but_one,
            ROW,
            {
                "everything except the circle": (1, 2),
                "everything except the square": (0, 2),
                "everything except the cross": (0, 1),
            },
        ),
        (
            referents.odd_one_out,
            scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 14), ("green", "star", 3, 40, 14)),
            {"the shape that does not belong with the others": (2,)},
        ),
        # two are odd: the star by its shape, the red circle by its colour
        (
            referents.odd_one_out,
            scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 14), ("blue", "star", 3, 40, 14)),
            {},
        ),
        (
            referents.related,
            scene(("red", "star", 24, 3, 14), ("blue", "circle", 24, 40, 14), ("red", "circle", 46, 3, 14)),
            {"the shape below the star": (1,), "the shape to the right of the star": (2,)},
        ),
        (
            referents.by_corners,
            scene(("red", "triangle", 3, 3, 14), ("blue", "circle", 40, 40, 14), ("red", "cross", 3, 40, 14)),
            {"the shape with three corners": (0,), "the shape with no corners": (1,)},
        ),
    ],
)
def test_phrases_are_true_of_one_thing(find: Finder, of: Scene, phrases: dict) -> None:
    assert found(find, of) == phrases


def test_mirrors() -> None:
    plain = scene(("red", "circle", 4, 6, 14), ("blue", "square", 24, 40, 18), ("green", "cross", 3, 24, 14))
    assert found(referents.mirrored, plain) == {}
    across = referents.with_mirror_image(plain, 0, gap=3)
    assert across is not None and across.objects[1].box == (46, 6, 60, 20)
    upright = "the shape where a mirror that stands upright in the middle would show the"
    assert found(referents.mirrored, across) == {
        f"{upright} red circle": (1,),
        f"{upright} blue square": (0,),
    }
    full = scene(("red", "circle", 4, 6, 14), ("blue", "square", 24, 40, 18), ("green", "cross", 3, 44, 14))
    assert referents.with_mirror_image(full, 1, gap=3) is None, "the cross stands there"
    assert referents.with_mirror_image(scene(("red", "circle", 4, 6, 14)), 0, gap=3) is None
    middle = scene(("red", "circle", 26, 6, 14), ("blue", "square", 24, 40, 18))
    assert referents.with_mirror_image(middle, 0, gap=3) is None, "it stands in its own mirror image"


def test_of_two_that_look_alike_a_mirror_shows_neither() -> None:
    twins = scene(("red", "circle", 4, 6, 14), ("blue", "square", 46, 6, 14), ("red", "circle", 4, 40, 14))
    upright = "the shape where a mirror that stands upright in the middle would show the"
    assert found(referents.mirrored, twins) == {f"{upright} blue square": (0,)}


def test_words_are_those_of_all_phrases() -> None:
    rng = np.random.default_rng(2)
    scenes = [sample_scene(FULL, rng, "mixed") for _ in range(120)]
    turned = [referents.with_mirror_image(one, k % 2, 3) for k, one in enumerate(scenes[:60])]
    odd = scene(("red", "circle", 3, 3, 14), ("blue", "circle", 40, 40, 14), ("green", "star", 3, 40, 14))
    seen = [Seen.of(one) for one in (*scenes, *turned, odd) if one]
    said = {one.phrase for shown in seen for one in pointed_out(shown)}
    assert all(any([*find(shown)] for shown in seen) for find in SINGLE), "of every kind there are some"
    words = {word for text in WORDS for word in re.findall(r" \w+", text)}
    names = {f" {name}" for name in (*RGB, *PLURALS)}
    assert {word for phrase in said for word in re.findall(r" \w+", f" {phrase}")} <= names | words
    assert not words & names
