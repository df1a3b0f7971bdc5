"""Checking and repairing the plan of any prompt."""

from __future__ import annotations

from got_core.chain.boxes import Box
from got_core.chain.edits import write_edit_chain
from got_core.chain.grammar import parse, parse_tolerant
from got_core.planning.any_prompt import faults_of, mended, repaired

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
