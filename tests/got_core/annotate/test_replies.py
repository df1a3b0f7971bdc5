from __future__ import annotations

import json
import random
from functools import partial

import polars as pl
import pytest

from got_core.annotate import replies, t2i
from got_core.annotate.prompt_files import prompt, prompt_names
from got_core.annotate.replies import Frame, ReplyError
from got_core.annotate.schemas import BOXES, ENTITIES
from got_core.chain.boxes import WHOLE, Box
from got_core.corpus.schemas import check_schema
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer, annotator_for, plain_picture, raw_table
from tests.got_core.annotate.scenes_on_hand import table

FRAME = Frame(640, 480)
CAPTION = "A Red ball lies near a dog; the dog sleeps on a grey background."
CHAIN = "1. A dog and a ball. 2. the red ball 3. (10,20),(30,40) 4. remove the ball 5. A dog."
READERS = {
    "paragraph": (replies.read_paragraph, CAPTION),
    "entities": (partial(replies.read_entities, caption=CAPTION), '{"entities": ["red ball", "dog"]}'),
    "box": (partial(replies.read_box, frame=FRAME), '{"found": true, "box": [10, 20, 30, 40]}'),
    "steps": (replies.read_steps, '{"steps": ["remove the ball", "make it winter"]}'),
    "task": (partial(replies.read_task, tasks=("add", "remove")), '{"task": "remove"}'),
    "named": (partial(replies.read_named, keys=("old", "new")), '{"old": "dog", "new": "cat"}'),
    "wordings": (replies.read_wordings, '{"instructions": ["a", "b", "c"]}'),
    "chain": (partial(replies.read_chain, boxes=[[Box(10, 20, 30, 40)]]), CHAIN),
}
_PIECES = (
    "```json\n", "\n```", "{", "}", "[" * 50, "]", "NaN", "1e999", "-Infinity", "9" * 400, "\\ud800",
    "\ud800", "\0", "\u2028", '"', "\\", "null", "true", '{"box": ', "<|box_start|>(1,2),(3,4)<|box_end|>",
    "(1,2", "<|im_end|>", "(999,1),(2,2000)", "Sure, here is the JSON:", "不知道", "\ufeff", "1. ", "2. ",
    ": ", ",", "😀" * 3, "-0.5", "1e3",
)  # fmt: skip


def malformed(count: int, seed: int) -> list[str]:
    """Good replies cut, doubled, wrapped, and mixed with what models and broken servers write."""
    rng = random.Random(seed)
    good = [text for _, text in READERS.values()]
    made = ["", " ", "[" * 100_000, '{"a":' * 100_000, "x" * 50_000, "null", "[]", "{}", '"', "[[[[]]]]"]
    while len(made) < count:
        text = rng.choice(good)
        for _ in range(rng.randint(1, 4)):
            at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
            text = rng.choice([
                text[:at],
                text[:at] + text[to:],
                text[:at] + rng.choice(_PIECES) + text[at:],
                text[:at] + rng.choice(_PIECES) + text[to:],
                text + rng.choice(good),
            ])  # fmt: skip
        made.append(text)
    return made


@pytest.mark.parametrize("name", READERS)
def test_good_replies_are_read_however_they_are_wrapped(name: str) -> None:
    read, text = READERS[name]
    value = read(text)
    assert value
    assert read(f"```json\n{text}\n```") == value
    assert read(f"Sure, here is what you asked for:\n{text}") == value


@pytest.mark.parametrize("name", READERS)
def test_malformed_replies_are_read_or_refused(name: str) -> None:
    read = replies.bounded(READERS[name][0])
    refused = 0
    for text in malformed(2000, seed=len(name)):
        try:
            value = read(replies.plain_text(text))
        except ReplyError as error:
            assert str(error)
            refused += 1
        else:
            json.dumps(value, default=str).encode()
    assert 0 < refused < 2000


