"""Plans as documents: written, changed by hand in either of two places, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from got_core.chain.grammar import parse, parse_tolerant
from got_core.inference.plan_document import plan_document, read_plan, write_plan_file

PROMPT = "a photo of a red circle and a blue square"
CHAIN = "a red circle (100,100),(400,400) and a blue square (500,500),(900,900) on grey"


def document(**changed: Any) -> str:
    return json.dumps(plan_document(parse(CHAIN), PROMPT) | changed)


def boxes(*changes: tuple[int, str, Any]) -> list[dict[str, Any]]:
    found = plan_document(parse(CHAIN), PROMPT)["boxes"]
    for index, name, value in changes:
        found[index] = found[index] | {name: value}
    return found


def test_what_is_written_is_read() -> None:
    written = plan_document(parse(CHAIN), PROMPT)
    assert written["boxes"] == [
        {"phrase": "a red circle", "box": [100, 100, 400, 400]},
        {"phrase": "a blue square", "box": [500, 500, 900, 900]},
    ]
    assert (written["faults"], written["dropped"], written["image"]) == ([], [], None)
    found = read_plan(json.dumps(written))
    assert (found.chain, found.prompt, found.image) == (parse(CHAIN), PROMPT, None)


def test_it_names_the_picture_what_is_wrong_and_what_was_left_out(tmp_path: Path) -> None:
    chain, dropped = parse_tolerant("a red circle (1,2),(3")
    edit = plan_document(chain, "remove the red circle", tmp_path / "scene.png", dropped)
    assert (
        edit["dropped"] == [{"text": "(1,2),(3", "reason": edit["dropped"][0]["reason"]}] and edit["faults"]
    )
    assert read_plan(json.dumps(edit)).image == tmp_path / "scene.png"
    assert plan_document(chain, "whatever this may be")["faults"] is None


def test_changed_boxes_change_the_chain() -> None:
    moved = document(boxes=boxes((1, "box", [0, 0, 50, 50])))
    assert read_plan(moved).chain == parse(CHAIN.replace("(500,500),(900,900)", "(0,0),(50,50)"))
    renamed = document(boxes=boxes((0, "phrase", "a green star")))
    assert read_plan(renamed).chain == parse(CHAIN.replace("a red circle", "a green star"))


def test_a_changed_chain_goes_before_boxes_left_as_they_were() -> None:
    text = "a red circle (1,1),(2,2)"
    assert read_plan(document(chain=text)).chain == parse(text)
    assert read_plan(json.dumps({"chain": text})).chain == parse(text)
    alone = {"chain": text, "boxes": [{"phrase": "a red circle", "box": [3, 3, 4, 4]}]}
    assert read_plan(json.dumps(alone)).chain == parse("a red circle (3,3),(4,4)")


@pytest.mark.parametrize(
    "spelled", [parse(CHAIN).to_data(), parse(CHAIN).to_model(), parse(CHAIN).to_marked()]
)
def test_a_chain_alone_may_be_in_any_spelling(spelled: str) -> None:
    found = read_plan(f"\n{spelled}\n")
    assert found.chain.to_data() == CHAIN and found.prompt is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" \n", "it is empty"),
        ("{", "begins like JSON and is none"),
        ('{"boxes": []}', "`chain` is missing"),
        ('{"chain": 3}', "`chain` must be a text"),
        ('{"chain": "a cat", "image": 3}', "`image` must be a text"),
        ("a cat (1,2),(3", "half a box|unfinished"),
        (document(boxes=boxes()[:1]), "must be a list of the chain's 2 boxes"),
        (document(boxes={"a": 1}), "must be a list of the chain's 2 boxes"),
        (document(boxes=[1, 2]), r"`boxes\[0\]` must have"),
        (document(boxes=boxes((1, "box", [1, 2, 3]))), r"`boxes\[1\].box` must be four whole numbers"),
        (document(boxes=boxes((1, "box", [1, 2, 3, 1000]))), r"`boxes\[1\].box`: box y2 = 1000 is outside"),
        (
            document(boxes=boxes((1, "box", [1.5, 2, 3, 4]))),
            r"`boxes\[1\].box`: box x1 must be a whole number",
        ),
        (document(boxes=boxes((0, "phrase", 3))), r"`boxes\[0\]` must have"),
        (document(boxes=boxes((0, "phrase", " "))), "phrase"),
        (document(chain="a cat (1,1),(2,2)", boxes=boxes((0, "phrase", "x"))), "both .* delete `boxes`"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_plan(text)


def test_a_file_is_a_document_or_a_chain_by_its_name(tmp_path: Path) -> None:
    for name in ("plan.json", "plan.txt"):
        write_plan_file(plan_document(parse(CHAIN), PROMPT), tmp_path / name)
        assert read_plan((tmp_path / name).read_text()).chain == parse(CHAIN)
    assert (tmp_path / "plan.txt").read_text() == CHAIN + "\n"
