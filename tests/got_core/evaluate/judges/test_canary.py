"""The canary: a judge that moves is noticed, one that does not is left alone."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from got_core.evaluate.judges.call import Call, Shown
from got_core.evaluate.judges.canary import canary_check, last_canary
from got_core.evaluate.judges.canary_pairs import OUTCOMES, CanaryPair, canary_pairs
from got_core.evaluate.judges.export import ledger_table
from got_core.evaluate.judges.replies import read_number
from got_core.scenes.reader import read_scene
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judges.calls import TWO, judge_at
from tests.got_core.evaluate.judges.canary_server import Server, checked, put

PAIRS = len(canary_pairs())


def test_pairs_are_drawn_and_show_what_they_are_said_to_show() -> None:
    pairs = canary_pairs()
    assert len(pairs) == 4 * len(OUTCOMES) and sum(one.right for one in pairs) == 4
    for pair in pairs:
        source, edited = pair.source.image(), pair.edited.image()
        assert source.size == edited.size == (256, 256)
        assert bool(np.any(np.asarray(source) != np.asarray(edited))) == ("nothing" not in pair.name)
        assert len(read_scene(source)) == 2, "the scene reader finds both objects"
    (right, nothing, another, much) = (
        {(one.shape, one.color) for one in read_scene(pair.edited.image())} for pair in pairs[:4]
    )
    assert right == {("circle", "green"), ("square", "blue")} and nothing == {
        ("circle", "red"),
        ("square", "blue"),
    }
    assert another == {("circle", "red")} and much == {("circle", "green")}
    assert len({one.sha256 for pair in pairs for one in (pair.source, pair.edited)}) == 4 + 12
    assert pairs is canary_pairs(), "they are drawn once"


def test_a_judge_one_point_higher_is_noticed_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    judge = Server()
    with ChatServer(judge) as server:
        first = checked(server, tmp_path)
        assert first["reference"] and first["note"] is None and len(server.requests) == PAIRS
        assert first["right"] == 8 and first["wrong"] == pytest.approx((1 + 1 + 2) / 3)
        same = checked(server, tmp_path)
        assert not same["reference"] and same["note"] is None and len(server.requests) == 2 * PAIRS
        assert same["overall"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": PAIRS}
        judge.shift = (1.0, 1.0)
        moved = checked(server, tmp_path)
        assert moved["note"].startswith(
            "canary moved by +1.0 (success +1.0, over-editing +1.0; 99 % interval"
        )
        assert f"{PAIRS} pairs, against {first['asked'][:13]}" in moved["note"]
        judge.shift = (0.0, 0.0)
        assert checked(server, tmp_path)["note"] is None, "the first answers stay the reference"
        with judge_at(server.url, tmp_path) as opened:
            requests = len(server.requests)
            assert last_canary(opened, put)["note"] is None and len(server.requests) == requests
    table = ledger_table(Storage(f"file://{tmp_path}"), "answers")
    assert table.height == 4 * PAIRS and set(table["step"]) == {"toy canary"}, "every answer is kept"


def test_one_score_that_moves_down_is_noticed(tmp_path: Path) -> None:
    judge = Server()
    with ChatServer(judge) as server:
        checked(server, tmp_path)
        judge.shift, judge.noise = (0.0, -1.0), 0.3
        note = checked(server, tmp_path)["note"]
        assert note.startswith("canary moved by -0.") and "over-editing -1." in note.replace("-0.9", "-1.")
        judge.shift = (1.0, -1.0)
        result = checked(server, tmp_path)
        assert abs(result["overall"]["mean"]) < 0.2
        assert result["note"].startswith("canary moved by +"), "though the mean over both has not moved"


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_movement(tmp_path: Path, seed: int) -> None:
    judge = Server()
    judge.noise, judge.dice = 0.4, random.Random(seed)
    with ChatServer(judge) as server:
        checked(server, tmp_path, concurrency=1)
        assert [checked(server, tmp_path, concurrency=1)["note"] for _ in range(2)] == [None, None]


def test_a_judge_that_refuses_now_is_noticed(tmp_path: Path) -> None:
    judge = Server()
    with ChatServer(judge) as server:
        checked(server, tmp_path)
        judge.refused = 3
        result = checked(server, tmp_path)
        assert result["states"] == {"scored": PAIRS - 3, "refused": 3} and result["n"] == PAIRS - 3
        assert result["note"] == f"canary moved, 3 of {PAIRS} pairs have no scores any more"
        judge.refused = PAIRS
        result = checked(server, tmp_path)
        assert result["overall"] is None and f"{PAIRS} of {PAIRS} pairs" in result["note"]


def test_each_judge_and_prompt_has_its_own_reference(tmp_path: Path) -> None:
    judge = Server()
    with ChatServer(judge) as server:
        checked(server, tmp_path)
        judge.shift = (1.0, 1.0)
        assert checked(server, tmp_path, revision="2")["reference"]
        assert checked(server, tmp_path, temperature=None)["reference"]
        with judge_at(server.url, tmp_path) as opened:
            strict = partial(_stricter, put)
            assert last_canary(opened, strict) is None
            assert canary_check(opened, strict, TWO)["reference"]


def _stricter(of: Any, pair: CanaryPair) -> Call:
    one = of(pair)
    return Call(step=one.step, template="Be strict. {}", parts=one.parts, max_tokens=one.max_tokens)


def test_a_reference_that_was_broken_off_is_finished_first(tmp_path: Path) -> None:
    judge = Server()
    with ChatServer(judge) as server:
        with judge_at(server.url, tmp_path) as opened:
            call = put(canary_pairs()[0])
            canary = Call(step="x", template=call.template, parts=call.parts, max_tokens=call.max_tokens)
            assert opened.ask(canary, TWO).state == "scored"
        assert checked(server, tmp_path)["reference"] and len(server.requests) == PAIRS


def test_prompts_of_one_figure(tmp_path: Path) -> None:
    one_picture = lambda pair: Call(  # noqa: E731
        step="one", template="Rate {}", parts=(pair.edited, "Rate it"), max_tokens=9
    )
    assert isinstance(one_picture(canary_pairs()[0]).parts[0], Shown)
    reply = ["7"]
    with ChatServer(lambda _: reply[0]) as server, judge_at(server.url, tmp_path) as opened:
        read = partial(read_number, low=0, high=10)
        assert canary_check(opened, one_picture, read)["reference"]
        reply[0] = "6.5"
        assert canary_check(opened, one_picture, read)["note"].startswith("canary moved by -0.5 (1 -0.5;")


def test_a_judge_that_scores_no_pair_is_no_reference_in_silence(tmp_path: Path) -> None:
    judge = Server()
    judge.refused = PAIRS
    with ChatServer(judge) as server:
        for _ in range(2):
            result = checked(server, tmp_path)
            assert result["n"] == 0 and "none of its pairs a score" in result["note"]


def test_a_pair_that_never_gets_an_answer_does_not_hide_that_the_others_move(tmp_path: Path) -> None:
    judge = Server()
    broken = next(iter(judge.known))

    def answer(body: dict[str, Any]) -> str | web.StreamResponse:
        asked = body["messages"][0]["content"][-1]["text"]
        return web.Response(status=500) if asked == broken else judge(body)

    with ChatServer(answer) as server:
        assert checked(server, tmp_path)["reference"]
        judge.shift = (1.0, 1.0)
        moved = checked(server, tmp_path)
        assert moved["note"].startswith("canary moved by +1.0") and moved["n"] == PAIRS - 1
