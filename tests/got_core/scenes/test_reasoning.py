"""Instructions that need reasoning: sampled, and put in plain words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from got_core.scenes.edits import CLEAR, apply, collides, find, instruction, parse_instruction
from got_core.scenes.heldout import is_held_out
from got_core.scenes.reader import read_scene
from got_core.scenes.reasoning import ASKED, MULTIPLE, resolve, sample_reasoning
from got_core.scenes.render import render
from got_core.scenes.world import FULL, NARROW, RGB, Background, PixelBox, Scene, SceneObject


def scene(*objects: tuple[str, str, int, int, int]) -> Scene:
    """Of colour, shape, left, top and side each."""
    made = (SceneObject(s, c, x, y, x + side, y + side, rgb=RGB[c]) for c, s, x, y, side in objects)
    return Scene(tuple(made), Background("grey", 150), 64)


FOUR = scene(
    ("red", "circle", 4, 4, 20), ("blue", "square", 38, 6, 18), ("red", "star", 6, 40, 16),
    ("green", "square", 38, 38, 18),
)  # fmt: skip


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_samples_show_what_is_asked_for_and_nothing_held_out(world) -> None:
    rng = np.random.default_rng(3)
    for number in range(24):
        task = [*ASKED][number % len(ASKED)]
        source, target, op, text = sample_reasoning(world, rng, task)
        assert (op.then is not None) == (task == MULTIPLE)
        assert all(step.rgb or not step.new_color for step in op.steps), "fills vary"
        assert all(step.box or step.kind != "move" for step in op.steps)
        edited = [source.objects[find(source, step.color, step.shape)].box for step in op.steps]
        assert edited == sorted(edited), "from left to right"
        shown = [source]
        for step in op.steps:
            shown.append(apply(shown[-1], step))
        assert shown[-1] == target != source
        assert not any(is_held_out(one.objects, world) for one in shown)
        with pytest.raises(ValueError, match="not a scene edit"):
            parse_instruction(text)


def test_a_generator_gives_the_same_again_and_classes_are_drawn_evenly() -> None:
    drawn = [sample_reasoning(NARROW, np.random.default_rng([7, k])) for k in range(3)]
    assert drawn == [sample_reasoning(NARROW, np.random.default_rng([7, k])) for k in range(3)]
    rng = np.random.default_rng(0)
    several = [sample_reasoning(NARROW, rng)[2].then is not None for _ in range(60)]
    assert 3 <= sum(several) <= 20, "a sixth"


def test_many_draws_put_moved_objects_where_there_is_most_room() -> None:
    def crowded(place_draws: int) -> int:
        count = 0
        for k in range(60):
            rng = np.random.default_rng(k)
            _, target, op, _ = sample_reasoning(FULL, rng, "left_right", place_draws)
            if op.kind == "move":
                moved = target.objects[find(target, op.color, op.shape)]
                others = tuple(one for one in target.objects if one is not moved)
                count += collides(moved.box, others, CLEAR)
        return count

    assert crowded(32) < crowded(1)


def a_pixel_off(box: PixelBox, rng: np.random.Generator) -> PixelBox:
    """The box with one of its corners moved."""
    across, down = rng.integers(-1, 2, size=2).tolist()
    x1, y1, x2, y2 = box
    first = rng.random() < 0.5
    return (x1 + across, y1 + down, x2, y2) if first else (x1, y1, x2 + across, y2 + down)


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_pictures_say_what_is_asked_for(world) -> None:
    """What the reader finds, with boxes a pixel off, is enough to put the instruction in plain words."""
    rng, right = np.random.default_rng(11), Counter[bool]()
    for number in range(30):
        source, _, op, text = sample_reasoning(world, rng, [*ASKED][number % len(ASKED)])
        read = [replace(one, box=a_pixel_off(one.box, rng)) for one in read_scene(render(source))]
        right[resolve(text, read, (64, 64)) == op.intent] += 1
    assert right == {True: 30}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Remove the largest shape.", "remove the red circle"),
        ("take the smallest shape away", "remove the red star"),
        ("paint the left one of the two squares pink", None),
        ("remove both squares", "first remove the blue square, then remove the green square"),
        (
            "make everything except the star pink",
            "first change the red circle to pink, then change the blue square to pink, "
            "then change the green square to pink",
        ),
        ("give the star the colour of a ripe banana", "change the red star to yellow"),
        ("give the circle the color of the green one", "change the red circle to green"),
        ("give the circle the colour of the square", None),  # there are two
        ("move the largest shape to the bottom", "move the red circle to the bottom"),
        ("move the star above the blue one", "move the red star above the blue square"),
        (
            "first remove the shape with five points, then turn the blue one into a pink cross",
            "first remove the red star, then replace the blue square with a pink cross",
        ),
        ("remove the red one", None),
        ("remove the red circle", "remove the red circle"),
        ("make it nicer", None),
    ],
)
def test_plain_words(text: str, plain: str | None) -> None:
    if plain is None:
        with pytest.raises(
            ValueError, match=r"more than one thing.* shows a red circle, a blue square, a red"
        ):
            resolve(text, FOUR.objects, (64, 64))
    else:
        assert instruction(resolve(text, FOUR.objects, (64, 64))) == plain


def test_what_a_picture_does_not_decide_is_refused() -> None:
    alike = scene(("red", "circle", 4, 4, 20), ("blue", "square", 40, 6, 20))
    with pytest.raises(ValueError, match="of nothing or of more than one thing"):
        resolve("remove the largest shape", alike.objects, (64, 64))
    twins = scene(("red", "circle", 4, 4, 20), ("red", "circle", 40, 6, 14))
    with pytest.raises(ValueError, match="of nothing or of more than one thing"):
        resolve("remove the largest shape", twins.objects, (64, 64))
    with pytest.raises(ValueError, match="which shows nothing"):
        resolve("remove the largest shape", (), (64, 64))


def test_mirrors_stand_in_the_middle_of_any_picture() -> None:
    wide = scene(("red", "circle", 4, 6, 14), ("blue", "square", 78, 6, 14), ("green", "star", 40, 30, 14))
    text = "remove the shape where a mirror that stands upright in the middle would show the red circle"
    assert resolve(text, wide.objects, (96, 64)).phrase == "blue square"
    with pytest.raises(ValueError):
        resolve(text, wide.objects, (64, 96))
