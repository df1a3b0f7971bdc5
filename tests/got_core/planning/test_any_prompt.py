"""Checking and repairing the plan of any prompt."""

from __future__ import annotations

from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import write_edit_chain
from got_core.chain.grammar import parse, parse_tolerant
from got_core.planning.any_prompt import faults_of, mended, repaired
from got_core.scenes.render import render
from got_core.scenes.world import RGB, Background, Scene, SceneObject

OVERLAPPING = parse("a red circle (100,100),(400,400) and a blue square (300,100),(600,400) on grey")
PAIR = "a photo of a circle and a square"
MISPLACED = write_edit_chain("a circle", "a green cross", Box(400, 400, 600, 600), "add it", "two things")
ADD = "add a green cross at the top right"


def kinds(*plan) -> list[str] | None:
    faults = faults_of(*plan)
    return None if faults is None else [fault.kind for fault in faults]


def test_prompts_and_instructions_have_their_own_rules() -> None:
    assert kinds(OVERLAPPING, PAIR, False) == ["overlap"]
    assert kinds(repaired(OVERLAPPING, PAIR, False), PAIR, False) == []
    assert kinds(MISPLACED, ADD, True) == ["place"]
    assert kinds(repaired(MISPLACED, ADD, True), ADD, True) == []


def test_what_is_not_understood_is_not_judged_and_stays() -> None:
    for prompt, has_image in (
        ("a castle at dawn", False),
        ("make it nicer", True),
        (ADD, False),
        (PAIR, True),
    ):
        assert faults_of(OVERLAPPING, prompt, has_image) is None
        assert repaired(OVERLAPPING, prompt, has_image) is OVERLAPPING


def test_text_that_could_not_be_read_is_a_fault() -> None:
    dropped = parse_tolerant("a <|box_start|>(9")[1]
    assert kinds(repaired(OVERLAPPING, PAIR, False), PAIR, False, dropped) == ["malformed"]


def test_the_name_that_older_registry_entries_import() -> None:
    assert mended is repaired


def test_instructions_that_need_reasoning_are_understood_with_the_picture() -> None:
    large = SceneObject("circle", "red", 4, 4, 26, 26, RGB["red"])
    small = SceneObject("square", "blue", 40, 40, 54, 54, RGB["blue"])
    source = render(Scene((large, small), Background("grey", 150), 64))
    moves = "move the largest shape to the top right"
    here = Box.from_pixels(large.box, 64, 64)
    chain = write_edit_chain("two things", "the red circle", here, f"move it to {here}", "two things")
    assert faults_of(chain, moves, True) is None and repaired(chain, moves, True) is chain
    assert [fault.kind for fault in faults_of(chain, moves, True, (), source) or ()] == ["place"]
    assert faults_of(repaired(chain, moves, True, source), moves, True, (), source) == []
    for nothing in ("make it nicer", "remove the green one"):
        assert faults_of(chain, nothing, True, (), source) is None
    photograph = Image.effect_noise((64, 64), 90).convert("RGB")
    assert repaired(chain, moves, True, photograph) is chain
