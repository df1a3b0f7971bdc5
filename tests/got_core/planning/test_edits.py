"""Checking edit plans against their instructions, and repairing them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from got_core.chain.boxes import Box
from got_core.chain.edits import EditStep, write_edit_chain, write_multi_turn
from got_core.chain.grammar import Chain, parse, parse_tolerant
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edit_cases import EditCase, edit_cases
from got_core.evaluate.edit_rules import EditRules, judge_edit_plan
from got_core.planning.edits import check_edit_plan, repair_edit_plan
from got_core.scenes.world import FULL, place_of

HERE, THERE = Box(400, 400, 600, 600), Box(50, 60, 250, 260)
ADD = "add a green cross at the top right"
THEN = "move the red circle to the top left, then change the red circle to green"
BELOW = "move the red circle to the top left, then add a blue star below the red circle"


def added(box: Box) -> Chain:
    return write_edit_chain("a red circle", "a green cross", box, "add it", "two things")


def moved_then(object: str, box: Box, change: str, to: Box = THERE) -> Chain:
    steps = [EditStep("the red circle", (HERE,), f"move it to {to}"), EditStep(object, (box,), change)]
    return write_multi_turn("a red circle", steps, "a result")


def boxes(chain: Chain) -> list[Box]:
    return [placed.box for placed in chain.boxes]


class TestCheck:
    @pytest.mark.parametrize(
        ("instruction", "chain", "expected"),
        [
            (ADD, added(Box(700, 100, 900, 300)), []),
            (ADD, added(HERE), [("place", (0,))]),
            (THEN, moved_then("the red circle", THERE, "change it to green"), []),
            (THEN, moved_then("the red circle", HERE, "change it to green"), [("repeat", (2, 1))]),
            (BELOW, moved_then("a blue star", Box(50, 600, 250, 800), "add it"), []),
            (BELOW, moved_then("a blue star", Box(600, 60, 800, 260), "add it"), [("position", (2,))]),
            # Of an object that the chain has not spoken of, nobody knows where it is.
            ("add a green cross below the red circle", added(HERE), []),
            (THEN, added(HERE), [("count", ())]),
            (ADD, parse("no list at all"), [("count", ())]),
            (
                "move the red circle to the top",
                write_edit_chain("a circle", "the red circle", HERE, "move it", "a circle"),
                [("place", ())],
            ),
        ],
    )
    def test_faults(
        self, instruction: str, chain: Chain, expected: list[tuple[str, tuple[int, ...]]]
    ) -> None:
        assert [(fault.kind, fault.boxes) for fault in check_edit_plan(chain, instruction)] == expected

    def test_boxes_in_the_description_of_the_source_are_not_the_steps(self) -> None:
        source = f"a red circle {HERE} on grey"
        chain = write_edit_chain(source, "a green cross", Box(400, 400, 600, 600), "add it", "two things")
        (fault,) = check_edit_plan(chain, ADD)
        assert (fault.kind, fault.boxes) == ("place", (1,))
        first, second = boxes(repair_edit_plan(chain, ADD))
        assert first == HERE
        assert place_of((second.x1, second.y1, second.x2, second.y2), 1000) == "top right"

    def test_a_new_object_does_not_lie_on_another(self) -> None:
        there = Box(750, 0, 950, 100)
        steps = [
            EditStep("the red circle", (there,), "change it to blue"),
            EditStep("a green cross", (Box(709, 50, 909, 250),), "add it"),
        ]
        chain = write_multi_turn("a circle", steps, "two")
        instruction = f"change the red circle to blue, then {ADD}"
        assert [(fault.kind, fault.boxes) for fault in check_edit_plan(chain, instruction)] == [
            ("overlap", (1, 0))
        ]
        assert check_edit_plan(repair_edit_plan(chain, instruction), instruction) == []

    def test_what_was_written_and_not_read_is_a_fault(self) -> None:
        dropped = parse_tolerant("a <|box_start|>(9")[1]
        (fault,) = check_edit_plan(added(Box(700, 100, 900, 300)), ADD, dropped=dropped)
        assert (fault.kind, fault.movable) == ("malformed", False)
        assert "at character 2" in str(fault)

    def test_slack_is_asked_for_besides(self) -> None:
        chain = added(Box(580, 100, 780, 300))
        assert check_edit_plan(chain, ADD, slack=13) == []
        assert [fault.kind for fault in check_edit_plan(chain, ADD, slack=14)] == ["place"]

    def test_relations_are_measured_in_pixels(self) -> None:
        chain = moved_then("a blue star", Box(300, 270, 500, 470), "add it")
        assert check_edit_plan(chain, BELOW, size=(1000, 1000)) == []
        assert [fault.kind for fault in check_edit_plan(chain, BELOW, size=(2000, 1000))] == ["position"]

    def test_an_instruction_that_is_no_edit_says_what_is_understood(self) -> None:
        with pytest.raises(ValueError, match="not a scene edit: 'make it nicer'"):
            check_edit_plan(added(HERE), "make it nicer")
        with pytest.raises(ValueError, match=r"need the picture: give the wording .*reasoning\.resolve"):
            check_edit_plan(added(HERE), "remove the largest shape")


class TestRepair:
    def test_a_place_is_the_nearest_that_suits(self) -> None:
        assert boxes(repair_edit_plan(added(HERE), ADD)) == [Box(567, 233, 767, 433)]
        assert boxes(repair_edit_plan(added(HERE), ADD, slack=10)) == [Box(577, 223, 777, 423)]

    def test_no_other_place_is_nearer(self) -> None:
        other, start = Box(500, 0, 760, 400), Box(300, 500, 500, 700)
        steps = [
            EditStep("the red circle", (other,), "change it to blue"),
            EditStep("a green cross", (start,), "add it"),
        ]
        chain = write_multi_turn("a red circle", steps, "two things")
        found = boxes(repair_edit_plan(chain, f"change the red circle to blue, then {ADD}"))[1]
        cost = abs(found.x1 - start.x1) + abs(found.y1 - start.y1)
        for x, y in product(range(0, 800, 4), repeat=2):
            suits = place_of((x, y, x + 200, y + 200), 1000) == "top right"
            free = x >= other.x2 or x + 200 <= other.x1 or y >= other.y2
            assert not (suits and free) or abs(x - start.x1) + abs(y - start.y1) >= cost
        assert place_of((found.x1, found.y1, found.x2, found.y2), 1000) == "top right"

    def test_a_repeated_box_is_where_the_object_was_left(self) -> None:
        chain = moved_then("the red circle", HERE, "change it to green", to=HERE)
        repaired = boxes(repair_edit_plan(chain, THEN))
        assert repaired[0] == HERE and repaired[1] == repaired[2] != HERE

    def test_words_stay_and_a_right_plan_comes_back_as_it_is(self) -> None:
        right = moved_then("the red circle", THERE, "change it to green")
        assert repair_edit_plan(right, THEN) is right
        repaired = repair_edit_plan(moved_then("the red circle", HERE, "change it to green"), THEN)
        assert repaired == right

    def test_what_no_move_can_mend_stays(self) -> None:
        large = added(Box(100, 100, 900, 900))
        assert repair_edit_plan(large, ADD) == large
        assert [fault.kind for fault in check_edit_plan(large, ADD)] == ["place"]
        assert repair_edit_plan(large, THEN) == large

    def test_plans_with_boxes_anywhere_are_right_afterwards(self) -> None:
        """Objects are found, but all that is placed or repeated stands somewhere.

        New places may lie on objects that chains do not speak of: the chain alone does not show them.
        """
        rng, wrong, right = np.random.default_rng(3), 0, 0
        cases = [case for case in edit_cases(FULL, EvaluateConfig(edit_images=120)) if not _anchored(case)]
        for case in cases:
            chain = _anywhere(case, rng)
            repaired = repair_edit_plan(chain, case.instruction, slack=5)
            rules = EditRules()
            before, after = (
                {kind for kind, _ in judge_edit_plan(one, case.source, case.ops, FULL, rules)} - {"overlap"}
                for one in (chain, repaired)
            )
            wrong += bool(before)
            right += not after
        assert wrong > len(cases) / 4 and right >= 0.98 * len(cases)


def _anchored(case: EditCase) -> bool:
    return any(op.anchor for op in case.ops)


def _anywhere(case: EditCase, rng: np.random.Generator) -> Chain:
    known = {
        f"{o.color} {o.shape}": Box.from_pixels(o.box, FULL.size, FULL.size) for o in case.source.objects
    }
    steps = []
    for op in case.ops:
        x, y = rng.integers(0, 750, size=2).tolist()
        somewhere = Box(x, y, x + 249, y + 249)
        box = known.get(op.phrase, somewhere)
        change = {
            "add": "add it",
            "remove": "remove it",
            "move": f"move it to {somewhere}",
            "recolour": f"change it to {op.new_color}",
            "replace": f"replace it with a {op.new_color} {op.new_shape}",
        }[op.kind]
        name = f"a {op.phrase}" if op.kind == "add" else f"the {op.phrase}"
        steps.append(EditStep(name, (somewhere if op.kind == "add" else box,), change))
    return write_multi_turn("a source", steps, "a result")
