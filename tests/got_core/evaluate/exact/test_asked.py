"""Success of an edit and over-editing, on pictures with known faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from got_core.evaluate.detector import detect, true_detections
from got_core.evaluate.edit_rules import expected_objects
from got_core.evaluate.exact.agreement import agreement, made_of, of_edit, of_scene
from got_core.evaluate.exact.asked import ExactRules, Success, success_of
from got_core.evaluate.exact.cases import ExactCase
from got_core.evaluate.exact.excess import difference, excess_of, outside
from got_core.evaluate.exact.imagenhub import two_scores
from got_core.scenes.edits import apply, parse_instruction
from got_core.scenes.render import render
from got_core.scenes.world import RGB, Background, Scene, SceneObject

RULES = ExactRules()


def thing(color: str, shape: str, x: int, y: int, side: int = 18) -> SceneObject:
    return SceneObject(shape, color, x, y, x + side, y + side, rgb=RGB[color])


SCENE = Scene((thing("red", "circle", 4, 22), thing("blue", "square", 40, 22)), Background("grey", 150), 64)
"""A red circle on the left and a blue square on the right."""
CIRCLE, SQUARE = SCENE.objects


def scene(*objects: SceneObject) -> Scene:
    return replace(SCENE, objects=objects)


def at(item: SceneObject, x: int, y: int) -> SceneObject:
    return replace(item, x1=x, y1=y, x2=x + 18, y2=y + 18)


def success(instruction: str, after: Scene, source: Scene = SCENE) -> Success:
    expected = expected_objects(source, parse_instruction(instruction).steps)
    return success_of(detect(render(after)), source, expected, RULES)


REMOVE, RECOLOUR = "remove the red circle", "change the red circle to green"
REPLACE = "replace the red circle with a green cross"
RESHAPE = "replace the red circle with a red cross"
ADD = "add a green cross at the top"
MOVE = "move the red circle to the bottom left"
TWO = "first remove the red circle, then change the blue square to green"
GREEN, CROSS = thing("green", "circle", 4, 22), thing("green", "cross", 4, 22)


class TestSuccess:
    @pytest.mark.parametrize(
        ("instruction", "objects", "score"),
        [
            # what has to go: all or nothing
            (REMOVE, (SQUARE,), 10),
            (REMOVE, (CIRCLE, SQUARE), 0),
            (REMOVE, (at(CIRCLE, 4, 42), SQUARE), 0),
            (REMOVE, (GREEN, SQUARE), 0),
            (REMOVE, (CIRCLE,), 0),
            # colour, in its place; what had to stay and did not halves
            (RECOLOUR, (GREEN, SQUARE), 10),
            (RECOLOUR, (CROSS, SQUARE), 5),
            (RECOLOUR, (CIRCLE, SQUARE), 0),
            (RECOLOUR, (CIRCLE, thing("green", "square", 40, 22)), 0),
            (RECOLOUR, (at(GREEN, 24, 42), SQUARE), 0),
            (RECOLOUR, (SQUARE,), 0),
            # shape and colour
            (REPLACE, (CROSS, SQUARE), 10),
            (REPLACE, (GREEN, SQUARE), 5),
            (REPLACE, (thing("red", "cross", 4, 22), SQUARE), 5),
            (REPLACE, (CIRCLE, thing("green", "cross", 40, 22)), 0),
            (RESHAPE, (thing("red", "cross", 4, 22), SQUARE), 10),
            (RESHAPE, (CROSS, SQUARE), 5),
            # shape, colour and place, of something new
            (ADD, (CIRCLE, SQUARE, at(CROSS, 24, 2)), 10),
            (ADD, (CIRCLE, SQUARE, at(CROSS, 24, 44)), 20 / 3),
            (ADD, (CIRCLE, SQUARE, thing("red", "cross", 24, 2)), 20 / 3),
            (ADD, (CIRCLE, SQUARE, thing("red", "cross", 24, 44)), 0),
            (ADD, (CIRCLE, SQUARE), 0),
            (ADD, (CROSS, SQUARE), 0),
            (ADD, (CIRCLE, at(SQUARE, 24, 2)), 0),
            # no longer there, and where it has to be
            (MOVE, (at(CIRCLE, 2, 44), SQUARE), 10),
            (MOVE, (CIRCLE, at(CIRCLE, 2, 44), SQUARE), 5),
            (MOVE, (at(CIRCLE, 22, 2), SQUARE), 5),
            (MOVE, (at(CIRCLE, 4, 25), SQUARE), 0),
            (MOVE, (at(GREEN, 2, 44), SQUARE), 5),
            (MOVE, (CIRCLE, at(SQUARE, 2, 44)), 0),
            (MOVE, (CIRCLE, SQUARE, at(CROSS, 2, 44)), 0),
            (MOVE, (CIRCLE, SQUARE), 0),
            # each object counts alike
            (TWO, (thing("green", "square", 40, 22),), 10),
            (TWO, (SQUARE,), 5),
            (TWO, (CIRCLE, thing("green", "square", 40, 22)), 5),
            (TWO, (CIRCLE, SQUARE), 0),
        ],
    )
    def test_shares_of_what_is_asked(self, instruction: str, objects: tuple, score: float) -> None:
        judged = success(instruction, scene(*objects))
        assert judged.score == pytest.approx(score), judged.reason
        assert (judged.reason is None) == (score == 10)

    def test_words_that_were_true_before_ask_for_a_move_alone(self) -> None:
        diagonal = scene(thing("red", "circle", 4, 2), thing("blue", "square", 42, 42))
        move = "move the red circle above the blue square"
        assert success(move, diagonal, diagonal).score == 0
        moved = scene(thing("red", "circle", 42, 4), diagonal.objects[1])
        assert success(move, moved, diagonal).score == 10

    def test_reasons_name_what_is_missing(self) -> None:
        assert success(ADD, scene(CIRCLE, SQUARE, at(CROSS, 24, 44))).reason == "the green cross: place"
        assert success(REMOVE, scene(GREEN, SQUARE)).reason == (
            "the red circle: a green circle stands in its place"
        )
        assert success(MOVE, SCENE).reason == "the red circle: place, still in its old place"
        assert success(RECOLOUR, scene(SQUARE)).reason == "the green circle: not found"

    def test_what_a_later_step_adds_is_not_what_stood_there(self) -> None:
        """Of a copy, the circle that has to go has two thirds of the look and place of the star to add."""
        source = scene(thing("red", "circle", 10, 13, 25), thing("red", "diamond", 40, 31, 16))
        asked = "delete the red circle and finally put a red star to the left of the red diamond"
        assert success(asked, source, source).score == 0


def case(instruction: str, source: Scene = SCENE) -> ExactCase:
    op = parse_instruction(instruction)
    if op.kind == "add":  # the searched place would have to be free by a margin
        op = replace(op, box=(24, 2, 38, 16) if op.place == "top" else (24, 24, 38, 38))
    return ExactCase("move", source, apply(source, op), op.steps, instruction, 1)


def scores(of: ExactCase, picture: Image.Image) -> dict:
    return two_scores(of, picture, detect(picture), RULES)


class TestOverEditing:
    def test_nothing_outside_is_ten_and_as_much_as_the_edit_is_none(self) -> None:
        asked = case(RECOLOUR)
        assert scores(asked, render(asked.target))["over_editing"] == 10
        assert scores(asked, render(asked.target))["value"] == 1
        kept = outside(64, asked.expected, (), RULES.halo)
        assert kept[0, 0] and not kept[30, 10] and kept[30, 50]
        before, pixels = asked.before, np.asarray(asked.before).astype(int)
        pixels[44:64] += 32  # 20 levels count of each of 20 rows
        judged = excess_of(before, Image.fromarray(pixels.astype(np.uint8)), kept, 2 * 20 * 20 * 64, RULES)
        assert (judged.share, judged.score) == (0.5, 5)
        assert excess_of(before, before, kept, asked.true_change, RULES).score == 10

    def test_it_falls_with_each_pixel_and_level(self) -> None:
        asked = case(RECOLOUR)
        target = np.asarray(render(asked.target)).astype(int)

        def over(rows: int, levels: int) -> float:
            pixels = target.copy()
            pixels[:rows, :] = np.clip(pixels[:rows, :] + levels, 0, 255)
            return scores(asked, Image.fromarray(pixels.astype(np.uint8)))["over_editing"]

        by_area = [over(rows, 40) for rows in (0, 2, 4, 8, 16, 20)]
        by_levels = [over(10, levels) for levels in (0, 12, 16, 24, 48, 96)]
        assert by_area == sorted(by_area, reverse=True) and len(set(by_area)) > 4
        assert by_levels == sorted(by_levels, reverse=True) and len(set(by_levels)) > 4
        assert by_levels[:2] == [10, 10], "what an autoencoder does is free"
        assert min(*by_area, *by_levels) >= 0

    @pytest.mark.parametrize("other", [(), (thing("green", "square", 40, 22),), (at(SQUARE, 42, 42),)])
    def test_another_object_changed_is_over_editing(self, other: tuple[SceneObject, ...]) -> None:
        judged = scores(case(RECOLOUR), render(scene(GREEN, *other)))
        assert judged["success"] == 10 and judged["over_editing"] < 3
        assert judged["value"] == pytest.approx(judged["over_editing"] / 10)
        assert "outside changes" in judged["reason"]

    def test_other_right_places_are_no_over_editing(self) -> None:
        for x, y in ((2, 44), (3, 46), (0, 43)):
            judged = scores(case(MOVE), render(scene(at(CIRCLE, x, y), SQUARE)))
            assert judged["value"] == 1, (x, y, judged)

    def test_what_covers_another_object_is_over_editing(self) -> None:
        giant = render(scene(CIRCLE, SQUARE, thing("green", "cross", 8, 0, 48)))
        asked = case("add a green cross in the center")
        assert (
            scores(asked, giant)["over_editing"] < scores(asked, render(asked.target))["over_editing"] == 10
        )


class TestAgreement:
    def agreements(self, instruction: str, after: Scene) -> tuple[float, float]:
        """With the source, and with what is asked."""
        found, expected = true_detections(after), case(instruction).expected
        asked = of_edit(expected, found, 64, RULES)
        return agreement(found, of_scene(SCENE, RULES), RULES), agreement(found, asked, RULES)

    @pytest.mark.parametrize(
        ("instruction", "objects", "source", "target"),
        [
            (RECOLOUR, (CIRCLE, SQUARE), 1, 5 / 6),
            (RECOLOUR, (GREEN, SQUARE), 5 / 6, 1),
            (REMOVE, (SQUARE,), 2 / 3, 1),
            (REMOVE, (CIRCLE, SQUARE), 1, 2 / 3),
            (ADD, (CIRCLE, SQUARE, at(CROSS, 24, 2)), 4 / 5, 1),
            (MOVE, (at(CIRCLE, 2, 44), SQUARE), 5 / 6, 1),
            (MOVE, (CIRCLE, SQUARE), 1, 5 / 6),
            (MOVE, (at(CIRCLE, 24, 2), SQUARE), 5 / 6, 5 / 6),
            (RECOLOUR, (), 0, 0),
        ],
    )
    def test_thirds(self, instruction: str, objects: tuple, source: float, target: float) -> None:
        assert self.agreements(instruction, scene(*objects)) == pytest.approx((source, target))

    def test_a_place_counts_by_its_overlap(self) -> None:
        near = [self.agreements(REMOVE, scene(at(CIRCLE, 4 + k, 22), SQUARE))[0] for k in (0, 2, 6, 12, 30)]
        assert near == sorted(near, reverse=True) and near[0] == near[1] == 1 > near[2] > near[3]

    def test_the_share_that_was_made(self) -> None:
        assert [made_of(0.8, after) for after in (0.8, 1.0, 0.9)] == pytest.approx([0, 1, 0.5])
        assert made_of(0.8, 0.7) == pytest.approx(-0.5) and made_of(0.9, 0.0) == -1

    def test_two_empty_scenes_agree(self) -> None:
        assert agreement([], [], RULES) == 1


def test_true_results_show_objects_where_they_were_put() -> None:
    asked = case(MOVE)
    put = render(scene(at(CIRCLE, 3, 45), SQUARE))
    judged = success_of(detect(put), asked.source, asked.expected, RULES)
    assert difference(asked.true_result(judged.placed), put).max() == 0
    assert difference(asked.true_result({}), put).max() > 0
