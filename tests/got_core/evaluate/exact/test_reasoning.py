"""The cases of `reason_edit/scenes`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from got_core.chain.boxes import Box
from got_core.chain.edits import write_edit_chain
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.exact.reason_edit import ReasonEditScenes
from got_core.evaluate.exact.reasoning import reasoning_cases
from got_core.planning.edits import check_edit_plan
from got_core.planning.objects import read_phrase
from got_core.scenes.edits import apply, find, in_turn, instruction, parse_instruction
from got_core.scenes.heldout import is_held_out
from got_core.scenes.reasoning import ASKED, MULTIPLE
from got_core.scenes.world import FULL, NARROW, PLURALS, RGB


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_cases(world) -> None:
    config = EvaluateConfig(reason_images=36)
    cases = reasoning_cases(world, config)
    assert cases == reasoning_cases(world, config) != reasoning_cases(world, replace(config, seed=1))
    assert cases[:6] == reasoning_cases(world, replace(config, reason_images=6))
    assert Counter(case.kind for case in cases) == dict.fromkeys(ASKED, 6)
    assert len({case.instruction for case in cases}) > 30
    for case in cases:
        target = apply(case.source, in_turn(case.ops))
        assert target == case.target != case.source
        assert not any(is_held_out(one.objects, world) for one in (case.source, case.target))
        assert (len(case.ops) > 1) == (case.kind == MULTIPLE)
        with pytest.raises(ValueError, match="not a scene edit"):
            parse_instruction(case.instruction)


def test_no_instruction_names_its_object() -> None:
    """Colour and shape of what is edited never stand together in front of the edit."""
    for case in reasoning_cases(NARROW, EvaluateConfig(reason_images=36)):
        words = case.instruction.replace(" into ", " with ").partition(" with ")[0]
        for op in case.ops:
            assert (op.shape, op.color) != read_phrase(words, [*PLURALS], [*RGB]) or "mirror" in words, words
            assert op.phrase not in words


def test_a_world_that_is_too_small_is_named() -> None:
    one = replace(NARROW, max_objects=1)
    with pytest.raises(ValueError, match=r"no scene for left_right instructions .* more objects"):
        reasoning_cases(one, EvaluateConfig(reason_images=1))


def test_plans_are_repaired_by_what_the_instruction_comes_to() -> None:
    suite = ReasonEditScenes(NARROW, EvaluateConfig(reason_images=24))
    index, case = next((k, one) for k, one in enumerate(suite.cases) if one.ops[0].kind == "move")
    (op,) = case.ops
    box = Box.from_pixels(case.source.objects[find(case.source, op.color, op.shape)].box, 64, 64)
    chain = write_edit_chain("things", f"the {op.phrase}", box, f"move it to {box}", "things")
    plain = instruction(op)
    assert [fault.kind for fault in check_edit_plan(chain, plain)] == ["place"]
    assert check_edit_plan(suite.repair(index, chain), plain, slack=15) == []
