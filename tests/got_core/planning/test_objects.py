"""Plans as detections, and pictures against plans."""

from __future__ import annotations

import pytest

from got_core.chain.grammar import parse
from got_core.planning.geneval import Detection, evaluate_image
from got_core.planning.objects import iou, plan_detections, plan_followed, read_phrase
from got_core.scenes.prompts import parse_prompt
from got_core.scenes.world import FULL

CHAIN = "a red circle (100,400),(300,600), a blue square (700,400),(900,600) on a grey background"


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("a red circle", ("circle", "red")),
        ("two crosses", ("cross", None)),
        ("Purple Squares", ("square", "purple")),
        ("the blue star and a red circle", ("circle", "red")),
        ("a table", (None, None)),
        ("", (None, None)),
        ("a circular red thing", (None, None)),
    ],
)
def test_phrases(phrase: str, expected: tuple) -> None:
    assert read_phrase(phrase, FULL.shapes) == expected


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("two red traffic lights", ("traffic light", "red")),
        ("a hot dog", ("hot dog", None)),
        ("a dog that is hot", ("dog", None)),
        ("a bear and a brown teddy bear", ("teddy bear", "brown")),
        ("light traffic", (None, None)),
    ],
)
def test_classes_of_several_words(phrase: str, expected: tuple) -> None:
    assert read_phrase(phrase, ("bear", "dog", "hot dog", "teddy bear", "traffic light")) == expected


def test_a_plan_is_judged_by_the_same_rules() -> None:
    planned = plan_detections(parse(CHAIN), FULL.shapes, 64, 64)
    assert [(d.cls, d.color) for d in planned] == [("circle", "red"), ("square", "blue")]
    assert planned[0].box == pytest.approx((6.4, 25.6, 19.2, 38.4))
    assert evaluate_image(planned, parse_prompt("a photo of a circle left of a square")).correct
    assert not evaluate_image(planned, parse_prompt("a photo of a square left of a circle")).correct
    assert not evaluate_image(planned, parse_prompt("a photo of a red square")).correct


def test_objects_without_box_area_or_class_plan_nothing() -> None:
    chain = parse("a red circle (5,5),(5,9), a lamp (1,1),(9,9) and a cross on a white background")
    assert plan_detections(chain, FULL.shapes, 64, 64) == []


def test_followed_matches_one_to_one_within_class_and_colour() -> None:
    a, b = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
    plan = [Detection("circle", 1, a, "red"), Detection("circle", 1, b, "red")]
    assert plan_followed(plan, [Detection("circle", 0.9, b, "red"), Detection("circle", 0.9, a, "red")]) == 1
    assert plan_followed(plan, [Detection("circle", 0.9, a, "red")]) == 0.5
    assert plan_followed(plan, [Detection("circle", 0.9, a, "blue"), Detection("cross", 1, b, "red")]) == 0
    assert plan_followed(plan, []) == 0
    assert plan_followed([], [Detection("circle", 0.9, a)]) is None


def test_place_counts_whatever_is_there() -> None:
    a, b = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
    plan = [Detection("circle", 1, a, "red"), Detection("cross", 1, b, "blue")]
    swapped = [Detection("circle", 1, b, "red"), Detection("cross", 1, a, "blue")]
    assert (plan_followed(plan, swapped), plan_followed(plan, swapped, place_only=True)) == (0, 1)
    assert plan_followed(plan, swapped[:1], place_only=True) == 0.5


def test_iou() -> None:
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