def test_two_thousand_malformed_replies_from_a_server(storage: Storage) -> None:
    """Each row has a box (or none) or is quarantined with the raw reply; the table can be written."""
    texts = malformed(2000, seed=1)
    rows = [{"image_id": f"image-{k}", "entities": [f"thing {k}"]} for k in range(2000)]

    def answer(body):
        text = body["messages"][0]["content"][-1]["text"]
        return texts[int(text.partition("thing ")[2].split()[0])]

    with (
        ChatServer(answer) as server,
        annotator_for(server, storage, attempts=1, concurrency=16) as annotator,
    ):
        frame = t2i.ground_entities(table(rows, ENTITIES), raw_table(2000), plain_picture, annotator)
    check_schema(frame, BOXES, "boxes")
    storage.write_table("boxes", frame)
    assert storage.read_table("boxes").equals(frame) and frame.height == 2000
    bad = frame.filter(pl.col("error").is_not_null())
    assert set(bad["reason"]) == {"bad_reply"} and bad["raw_reply"].null_count() == 0
    assert 100 < bad.height < 2000
    assert len(server.requests) == 2000


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("<|box_start|>(120,80),(431,655)<|box_end|>", Box(120, 80, 431, 655)),
        ("<|object_ref_start|>dog<|object_ref_end|><|box_start|>(1,2),(30,40)<|box_end|>", Box(1, 2, 30, 40)),
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "dog"}]\n```', Box(10, 20, 30, 40)),
        ('{"found": true, "box": [0, 0, 1000, 1000]}', WHOLE),
        ('{"box": [[1, 2], [30, 40]]}', Box(1, 2, 30, 40)),
        ("The dog is at [10.6, 20.2, 30.9, 40.0].", Box(10, 20, 30, 40)),
        ("[10, 20, 30, 40]", Box(10, 20, 30, 40)),
        ('{"found": false, "box": null}', None),
        ("[]", None),
        ("Not found.", None),
    ],
)  # fmt: skip
def test_boxes(text: str, box: Box | None) -> None:
    assert replies.read_box(text, FRAME) == box


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"box": [10, 20, 1500, 40]}', "within 0..1000"),
        ('{"box": [-3, 5, 50, 1000]}', "within 0..1000"),
        ('{"box": [0, 5, 50, 1000.5]}', "within 0..1000"),
        ('{"box": [300, 400, 100, 200]}', "in this order"),
        ("[10, 20, 30, 40] or [50, 60, 70, 80]", "JSON values"),
        ("(1,2),(30,40) and (5,6),(70,80)", "more numbers"),
        ("The first is at 10, 20, 30, 40.", "no JSON"),
        ("[10, 20, 30, 20, 30, 40, 10, 40]", "four numbers"),
        ("[[1, 2], [30, 2], [30, 40], [1, 40]]", "four numbers"),
        ('[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [5, 6, 70, 80]}]', "holds 2 boxes"),
        (
            '[{"bbox_2d": [1, 2, 3, 40], "label": "a"}, {"bbox_2d": [5, 6, 7, 80], "label": "b"}]',
            "several names",
        ),
        ('{"box": {"x": 1, "y": 2, "w": 3, "h": 4}}', "must be"),
        ('{"x1": 1, "y1": 2, "x2": 30, "y2": 40}', "must be"),
        ('{"found": false, "box": [1, 2, 30, 40]}', "contradict"),
        ("<|box_start|>(1,2),(3", "are written"),
        ('{"box": [0.1, 0.2, 0.5, 0.9]}', "not shares of 1"),
        ('{"box": [10, 20, 10, 400]}', "no area"),
        ('{"box": [10, 20, 30]}', "four numbers"),
        ('{"box": [10, 20, 30, true]}', "four numbers"),
        ('{"box": [10, 20, 30, 1e999]}', "four numbers"),
    ],
)
def test_boxes_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        replies.read_box(text, FRAME)


def test_boxes_in_pixels() -> None:
    assert replies.read_box('{"box": [64, 48, 640, 480]}', Frame(640, 480, pixels=True)) == Box(
        100, 100, 999, 999
    )


def test_entities_are_the_captions_words() -> None:
    text = '["red ball", "dog", "dog", "dog", "unicorn", "grey background", "background"]'
    assert replies.read_entities(text, CAPTION) == ["Red ball", "dog", "dog", "grey background"]
    assert replies.read_entities('{"entities": []}', CAPTION) == []
    with pytest.raises(ReplyError, match="exact words"):
        replies.read_entities('{"entities": ["unicorn"]}', CAPTION)


@pytest.mark.parametrize(
    "text", ["", "...", "Sure, here it is:", "a cat at (1,2),(3,4)", "a <|box_start|> cat"]
)
def test_paragraphs_that_cannot_become_chains(text: str) -> None:
    with pytest.raises(ReplyError):
        replies.read_paragraph(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHAIN.replace("10,20", "11,20"), "exactly these boxes"),
        (CHAIN + " And (1,2),(3,4)", "exactly these boxes"),
        ("a dog (10,20),(30,40)", "numbered items"),
        ("1. a dog 2. (10,20),(30,40) 3. a cat", "is empty"),
    ],
)
def test_chains_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        replies.read_chain(text, [[Box(10, 20, 30, 40)]])


def test_every_prompt_has_a_version_and_its_schema_allows_what_is_read() -> None:
    names = prompt_names()
    assert len({prompt(name).hash for name in names}) == len(names) == 19
    for name in names:
        schema = prompt(name).schema
        if schema is not None:
            assert schema["type"] == "object" and schema["additionalProperties"] is False
            assert all(f'"{key}"' in prompt(name).text for key in schema["required"]), name
        assert ("Reply with one JSON object" in prompt(name).text) == (schema is not None), name
    with pytest.raises(ValueError, match="no prompt 'poem'"):
        prompt("poem")


def test_the_examples_in_the_prompts_can_be_read() -> None:
    """What the prompts show as good is accepted by the readers."""
    example = prompt("edit_chain").text
    found = 0
    for block in example.split("Reply:\n")[1:]:
        reply = block.split("\n\n")[0]
        box = replies.parse_tolerant(reply)[0].boxes[0].box
        assert replies.read_chain(reply, [[box]]).startswith("1. ")
        found += 1
    assert found == 3
    reply = prompt("multi_turn_chain").text.split("Reply:\n")[1].split("\n\n")[0]
    boxes = [[placed.box] for placed in replies.parse_tolerant(reply)[0].boxes]
    assert len(boxes) == 3 and replies.read_chain(reply, boxes)


def test_the_second_of_several_is_the_second_box() -> None:
    listed = '[{"bbox_2d": [1, 2, 30, 40], "label": "dog"}, {"bbox_2d": [50, 6, 70, 80], "label": "dog"}]'
    assert replies.read_box(listed, FRAME, occurrence=1) == Box(50, 6, 70, 80)
    assert replies.read_box("[50, 6, 70, 80]", FRAME, occurrence=1) == Box(50, 6, 70, 80)
    with pytest.raises(ReplyError, match="2 boxes"):
        replies.read_box(listed, FRAME, occurrence=2)
    with pytest.raises(ReplyError, match="left to right"):
        replies.read_box("[[50, 6, 70, 80], [1, 2, 30, 40]]", FRAME, occurrence=1)
