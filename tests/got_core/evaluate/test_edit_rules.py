"""The rules of edits, and grounding, on pictures and chains with known faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import EditStep, write_edit_chain, write_multi_turn
from got_core.chain.grammar import parse, parse_tolerant
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import detect
from got_core.evaluate.edit_cases import edit_cases
from got_core.evaluate.edit_rules import (
    EditRules,
    change_outside,
    expected_objects,
    judge_edit,
    judge_edit_plan,
    planned_places,
)
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.grounding import grounding_iou
from got_core.scenes.edits import parse_instruction
from got_core.scenes.render import render
from got_core.scenes.world import FULL, NARROW, RGB, Background, Scene, SceneObject
from tests.got_core.evaluate.annotated import annotated_chains

RULES = EditRules()


def thing(color: str, shape: str, x: int, y: int, side: int = 18) -> SceneObject:
    return SceneObject(shape, color, x, y, x + side, y + side, rgb=RGB[color])


GREY = Background(tone="grey", level=150)
SCENE = Scene((thing("red", "circle", 4, 22), thing("blue", "square", 40, 22)), GREY, 64)
"""A red circle on the left and a blue square on the right."""


def verdict(instruction: str, after: Scene | Image.Image, source: Scene = SCENE):
    ops = parse_instruction(instruction).steps
    picture = render(after) if isinstance(after, Scene) else after
    return judge_edit(render(source), picture, detect(picture), expected_objects(source, ops), RULES)


def with_objects(*objects: SceneObject) -> Scene:
    return replace(SCENE, objects=objects)


CIRCLE, SQUARE = SCENE.objects
GREEN, CROSS = thing("green", "circle", 4, 22), thing("green", "cross", 4, 22)

REMOVE = "remove the red circle"
RECOLOUR = "change the red circle to green"
REPLACE = "replace the red circle with a green cross"
REMOVE_SQUARE = "remove the blue square"
ADD = "add a green cross at the top"
MOVE = "move the red circle to the top"
BELOW = "add a green cross below the red circle"


def at(item: SceneObject, x: int, y: int) -> SceneObject:
    """The same thing in another place."""
    return replace(item, x1=x, y1=y, x2=x + 18, y2=y + 18)


class TestPictures:
    @pytest.mark.parametrize("world", [NARROW, FULL])
    def test_true_targets_pass_and_unchanged_sources_do_not(self, world) -> None:
        config = EvaluateConfig(edit_images=40)
        for case in edit_cases(world, config):
            expected = expected_objects(case.source, case.ops)
            before = render(case.source)
            done, undone = (
                judge_edit(before, picture, detect(picture), expected, EditScenes(world, config).rules)
                for picture in (render(case.target), before)
            )
            assert done.correct, (case.instruction, done.reason)
            assert not undone.correct, case.instruction

    @pytest.mark.parametrize(
        ("instruction", "objects", "reason"),
        [
            (REMOVE, (SQUARE,), None),
            (REMOVE, (CIRCLE, SQUARE), "still there"),
            (REMOVE, (at(CIRCLE, 4, 40), SQUARE), "still there"),
            (REMOVE, (), "no blue square"),
            (RECOLOUR, (GREEN, SQUARE), None),
            (RECOLOUR, (at(GREEN, 4, 32), SQUARE), "not where it was"),
            (RECOLOUR, (CIRCLE, SQUARE), "no green circle"),
            (RECOLOUR, (GREEN, thing("green", "square", 40, 22)), "no blue square"),
            (RECOLOUR, (GREEN, at(SQUARE, 40, 34)), "blue square is not where"),
            (REPLACE, (at(CROSS, 4, 22), SQUARE), None),
            (REPLACE, (at(CROSS, 4, 44), CIRCLE, SQUARE), "there is a red circle"),
            (ADD, (CIRCLE, SQUARE, at(CROSS, 24, 2)), None),
            (ADD, (CIRCLE, SQUARE, at(CROSS, 24, 44)), "where it should be"),
            ("add a green cross below the blue square", (CIRCLE, SQUARE, at(CROSS, 42, 44)), None),
            ("move the red circle to the bottom left", (at(CIRCLE, 2, 44), SQUARE), None),
            ("move the red circle to the bottom left", (CIRCLE, at(CIRCLE, 2, 44), SQUARE), "2 red circle"),
            ("move the red circle to the right of the blue square", (CIRCLE, SQUARE), "where it should be"),
        ],
    )
    def test_reasons(self, instruction: str, objects: tuple, reason: str | None) -> None:
        judged = verdict(instruction, with_objects(*objects))
        assert judged.correct == (reason is None)
        assert (reason or "") in (judged.reason or "")

    def test_a_move_needs_a_move_even_where_the_words_were_true(self) -> None:
        diagonal = with_objects(thing("red", "circle", 4, 2), thing("blue", "square", 42, 42))
        judged = verdict("move the red circle above the blue square", diagonal, diagonal)
        assert judged.change == "the red circle has not moved"

    def test_changes_outside_the_boxes_are_measured_and_limited(self) -> None:
        after = render(with_objects(SQUARE))
        pixels = np.asarray(after).astype(int)
        pixels[:, :] = np.clip(pixels + 8, 0, 255)
        lighter = Image.fromarray(pixels.astype(np.uint8))
        assert change_outside(render(SCENE), after, [(4, 22, 22, 40)], 2) == 0
        assert change_outside(render(SCENE), lighter, [(4, 22, 22, 40)], 2) == pytest.approx(8, abs=0.3)
        judged = verdict("remove the red circle", lighter)
        assert (judged.correct, judged.change, judged.others, judged.too_much) == (False, None, None, True)
        assert "8.0 levels outside" in str(judged.reason)
        assert change_outside(render(SCENE), lighter, [(0, 0, 64, 64)], 0) == 0

    def test_several_steps(self) -> None:
        text = f"{RECOLOUR}, then move the green circle to the bottom left, then remove the blue square"
        assert verdict(text, with_objects(thing("green", "circle", 2, 44))).correct
        assert "still there" in str(
            verdict(text, with_objects(thing("green", "circle", 2, 44), SQUARE)).reason
        )
        assert "should be" in str(verdict(text, with_objects(thing("green", "circle", 4, 22))).reason)

    def test_a_step_may_refer_to_what_an_earlier_one_placed(self) -> None:
        text = "add a green cross at the bottom, then add a red square left of the green cross"
        new = thing("green", "cross", 24, 42), thing("red", "square", 2, 44)
        assert verdict(text, with_objects(CIRCLE, SQUARE, *new)).correct
        swapped = thing("green", "cross", 24, 42), thing("red", "square", 44, 44)
        assert "red square is not where" in str(verdict(text, with_objects(CIRCLE, SQUARE, *swapped)).reason)

    def test_an_edit_of_what_is_not_there_is_an_error(self) -> None:
        with pytest.raises(
            ValueError, match="no green circle to edit: the scene shows red circle, blue square"
        ):
            expected_objects(SCENE, [parse_instruction("remove the green circle")])


CIRCLE_BOX = Box.from_pixels(CIRCLE.box, 64, 64)


class TestPlans:
    def test_the_corpus_own_chains_are_right_and_grounded(self) -> None:
        cases = edit_cases(NARROW, EvaluateConfig(edit_images=30))
        for case, chain in zip(cases, annotated_chains(cases), strict=True):
            assert judge_edit_plan(chain, case.source, case.ops, NARROW, RULES) == [], chain.to_data()
            value = grounding_iou(chain, case.source, case.ops)
            assert (value is None or value > 0.95) and (value is None) == all(
                op.kind == "add" for op in case.ops
            )

    @pytest.mark.parametrize(
        ("instruction", "object", "box", "change", "kinds"),
        [
            (REMOVE, "the red circle", CIRCLE_BOX, "remove it", []),
            (REMOVE, "the blue square", CIRCLE_BOX, "remove it", ["object"]),
            (REMOVE, "the red circle", Box(0, 0, 400, 400), "remove it", ["box"]),
            (REMOVE, "the red circle", CIRCLE_BOX, "change it to green", ["change"]),
            (RECOLOUR, "the red circle", CIRCLE_BOX, "change it to green", []),
            (RECOLOUR, "the red circle", CIRCLE_BOX, "change it to blue", ["change"]),
            (REPLACE, "the red circle", CIRCLE_BOX, "replace it with a green cross", []),
            (REPLACE, "the red circle", CIRCLE_BOX, "replace it with a green star", ["change"]),
            (ADD, "a green cross", Box(400, 50, 600, 250), "add it", []),
            (ADD, "a green cross", Box(400, 700, 600, 900), "add it", ["box"]),
            (ADD, "a green cross", Box(500, 50, 500, 50), "add it", ["size"]),
            # 6.9 pixels across, which paint eight columns; half of the smallest object is seven.
            (ADD, "a green cross", Box(436, 50, 544, 250), "add it", []),
            (ADD, "a green cross", Box(407, 50, 484, 250), "add it", ["size"]),
            (MOVE, "the red circle", CIRCLE_BOX, "move it to (400,50),(600,250)", []),
            (MOVE, "the red circle", CIRCLE_BOX, "move it to (0,700),(200,900)", ["change"]),
            (MOVE, "the red circle", CIRCLE_BOX, "move it", ["change"]),
        ],
    )
    def test_faults(self, instruction: str, object: str, box: Box, change: str, kinds: list[str]) -> None:
        chain = write_edit_chain("two things", object, box, change, "the result")
        faults = judge_edit_plan(chain, SCENE, [parse_instruction(instruction)], FULL, RULES)
        assert [kind for kind, _ in faults] == kinds

    def test_what_was_not_written_as_a_chain_is_a_fault(self) -> None:
        chain = write_edit_chain("two things", "the red circle", CIRCLE_BOX, "remove it", "the result")
        dropped = parse_tolerant("a <|box_start|>(9")[1]
        faults = judge_edit_plan(chain, SCENE, [parse_instruction(REMOVE)], FULL, RULES, dropped)
        assert [kind for kind, _ in faults] == ["malformed"]

    def test_places_are_those_of_what_is_added_or_moved_as_it_looks_in_the_end(self) -> None:
        there, then = Box(400, 50, 600, 250), Box(100, 700, 300, 900)
        texts = (
            ADD,
            "change the green cross to blue",
            "move the red circle to the bottom left",
            REMOVE_SQUARE,
        )
        ops = [parse_instruction(text) for text in texts]
        steps = [
            EditStep("a green cross", (there,), "add it"),
            EditStep("the green cross", (there,), "change it to blue"),
            EditStep("the red circle", (CIRCLE_BOX,), f"move it to {then}"),
            EditStep("the blue square", (Box(0, 0, 9, 9),), "remove it"),
        ]
        chain = write_multi_turn("two things", steps, "the result")
        planned = planned_places(chain, SCENE, ops, FULL)
        assert [(one.color, one.cls, one.box) for one in planned] == [
            ("red", "circle", then.to_pixels(64, 64)),
            ("blue", "cross", there.to_pixels(64, 64)),
        ]
        assert planned_places(chain, SCENE, ops[:1], FULL) == []

    def test_a_new_place_is_free(self) -> None:
        """Beside the red circle is right; a pixel of it is its soft edge, more is not."""
        side = CIRCLE_BOX.x2 - CIRCLE_BOX.x1
        for pixels, kinds in ((0, []), (1, []), (4, ["overlap"])):
            left = CIRCLE_BOX.x2 - 1000 * pixels // FULL.size
            box = Box(left, CIRCLE_BOX.y1, left + side, CIRCLE_BOX.y2)
            chain = write_edit_chain("two things", "a green cross", box, "add it", "the result")
            ops = [parse_instruction("add a green cross right of the red circle")]
            faults = judge_edit_plan(chain, SCENE, ops, FULL, RULES)
            assert [kind for kind, _ in faults if kind != "box"] == kinds

    @pytest.mark.parametrize(
        ("before", "after", "kinds"),
        [("grey", "grey", []), ("white", "grey", ["background"]), ("white", "black", ["background"])],
    )
    def test_the_background_is_the_sources(self, before: str, after: str, kinds: list[str]) -> None:
        source, result = (f"two things on a {tone} background" for tone in (before, after))
        chain = write_edit_chain(source, "the red circle", CIRCLE_BOX, "remove it", result)
        faults = judge_edit_plan(chain, SCENE, [parse_instruction(REMOVE)], FULL, RULES)
        assert [kind for kind, _ in faults] == kinds

    def test_chains_of_several_steps(self) -> None:
        ops = [parse_instruction(t) for t in ("change the red circle to green", "remove the green circle")]
        steps = [
            EditStep("the red circle", (CIRCLE_BOX,), "change it to green"),
            EditStep("the green circle", (CIRCLE_BOX,), "remove it"),
        ]
        chain = write_multi_turn("two things", steps, "a blue square")
        assert judge_edit_plan(chain, SCENE, ops, FULL, RULES) == []
        assert grounding_iou(chain, SCENE, ops) > 0.95
        assert [k for k, _ in judge_edit_plan(chain, SCENE, ops[:1], FULL, RULES)] == ["chain"]

    @pytest.mark.parametrize(
        ("then", "object", "box", "change", "kinds"),
        [
            (RECOLOUR, "the red circle", Box(400, 50, 600, 250), "change it to green", []),
            (RECOLOUR, "the red circle", CIRCLE_BOX, "change it to green", ["box"]),
            (BELOW, "a green cross", Box(400, 700, 600, 900), "add it", []),
            (BELOW, "a green cross", Box(0, 50, 200, 250), "add it", ["box"]),
        ],
    )
    def test_what_a_step_has_moved_is_where_the_chain_has_put_it(
        self, then: str, object: str, box: Box, change: str, kinds: list[str]
    ) -> None:
        ops = [parse_instruction(MOVE), parse_instruction(then)]
        moved = EditStep("the red circle", (CIRCLE_BOX,), "move it to (400,50),(600,250)")
        chain = write_multi_turn("two things", [moved, EditStep(object, (box,), change)], "the result")
        assert [kind for kind, _ in judge_edit_plan(chain, SCENE, ops, FULL, RULES)] == kinds

    def test_a_chain_that_is_no_list_is_grounded_by_its_first_box(self) -> None:
        ops = [parse_instruction("remove the red circle")]
        assert grounding_iou(parse(f"the red circle {CIRCLE_BOX} goes"), SCENE, ops) > 0.95
        assert grounding_iou(parse("nothing to see"), SCENE, ops) == 0
        assert grounding_iou(parse("x"), SCENE, [parse_instruction("add a red star at the top")]) is None
