"""The plan as text and as boxes, in step both ways."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image, ImageDraw

from got_core.chain.boxes import Box
from got_core.chain.grammar import Chain, parse
from got_core.planning.check import Requirements, check_plan
from got_core.studio.plans import (
    PlanError,
    canvas_value,
    changed_plan,
    differences,
    fault_sentence,
    picture_plan,
    text_plan,
    unfinished,
)

PLAN = parse("a red circle (10,20),(300,400) and a blue square (500,500),(900,900) on a table")


def canvas(**changes: Any) -> dict[str, Any]:
    return {**canvas_value(PLAN), **changes}


def box(before: int | None, phrase: str, *corners: int) -> dict[str, Any]:
    return {"from": before, "phrase": phrase, "box": list(corners)}


CIRCLE, SQUARE = box(0, "a red circle", 10, 20, 300, 400), box(1, "a blue square", 500, 500, 900, 900)


def test_an_unchanged_canvas_gives_the_plan_back() -> None:
    assert changed_plan(canvas()) == PLAN
    empty = Chain(())
    assert changed_plan(canvas_value(empty)) == empty


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        (
            [box(0, "a red circle", 0, 0, 5, 5), SQUARE],
            "a red circle (0,0),(5,5) and a blue square (500,500),(900,900) on a table",
        ),
        (
            [CIRCLE, box(1, "a teal star", 1, 2, 3, 4)],
            "a red circle (10,20),(300,400) and a teal star (1,2),(3,4) on a table",
        ),
        ([SQUARE], "a blue square (500,500),(900,900) on a table"),
        ([CIRCLE], "a red circle (10,20),(300,400) on a table"),
        (
            [SQUARE, CIRCLE],
            "a blue square (500,500),(900,900) and a red circle (10,20),(300,400) on a table",
        ),
        (
            [CIRCLE, box(None, "a dog", 1, 1, 2, 2), SQUARE],
            "a red circle (10,20),(300,400), a dog (1,1),(2,2) and a blue square (500,500),(900,900) on a "
            "table",
        ),
        ([box(None, "a dog", 1, 1, 2, 2)], "a dog (1,1),(2,2) on a table"),
    ],
    ids=["moved", "renamed", "first removed", "last removed", "swapped", "added between", "all replaced"],
)
def test_what_was_changed_on_the_canvas_is_changed_in_the_text(boxes: list[Any], wanted: str) -> None:
    assert changed_plan(canvas(boxes=boxes)).to_data() == wanted


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"chain": 3, "boxes": []},
        canvas(boxes=None),
        canvas(boxes=[None]),
        canvas(boxes=[CIRCLE, CIRCLE]),
        canvas(boxes=[box(2, "a cat", 1, 1, 2, 2)]),
        canvas(boxes=[box(0, "a cat", 9, 1, 2, 2)]),
        canvas(boxes=[box(0, "a cat", 0, 0, 1000, 2)]),
        canvas(boxes=[{**CIRCLE, "box": [0.5, 0, 1, 1]}]),
        canvas(boxes=[{**CIRCLE, "from": True}]),
        canvas(boxes=[box(None, "<|box_start|>", 1, 1, 2, 2)]),
        canvas(boxes=[box(None, " ", 1, 1, 2, 2)]),
        canvas(boxes=[CIRCLE] * 101),
        canvas(chain="a cat (1,2),(3"),
        canvas(chain="x" * 20_001),
    ],
)
def test_what_no_canvas_sends_is_one_clear_error(value: Any) -> None:
    with pytest.raises(PlanError):
        changed_plan(value)


def test_typed_text_that_is_no_plan_says_where() -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        text_plan("a cat (5,5),(1,1)")


def test_differences_name_what_moved_came_and_went() -> None:
    after = parse("a red circle (20,20),(310,400), a green square (500,500),(900,900) and a dog (1,1),(2,2)")
    assert differences(PLAN, after) == [
        "a red circle moved from (10,20),(300,400) to (20,20),(310,400)",
        "a blue square is a green square now",
        "a dog (1,1),(2,2) is new",
    ]
    assert differences(PLAN, text_plan("")) == [
        "a red circle (10,20),(300,400) is gone",
        "a blue square (500,500),(900,900) is gone",
    ]
    assert differences(PLAN, PLAN) == []


def test_faults_are_said_by_the_names_on_the_canvas() -> None:
    touching = parse("a red circle (100,100),(400,400) and a blue square (300,300),(900,900)")
    (found,) = check_plan(touching, Requirements.of_prompt("a photo of a red circle and a blue square"))
    assert fault_sentence(found, touching) == "a red circle (1) and a blue square (2) overlap"
    wrong = parse("a circle (600,100),(900,400) and a square (100,100),(400,400)")
    (found,) = check_plan(wrong, Requirements.of_prompt("a photo of a circle left of a square"))
    assert fault_sentence(found, wrong) == "a circle (1) is not clearly left of a square (2)"


def test_boxes_that_moved_are_shown_where_they_were() -> None:
    after = parse(PLAN.to_data().replace("(10,20)", "(90,90)"))
    assert canvas_value(after, PLAN)["ghosts"] == [[10, 20, 300, 400]]
    assert canvas_value(PLAN, PLAN)["ghosts"] == []


def test_a_pictures_objects_become_a_plan() -> None:
    scene = Image.new("RGB", (100, 100), (128, 128, 128))
    ImageDraw.Draw(scene).rectangle((20, 30, 49, 59), fill=(220, 30, 30))
    (one,) = picture_plan(scene).boxes
    assert one.phrase == "a red square" and one.box.iou(Box(200, 300, 500, 600)) > 0.9
    with pytest.raises(PlanError, match="no objects"):
        picture_plan(Image.new("RGB", (64, 64), "white"))


@pytest.mark.parametrize(
    "plan",
    [
        "two cats (100,100),(400,400) and (550,550),(850,850)",
        "a star (980,0),(999,500) and a circle (0,980),(500,999)",
        "1. a star and a circle 2. the star 3. (500,500),(515,517) 4. remove it 5. a circle",
    ],
)
def test_finished_boxes_are_not_complained_of(plan: str) -> None:
    assert unfinished(parse(plan)) == []


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("An Object (100,100),(400,400)", "says nothing"),
        ("(100,100),(400,400) and (500,500),(900,900)", "says nothing"),
        ("a star (500,500),(519,900)", "too small"),
        ("1. a star 2. a circle 3. (500,500),(515,517) 4. add it 5. a star and a circle", "too small"),
    ],
)
def test_boxes_that_were_only_begun_are_told(plan: str, said: str) -> None:
    assert said in "\n".join(unfinished(parse(plan)))
