from __future__ import annotations

from itertools import product

import pytest

from got_core.scenes.edits import EditOp, apply, in_turn, instruction, parse_instruction, wordings
from got_core.scenes.world import PLACES, RELATIONS, RGB, Background, Scene, SceneObject, place_of, relations

_RED = SceneObject("circle", "red", 4, 4, 20, 20, (210, 44, 41))
_BLUE = SceneObject("square", "blue", 40, 40, 56, 56, RGB["blue"])
_SCENE = Scene((_RED, _BLUE), Background("grey", 150), 64)


@pytest.mark.parametrize(
    ("text", "op"),
    [
        (
            "add a red circle to the left of the blue square",
            EditOp(kind="add", color="red", shape="circle", anchor=("left of", "blue", "square")),
        ),
        (
            "add an orange circle at the top left",
            EditOp(kind="add", color="orange", shape="circle", place="top left"),
        ),
        ("remove the red circle", EditOp(kind="remove", color="red", shape="circle")),
        (
            "change the red circle to blue",
            EditOp(kind="recolour", color="red", shape="circle", new_color="blue"),
        ),
        (
            "replace the red circle with a blue square",
            EditOp(kind="replace", color="red", shape="circle", new_color="blue", new_shape="square"),
        ),
        (
            "move the red circle to the top right",
            EditOp(kind="move", color="red", shape="circle", place="top right"),
        ),
        (
            "move the red circle above the blue square",
            EditOp(kind="move", color="red", shape="circle", anchor=("above", "blue", "square")),
        ),
    ],
)
def test_standard_wordings_both_ways(text: str, op: EditOp) -> None:
    assert instruction(op) == text
    assert parse_instruction(text) == op
    assert parse_instruction(f"  {text.capitalize()}. ") == op


def test_every_wording_reads_back() -> None:
    where = [{"place": place} for place in PLACES] + [
        {"anchor": (relation, "blue", "star")} for relation in RELATIONS
    ]
    ops = [
        EditOp(kind=kind, color="orange", shape="cross", **spot)  # type: ignore[arg-type]
        for kind, spot in product(("add", "move"), where)
    ]
    ops += [
        EditOp(kind="remove", color="red", shape="star"),
        EditOp(kind="recolour", color="red", shape="star", new_color="orange"),
        EditOp(kind="replace", color="red", shape="star", new_color="orange", new_shape="cross"),
    ]
    for op in ops:
        assert len(set(wordings(op))) == len(wordings(op)) >= 3
        for text in wordings(op):
            assert parse_instruction(text) == op, text


def test_steps_are_worded_in_order_and_read_back() -> None:
    steps = [
        parse_instruction(text)
        for text in (
            "remove the red star",
            "move the blue cross to the right of the pink circle",
            "add an orange square at the top left",
        )
    ]
    text = (
        "first remove the red star, then move the blue cross to the right of the pink circle, "
        "then add an orange square at the top left"
    )
    whole = in_turn(steps)
    assert instruction(whole) == text
    assert whole.steps == tuple(steps)
    for count in (2, 3):
        op = in_turn(steps[:count])
        assert len(set(wordings(op))) == 3
        for wording in wordings(op):
            assert parse_instruction(f" {wording.capitalize()}.") == op, wording
    loose = "Remove the red star. Then, move the blue cross to the top; and finally delete the pink circle"
    assert [op.kind for op in parse_instruction(loose).steps] == ["remove", "move", "remove"]
    with pytest.raises(ValueError, match="at least one step"):
        in_turn([])


def test_steps_are_applied_one_after_the_other() -> None:
    text = "first change the red circle to green, then move the green circle to the bottom left"
    moved, square = apply(_SCENE, parse_instruction(text)).objects
    assert (moved.color, moved.shape, square) == ("green", "circle", _BLUE)
    assert place_of(moved.box, 64) == "bottom left"
    with pytest.raises(ValueError, match="0 objects are a red circle"):
        apply(_SCENE, parse_instruction("first change the red circle to green, then remove the red circle"))


@pytest.mark.parametrize(
    "text",
    [
        "make it snow",
        "remove the dog",
        "move the red circle",
        "add a circle",
        "",
        "first remove the red circle, then dance",
        "remove the red circle, then",
        "remove the red circle then remove the dog",
    ],
)
def test_other_instructions_are_refused_with_what_is_understood(text: str) -> None:
    with pytest.raises(ValueError, match="remove the red circle"):
        parse_instruction(text)


def test_apply_recolour_replace_and_remove() -> None:
    blue = apply(_SCENE, parse_instruction("change the red circle to green")).objects
    assert blue == (SceneObject("circle", "green", *_RED.box, RGB["green"]), _BLUE)
    cross = apply(_SCENE, parse_instruction("replace the red circle with a red cross")).objects[0]
    assert (cross.shape, cross.color, cross.box, cross.rgb) == ("cross", "red", _RED.box, _RED.rgb)
    assert apply(_SCENE, parse_instruction("remove the red circle")).objects == (_BLUE,)


def test_apply_finds_a_free_place_that_fits_the_words() -> None:
    moved = apply(_SCENE, parse_instruction("move the red circle to the bottom left")).objects[0]
    assert place_of(moved.box, 64) == "bottom left" and moved.rgb == _RED.rgb
    added = apply(_SCENE, parse_instruction("add a green cross to the left of the blue square")).objects[2]
    assert relations(added.box, _BLUE.box) == ("left of",)
    assert (added.x2 - added.x1, added.rgb) == (16, RGB["green"])


def test_apply_says_what_is_missing() -> None:
    with pytest.raises(
        ValueError, match="0 objects are a green star: the scene shows red circle, blue square"
    ):
        apply(_SCENE, parse_instruction("remove the green star"))
    twins = Scene((_RED, SceneObject("circle", "red", 40, 4, 56, 20, RGB["red"])), _SCENE.background, 64)
    with pytest.raises(ValueError, match="2 objects are a red circle"):
        apply(twins, parse_instruction("remove the red circle"))
    corner = Scene((SceneObject("square", "red", 3, 3, 40, 40, RGB["red"]),), _SCENE.background, 64)
    with pytest.raises(ValueError, match="no free place"):
        apply(corner, parse_instruction("add a blue cross to the left of the red square"))
