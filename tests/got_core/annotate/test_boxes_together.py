"""All boxes of a picture in one request: what its reply is good for, and what is asked again one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from got_core.annotate import replies, schemas, t2i
from got_core.annotate.annotator import AnnotationError
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import revision_of
from got_core.annotate.prompt_files import prompt, prompts_hash
from got_core.annotate.replies import Frame, ReplyError
from got_core.chain.boxes import Box
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import (
    SCOPE,
    ChatServer,
    annotate_shard,
    annotator_for,
    completion,
    config_for,
    plain_picture,
    raw_table,
    text_of,
)
from tests.got_core.annotate.scenes_on_hand import table

FRAME = Frame(1000, 1000)
CAT, DOG = ("cat", 0), ("dog", 0)
A, B = Box(10, 20, 30, 40), Box(50, 60, 70, 80)


def entry(label: str, box: Box | None = A, key: str = "bbox_2d") -> dict[str, Any]:
    return {key: None if box is None else [box.x1, box.y1, box.x2, box.y2], "label": label}


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ({"boxes": [entry("cat"), entry("dog", B)]}, {CAT: A, DOG: B}),
        ([entry("dog", B), entry("cat")], {CAT: A, DOG: B}),
        ([entry(" Cat "), entry("dog", None)], {CAT: A, DOG: None}),
        ([entry("cat", key="box"), entry("dog", B, key="bbox")], {CAT: A, DOG: B}),
        ([entry("cat")], {CAT: A}),
        ([entry("cat"), entry("cat", B), entry("dog", B)], {DOG: B}),
        ([entry("cat"), entry("cat"), entry("dog", B)], {DOG: B}),
        ([entry("cat"), entry("doggo", B)], {CAT: A}),
        ([entry("cat"), entry("dog", B), entry("bird", B)], {CAT: A, DOG: B}),
        ([entry("cat"), {"label": "dog"}], {CAT: A}),
        ([entry("cat"), {"bbox_2d": [10, 20, 30], "label": "dog"}], {CAT: A}),
        ([entry("cat"), {"bbox_2d": [0, 0, 2000, 10], "label": "dog"}], {CAT: A}),
        ([entry("cat"), {"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "dog"}], {CAT: A}),
    ],
)
def test_each_name_with_just_its_entry_is_taken(reply: object, found: dict) -> None:
    text = f"```json\n{json.dumps(reply)}\n```"
    assert replies.read_boxes(text, FRAME, (CAT, DOG)) == found


def test_objects_one_after_the_other_are_a_list() -> None:
    text = "\n".join(json.dumps(one) for one in (entry("dog", B), entry("cat")))
    assert replies.read_boxes(text, FRAME, (CAT, DOG)) == {CAT: A, DOG: B}


@pytest.mark.parametrize(
    "reply",
    [
        *("", "[]", "no objects", '{"boxes": []}', '["cat"]', "[10, 20, 30, 40]", "[" * 2000),
        *('{"found": true, "box": [1, 2, 3, 4]}', '{"boxes": {"cat": [1, 2, 3, 4]}}'),
        *('[{"label": 1, "bbox_2d": [1, 2, 3, 4]}]', json.dumps([entry("bird")])),
        json.dumps([entry("cat"), entry("cat")]),
    ],
)
def test_a_reply_without_any_is_none(reply: str) -> None:
    with pytest.raises(ReplyError):
        replies.read_boxes(reply, FRAME, (CAT, DOG))


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        ((A, B), {("cat", 0): A, ("cat", 1): B}),
        ((A, None), {("cat", 0): A, ("cat", 1): None}),
        ((B, A), {}),
        ((None, A), {}),
        ((A, A), {}),
        ((A,), {}),
    ],
)
def test_a_name_listed_twice_has_two_entries_from_left_to_right(boxes: tuple, found: dict) -> None:
    text = json.dumps([*(entry("cat", box) for box in boxes), entry("dog")])
    assert replies.read_boxes(text, FRAME, (CAT, ("cat", 1), DOG)) == found | {DOG: A}


def test_names_that_differ_in_capitals_alone_are_left_to_single_requests() -> None:
    text = json.dumps([entry("cat"), entry("Cat", B), entry("dog")])
    assert replies.read_boxes(text, FRAME, (CAT, ("Cat", 0), DOG)) == {DOG: A}


class Model:
    """Answers requests for boxes: together by `together`, else box A."""

    def __init__(self, together: Callable[[], Any]) -> None:
        self.together = together

    def __call__(self, body: dict[str, Any]) -> Any:
        if text_of(body).startswith("Find each of these"):
            reply = self.together()
            return reply if isinstance(reply, str | web.Response) else json.dumps(reply)
        return json.dumps({"found": True, "box": [A.x1, A.y1, A.x2, A.y2]})


def steps(server: ChatServer) -> Counter[str]:
    return Counter("together" if text_of(b).startswith("Find each") else "single" for b in server.bodies)


def boxes_of(server: ChatServer, storage: Storage, *names: str, **settings: Any) -> list[Box | None]:
    rows = [{"image_id": "image-0", "entities": list(names)}]
    with annotator_for(server, storage, attempts=2, **settings) as annotator:
        frame = t2i.ground_entities(table(rows, schemas.ENTITIES), raw_table(1), plain_picture, annotator)
    if frame["error"][0]:
        raise AnnotationError(frame["reason"][0], frame["error"][0])
    return [t2i.box_of(one) if one["x1"] is not None else None for one in frame["boxes"][0]]


def test_only_what_the_reply_leaves_open_is_asked_one_by_one_and_nothing_twice(storage: Storage) -> None:
    model = Model(lambda: [entry("dog", B), entry("bird", None), entry("cat", B), entry("cat", B)])
    with ChatServer(model) as server:
        found = boxes_of(server, storage, "cat", "dog", "bird")
        assert found == [A, B, None]
        assert steps(server) == {"together": 1, "single": 1}
        assert boxes_of(server, storage, "cat", "dog", "bird") == found
        assert len(server.bodies) == 2, "all of it is in the ledger"


def test_a_useless_reply_is_corrected_once_more_and_then_all_are_asked_one_by_one(storage: Storage) -> None:
    with ChatServer(Model(lambda: "I see a cat and a dog.")) as server:
        assert boxes_of(server, storage, "cat", "dog") == [A, A]
        assert steps(server) == {"together": 2, "single": 2}
        boxes_of(server, storage, "cat", "dog")
        assert len(server.bodies) == 4


def test_a_refusal_is_that_of_the_row(storage: Storage) -> None:
    refused = Model(lambda: web.json_response(completion("", finish="content_filter")))
    with ChatServer(refused) as server, pytest.raises(AnnotationError, match="refused"):
        boxes_of(server, storage, "cat", "dog")
    assert steps(server) == {"together": 1}


def test_what_was_answered_one_by_one_is_not_asked_again(storage: Storage) -> None:
    with ChatServer(Model(lambda: [entry("cat", B), entry("dog", B)])) as server:
        before = boxes_of(server, storage, "cat", "dog", boxes="one by one")
        assert steps(server) == {"single": 2}
        assert boxes_of(server, storage, "cat", "dog") == before == [A, A]
        assert len(server.bodies) == 2
        assert boxes_of(server, storage, "cat", "bird") == [A, A], "one of them was: the other is, too"
        assert steps(server) == {"single": 3}


def test_one_name_and_the_second_of_a_name_alone_are_single_requests(storage: Storage) -> None:
    with ChatServer(Model(lambda: [])) as server:
        boxes_of(server, storage, "cat")
        assert steps(server) == {"single": 1}


def test_many_names_go_in_several_requests(storage: Storage) -> None:
    names = [f"thing {k}" for k in range(30)]
    with ChatServer() as server:
        assert None not in boxes_of(server, storage, *names)
        assert steps(server) == {"together": 3}
    sizes = [text_of(body).count("\n- ") for body in server.bodies]
    assert sorted(sizes) == [6, 12, 12]


def test_the_setting_leaves_the_revision_as_it_is_and_a_changed_prompt_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from got_core.annotate import prompt_files

    config = config_for("http://x/v1")
    assert revision_of(config) == revision_of(config_for("http://x/v1", boxes="one by one"))
    before = prompts_hash()
    changed = prompt_files.Prompt("ground_together", "Other words", prompt("ground_together").schema_text)
    monkeypatch.setattr(prompt_files, "prompt", lambda n: changed if n == "ground_together" else prompt(n))
    assert prompts_hash() != before


def test_a_shard_asks_fewer_requests_and_gives_tables_of_the_same_form(storage: Storage, tmp_path) -> None:
    other = Storage(f"file://{tmp_path / 'other'}")
    with ChatServer() as server:
        annotate_shard(server.url, storage.url, 6, {})
        together = len(server.requests)
        annotate_shard(server.url, other.url, 6, {"boxes": "one by one"})
        alone = len(server.requests) - together
    assert (together, alone) == (6 * 4, 6 * 5)  # two names a picture
    for name in ("captions", "entities"):
        assert storage.read_table(name).equals(other.read_table(name))
    assert storage.read_table("t2i_chains")["chain_id"].equals(other.read_table("t2i_chains")["chain_id"])
    assert len(Ledger(storage, SCOPE)) == together
