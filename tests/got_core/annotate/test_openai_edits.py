"""The edit pipeline against a chat server: every kind of edit, and several in one instruction."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from got_core.annotate.edit import assemble_edit_chains, describe_edits, ground_edits
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import TASKS
from got_core.annotate.schemas import EDIT_BOXES, EDIT_CHAINS, EDIT_DESCRIPTIONS
from got_core.chain.boxes import WHOLE, Box
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import parse
from got_core.corpus.schemas import EDIT_PAIRS, check_schema
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import SCOPE, ChatServer, annotator_for, plain_picture, text_of
from tests.got_core.annotate.scenes_on_hand import table

INSTRUCTIONS = {
    "add": ("put a kite in the sky", {"object": "kite"}),
    "remove": ("take the bench away", {"object": "bench"}),
    "replace": ("swap the dog for a cat", {"old": "dog", "new": "cat"}),
    "attribute": ("paint the car green", {"old": "car", "new": "green car"}),
    "style": ("as a watercolour please", {"part": "image", "becomes": "watercolour"}),
    "environment": ("let it snow", {"part": "weather", "becomes": "snow"}),
}
SEVERAL = "swap the dog for a cat; paint the car green; put a kite in the sky"


def answer(body: dict[str, Any]) -> str:
    """A model that knows the instructions above."""
    text = text_of(body)
    instruction = re.findall(r"^Instruction: (.*)$", text, re.M)[-1:]
    task = next((t for t, (words, _) in INSTRUCTIONS.items() if [words] == instruction), "other")
    if text.startswith("Split an instruction"):
        return json.dumps({"steps": instruction[0].split("; ")})
    if text.startswith("Say what kind of edit"):
        return json.dumps({"task": task})
    if text.startswith("The instruction below"):
        return json.dumps(INSTRUCTIONS[task][1])
    if text.startswith("Word an instruction"):
        return json.dumps({"instructions": [f"{instruction[0]}, {how}" for how in ("1", "two", "three")]})
    if text.startswith("Describe the image in one or two"):
        mention = re.search(r"in these words: (.*)", text)
        return f"A park with a {mention[1] if mention else 'path'}."
    if text.startswith("This is a detail"):
        return "a thing of that kind."
    if text.startswith("Find this object"):
        left = 10 * len(text.splitlines()[0])
        return f"<|box_start|>({left},100),({left + 90},400)<|box_end|>"
    if text.startswith("Find each of these"):
        names = re.findall(r"^- (.*)$", text, re.M)
        boxes = [[10 * len(name), 100, 10 * len(name) + 90, 400] for name in names]
        return json.dumps(
            [{"bbox_2d": box, "label": name} for box, name in zip(boxes, names, strict=True)][::-1]
        )
    given = dict(re.findall(r"^(\w+): (.*)$", text.rpartition("Now this edit")[2], re.M))
    if "in several turns" in text:
        steps = re.findall(r"^\d+\. task: .*?; instruction: (.*?); object: (.*?); box: (.*)$", text, re.M)[3:]
        middle = [f"the {thing} {box}, {change}" for change, thing, box in steps]
    else:
        middle = [given["Object"], given["Box"], given["Instruction"]]
    items = [given["Source"], *middle, given["Edited"]]
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))


def annotated(storage: Storage, *instructions: str, **settings: Any) -> list:
    rows = [
        {"pair_id": f"p{k}", "source_path": f"{2 * k}.png", "target_path": f"{2 * k + 1}.png"}
        | {"instruction": text}
        for k, text in enumerate(instructions)
    ]
    pairs = table(rows, EDIT_PAIRS)
    with ChatServer(answer) as server, annotator_for(server, storage, **settings) as annotator:
        descriptions = describe_edits(pairs, plain_picture, annotator)
        boxes = ground_edits(pairs, descriptions, plain_picture, annotator)
        return [descriptions, boxes, assemble_edit_chains(pairs, descriptions, boxes, annotator)]


def test_every_kind_of_edit(storage: Storage) -> None:
    tables = annotated(storage, *(words for words, _ in INSTRUCTIONS.values()))
    for frame, columns in zip(tables, (EDIT_DESCRIPTIONS, EDIT_BOXES, EDIT_CHAINS), strict=True):
        check_schema(frame, columns, "table")
        assert frame["error"].to_list() == [None] * 6
        assert (frame["tokens_in"] > 0).all() or frame is tables[1]
    descriptions, boxes, chains = tables
    assert descriptions["task"].to_list() == list(TASKS)
    assert descriptions["instructions"].list.len().to_list() == [4] * 6
    for task, found, text in zip(TASKS, boxes["boxes"], chains["chain"], strict=True):
        (step,) = read_edit_chain(parse(text, "data")).steps
        box = Box(*(found[0][name] for name in ("x1", "y1", "x2", "y2")))
        assert step.boxes == (box,)
        assert (box == WHOLE) == (task in ("style", "environment"))
        assert found[0]["image"] == ("target" if task == "add" else "source")
    assert boxes["object_text"].to_list() == ["a thing of that kind"] * 4 + ["image", "weather"]


def test_several_edits_in_one_instruction(storage: Storage) -> None:
    descriptions, boxes, chains = annotated(storage, SEVERAL)
    steps = [record.step for record in Ledger(storage, SCOPE)._records.values()]
    assert steps.count("ground_together") == 2 and "ground" not in steps, "one request a picture"
    assert descriptions["task"].to_list() == ["multi_turn"]
    assert chains["error"].to_list() == [None] and chains["boxes"].to_list() == [3]
    plan = read_edit_chain(parse(chains["chain"][0], "data"))
    assert [step.object for step in plan.steps] == ["the dog", "the car", "the kite"]
    assert [box["image"] for box in boxes["boxes"][0]] == ["source", "source", "target"]
    assert descriptions["source_text"].to_list() == ["A park with a dog."]


def test_an_edit_of_no_known_kind_is_quarantined(storage: Storage) -> None:
    descriptions, boxes, _ = annotated(storage, "how are you", "take the bench away")
    assert descriptions["reason"].to_list() == ["unknown_task", None]
    assert descriptions["tokens_in"].to_list()[0] > 0
    assert boxes.height == 1


@pytest.mark.parametrize("spelled", ["(0,0),(1,1)", "no box"])
def test_a_chain_with_other_boxes_is_not_taken(storage: Storage, monkeypatch, spelled: str) -> None:
    good = answer

    def wrong(body: dict[str, Any]) -> str:
        text = good(body)
        return re.sub(r"3\. \(.*", f"3. {spelled}", text) if text.startswith("1. ") else text

    monkeypatch.setitem(globals(), "answer", wrong)
    *_, chains = annotated(storage, "take the bench away", attempts=2)
    assert chains["reason"].to_list() == ["bad_reply"]
    assert spelled in chains["raw_reply"][0] and chains["tokens_in"].to_list() == [200]
    assert "exactly these boxes" in chains["error"][0] or "has no box" in chains["error"][0]
