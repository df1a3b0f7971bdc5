"""Judging by a real server on this machine: verdicts, faults, kills, and judges that cannot be believed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.evaluate.geneval2.prompts import Question
from got_core.evaluate.geneval2.questions import NUMBERS, published_way
from got_core.evaluate.geneval2.server import JudgeError, JudgePaused, ServerJudge
from got_core.evaluate.judges.asking import ledger_scope
from got_core.evaluate.protocol import why_unlike
from got_core.evaluate.scores import IncompleteRunError
from got_core.storage import Storage
from tests.faults import answers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Cut
from tests.got_core.annotate.chat_server import ChatServer, completion, name_of, text_of
from tests.got_core.evaluate.geneval2.killed import judge as judge_again
from tests.got_core.evaluate.geneval2.lists import (
    GROUPS,
    ROWS,
    SMALL,
    encoded,
    judge_at,
    write_checkout,
    write_folder,
    write_list,
    write_tokenizer,
)
from tests.got_core.evaluate.geneval2.viewers import (
    MODEL,
    after_self_test,
    answer_of,
    drawing,
    in_self_test,
    looking,
    question_in,
    reply,
    spread,
    without_logprobs,
)

BENCHMARK = GenEval2(config=SMALL)
QUESTIONS = sum(len(row["vqa_list"]) for row in ROWS)
SELF_TEST = 5
"""Questions about known drawings; two statements about one of them are one question."""
SECRET = "sk-secret-of-the-judge"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    samples = BENCHMARK.read(write_list(tmp_path / "list.jsonl"))
    write_folder(Storage(f"file://{tmp_path / 'pictures'}"), samples)
    return tmp_path


def run(
    home: Path, url: str, benchmark: GenEval2 = BENCHMARK, partial: bool = False, **settings: Any
) -> pl.DataFrame:
    samples = benchmark.read(home / "list.jsonl")
    pictures = benchmark.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    judge = judge_at(url, **settings)
    store = Storage(f"file://{home / 'store'}")
    return benchmark.judge(samples, pictures, judge, store=store, partial=partial)


def kept(home: Path) -> list[dict[str, Any]]:
    """What the store keeps of answers about pictures."""
    storage = Storage(f"file://{home / 'store'}")
    lines = [line for name in storage.list("answers/") for line in storage.read_bytes(name).splitlines()]
    entries = [json.loads(line[9:]) for line in lines]
    return [one for one in entries if one["kind"] == "done" and not one["step"].endswith("self-test")]


def test_right_pictures_score_high_and_wrong_ones_low(home: Path) -> None:
    samples = BENCHMARK.read(home / "list.jsonl")
    with ChatServer(looking) as server:
        frame = run(home, server.url)
        assert len(server.requests) == QUESTIONS + SELF_TEST
        assert 2 <= server.most_at_once <= 4
        body = server.bodies[-1]
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
        assert body["temperature"] == 0 and "seed" not in body and "response_format" not in body
        folder = Storage(f"file://{home / 'pictures'}")
        folder.write_bytes("out/picture_2.png", encoded(drawing([(3, "red", "triangle")])))
        other = run(home, server.url)
        assert len(server.requests) == QUESTIONS + 2 * SELF_TEST + 3, "only the other picture is asked about"
    protocol = BENCHMARK.protocol(samples, judge_at(server.url), plan=True)
    scores = BENCHMARK.scores(frame, protocol=protocol)
    yes, number = 0.92, 0.9  # `Yes`, ` Yes` and `yes`; a digit with and without a space
    assert frame["gm"].to_list()[0] == pytest.approx(100 * (yes * yes * number) ** (1 / 3))
    assert scores["skills"]["count"]["mean"] == pytest.approx(100 * number)
    assert scores["skills"]["object"]["mean"] == pytest.approx(100 * yes)
    assert 0 < scores["cut"][1] - scores["overall"] < 0.1 and scores["of"] == "6 / 6"
    wrong = frame.row(2, named=True)["answers"], other.row(2, named=True)["answers"]
    assert [round(one["probability"], 2) for one in wrong[0]] == [0.9, 0.92, 0.92]
    assert [round(one["probability"], 2) for one in wrong[1]] == [0.9, 0.04, 0.92], "they are not blue"
    assert other["gm"][2] < frame["gm"][2] / 2 and other["gm"].to_list()[:2] == frame["gm"].to_list()[:2]
    assert protocol.name.startswith("geneval2/prompts-") and protocol.plan is True
    assert scores["benchmark"] == "geneval2" and scores["protocol_digest"] == protocol.digest()


def test_everything_of_an_answer_is_kept(home: Path) -> None:
    with ChatServer(looking) as server:
        run(home, server.url, api_key=SECRET, price_in=1e6)
        assert run(home, server.url).height == 6
        assert len(server.requests) == QUESTIONS + SELF_TEST, "nothing is asked again, not even the self-test"
    assert run(home, "http://127.0.0.1:9/v1").height == 6, "no server is needed"
    entries = kept(home)
    assert len(entries) == QUESTIONS
    one = entries[0]
    assert (one["model"], one["tokens_in"], one["tokens_out"], one["cost"]) == (MODEL, 100, 1, 100.0)
    answer = json.loads(one["text"])
    assert len(answer["top"]) == 20 and answer["model"] == MODEL and answer["asked"].startswith("20")
    everything = b"".join(path.read_bytes() for path in (home / "store").rglob("*") if path.is_file())
    assert SECRET.encode() not in everything


@pytest.mark.slow
def test_ten_kills_and_nothing_kept_is_asked_again(home: Path) -> None:
    lock, answered = threading.Lock(), Counter[str]()

    def counting(body: dict[str, Any]) -> web.Response:
        if not in_self_test(body):
            with lock:
                answered[name_of(body)] += 1
        return looking(body)

    with ChatServer(counting) as server:
        command = [sys.executable, "-m", "tests.got_core.evaluate.geneval2.killed", str(home), server.url]
        for kill in range(1, 11):
            before = {one["key"] for one in kept(home)}
            assert subprocess.run([*command, "2"], stderr=subprocess.DEVNULL).returncode == -9
            after = [one["key"] for one in kept(home)]
            assert before < set(after) and len(after) == len(set(after)), "each is kept once"
            assert sum(answered.values()) - len(after) <= 4 * kill, "only what was under way is lost"
        frame = judge_again(home, server.url)
    assert len(kept(home)) == QUESTIONS == len(answered)
    fresh = home / "fresh"
    fresh.mkdir()
    for name in ("list.jsonl", "pictures"):
        (fresh / name).symlink_to(home / name)
    with ChatServer(looking) as server:
        assert judge_again(fresh, server.url).equals(frame), "the same as without any kill"


FAULTS: dict[str, Callable[[dict[str, Any]], web.Response]] = {
    "429": lambda _: web.Response(status=429, headers={"Retry-After": "0.02"}),
    "500": lambda _: web.Response(status=500, text="oops"),
    "503": lambda _: web.Response(status=503),
    "html": lambda _: web.Response(text="<html>maintenance</html>"),
    "no choices": lambda _: web.json_response({"choices": []}),
    "error in 200": lambda _: web.json_response({"error": {"code": 502, "message": "upstream"}}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_pass_leave_no_trace(home: Path, name: str) -> None:
    """Every request fails once."""
    lock, known = threading.Lock(), set[str]()

    def failing(body: dict[str, Any]) -> web.Response:
        request = json.dumps(body, sort_keys=True)
        with lock:
            fails = request not in known
            known.add(request)
        return FAULTS[name](body) if fails else looking(body)

    with ChatServer(failing) as server:
        frame = run(home, server.url)
    assert frame["unscored"].null_count() == 6
    assert {one["reason"] for one in kept(home)} == {None} and len(kept(home)) == QUESTIONS


def test_a_question_that_always_fails_is_unscored_until_it_does_not(home: Path) -> None:
    """In any number of runs: a fault is never a verdict."""
    broken, folder = [True], Storage(f"file://{home / 'pictures'}")

    def failing(body: dict[str, Any]) -> web.Response:
        if broken[0] and "triangles blue" in text_of(body):
            return web.Response(status=500)
        return looking(body)

    with ChatServer(after_self_test(failing), latency=0.02) as server:
        for number in range(5):
            for other in (0, 1, 3, 4, 5):  # others are asked too, and go well meanwhile
                picture = encoded(drawing(GROUPS[other]), compress_level=number)
                folder.write_bytes(f"out/picture_{other}.png", picture)
            frame = run(home, server.url, retries=1)
            assert "no answer in this run" in frame["unscored"][2]
            assert frame["gm"].null_count() == 1
            with pytest.raises(IncompleteRunError, match=r"5 / 6 .* 00002 'three blue triangles' \(no"):
                BENCHMARK.scores(frame)
            assert BENCHMARK.scores(frame, partial=True)["of"] == "5 / 6"
        broken[0] = False
        before = len(server.requests)
        assert run(home, server.url)["unscored"].null_count() == 6
        assert len(server.requests) == before + SELF_TEST + 1


def test_what_is_answered_can_be_scored_while_the_server_is_gone(home: Path) -> None:
    broken = [True]

    def dying(body: dict[str, Any]) -> web.Response:
        gone = broken[0] and "triangle" in text_of(body)
        return web.Response(status=503) if gone else looking(body)

    with ChatServer(after_self_test(dying)) as server:
        with pytest.raises(JudgePaused, match="no reply for"):
            run(home, server.url, patience=0.5, concurrency=1)
        frame = run(home, server.url, patience=0.5, concurrency=1, partial=True)
        unscored = frame["unscored"].to_list()
        assert [one is None for one in unscored] == [True, True, False, False, False, False]
        assert unscored[2].startswith("not asked: the server gave no reply for")
        assert BENCHMARK.scores(frame, partial=True)["of"] == "2 / 6"
        broken[0] = False
        assert run(home, server.url, partial=True)["unscored"].null_count() == 6


def test_refused_and_unreadable_replies_are_unscored(home: Path) -> None:
    def odd(body: dict[str, Any]) -> web.Response:
        question = question_in(body)
        if question == "Are the squares green?":
            refused = completion(None)
            refused["choices"][0]["message"]["refusal"] = "I do not look at squares"
            return web.json_response({"model": body["model"], **refused})
        if question == "Are the triangles blue?":
            return reply(body, {"Yes": 0.9, "No": 0.8})
        if question == "Is the circle red?":
            return web.json_response({"error": {"message": "picture too large"}}, status=400)
        return looking(body)

    with ChatServer(after_self_test(odd)) as server:
        frame = run(home, server.url)
        unscored = frame["unscored"].to_list()
        assert unscored[1] == "the judge refused: I do not look at squares"
        assert unscored[2].startswith("the judge's reply cannot be used: the probabilities")
        assert "the judge refused: HTTP 400" in unscored[0] and "answers other requests" in unscored[0]
        assert unscored[3:] == [None, None, None]
        scores = BENCHMARK.scores(frame, partial=True)
        assert scores["found"] == 3 and sum(scores["unscored"].values()) == 3
        before = len(server.requests)
        again = run(home, server.url)
        assert again["unscored"].to_list()[1:] == unscored[1:]
        assert len(server.requests) - before == SELF_TEST + 3, "HTTP 400 is asked once more, with a plain one"
    stored = {one["reason"] for one in kept(home)}
    assert stored == {None, "refused", "bad_reply"}
    (refused,) = [one for one in kept(home) if one["reason"] == "refused"]
    assert refused["detail"] == "I do not look at squares"


def changed(**fields: Any) -> Callable[[dict[str, Any]], web.Response]:
    return lambda body: reply(body, spread(answer_of(body)), **fields)


def as_json(status: int, message: str, **fields: Any) -> Callable[[dict[str, Any]], web.Response]:
    return lambda body: web.json_response({"error": {"message": message, **fields}}, status=status)


def numbered(body: dict[str, Any]) -> web.Response:
    return reply(body, {"token_id:9454": 0.9, "token_id:2753": 0.1})


def blind(body: dict[str, Any]) -> web.Response:
    return reply(body, spread("2" if "How many" in text_of(body) else "Yes"))


def thinking(body: dict[str, Any]) -> web.Response:
    return reply(body, {"<think>": 0.99, "Yes": 0.005, "No": 0.002})


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "no logprobs": (without_logprobs, JudgeError, "cannot judge: the reply has no log-probabilities, though"),
    "tokens as numbers": (numbered, JudgeError, "gives tokens as numbers"),
    "another model": (
        changed(model="small-model"),
        JudgeError,
        "replies as the model 'small-model', wanted is",
    ),
    "blind": (
        blind,
        JudgeError,
        "'Is the circle blue\\?.* gives the wrong answer 'Yes' 0.920, at most",
    ),
    "thinking": (thinking, JudgeError, r"the right answer 'Yes' 0.005, .*first token: '<think>'"),
    "unknown model": (
        as_json(404, "no such model"),
        JudgePaused,
        "no such URL or model.*the judge's settings",
    ),
    "wrong key": (as_json(401, SECRET), JudgePaused, "HTTP 401: the API key is refused; check the judge"),
    "logprobs unknown": (
        as_json(400, "Unrecognized request argument supplied: logprobs"),
        JudgePaused,
        "refuses 'logprobs'.*take a server and a model that give log-probabilities",
    ),
    "logprobs forbidden": (
        as_json(403, "You are not allowed to request logprobs from this model"),
        JudgePaused,
        "HTTP 403: the server refuses 'logprobs'; take a server",
    ),
    "fewer (vLLM)": (
        as_json(400, "Requested sample logprobs of 20, which is greater than max allowed: 5"),
        JudgePaused,
        "greater than max allowed: 5; lower GOT_JUDGE_TOP_LOGPROBS",
    ),
    "fewer (OpenAI)": (
        as_json(400, "Invalid value: must be less than or equal to 5.", param="top_logprobs"),
        JudgePaused,
        "'top_logprobs'.*lower GOT_JUDGE_TOP_LOGPROBS",
    ),
    "no pictures": (
        as_json(400, "model is not a multimodal model"),
        JudgePaused,
        "set GOT_JUDGE_MODEL to a model that takes pictures",
    ),
    "no temperature": (
        as_json(400, "Unsupported value: 'temperature' does not support 0", param="temperature"),
        JudgePaused,
        "set GOT_JUDGE_TEMPERATURE to what it takes",
    ),
    "everything refused": (
        as_json(400, "no"),
        JudgePaused,
        "refuses plain requests too.*the judge's settings",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_judge_that_cannot_tell_is_refused_before_it_is_asked(home: Path, name: str) -> None:
    answer, error, match = UNFIT[name]
    with ChatServer(answer) as server:
        with pytest.raises(error, match=match) as caught:
            run(home, server.url, api_key=SECRET)
        assert all(in_self_test(body) or not body.get("logprobs") for body in server.bodies)
    assert kept(home) == []
    assert SECRET not in str(caught.value) and "GOT_ANNOTATOR" not in str(caught.value)
    assert "annotat" not in str(caught.value) and "step" not in str(caught.value)


def test_a_server_that_loses_its_logprobs_stops_the_run(home: Path) -> None:
    """The self-test had them: a gateway has sent the question to another machine."""
    asked = [0]

    def half(body: dict[str, Any]) -> web.Response:
        asked[0] += 1
        return looking(body) if asked[0] <= 5 else without_logprobs(body)

    with ChatServer(after_self_test(half)) as server:
        with pytest.raises(JudgeError, match="the reply has no log-probabilities"):
            run(home, server.url, concurrency=1)
        assert len(kept(home)) == 5, "what was good is kept, the others are no verdicts"
        server.answer = looking
        assert run(home, server.url)["unscored"].null_count() == 6


def test_a_server_that_is_gone_is_waited_for_and_then_named(home: Path) -> None:
    with pytest.raises(JudgePaused, match=r"no reply for .*Judge again when the server is back"):
        run(home, "http://127.0.0.1:9/v1", patience=0.3)


def test_a_budget_is_kept(home: Path) -> None:
    with ChatServer(looking) as server:
        with pytest.raises(JudgePaused, match=r"budget of the judge's answers .* does not cover"):
            run(home, server.url, budget_tokens=3000)
        assert len(server.requests) * 101 <= 3000
        assert run(home, server.url)["unscored"].null_count() == 6


def test_what_the_server_cuts_off_is_bounded(home: Path) -> None:
    """Of a judge that is unsure, and whose server gives two tokens."""
    flat = {"Yes": 0.3, "No": 0.28, "yes": 0.2, " Yes": 0.12, " yes": 0.06, "2": 0.04}

    with ChatServer(after_self_test(lambda body: reply(body, flat))) as server:
        few = run(home, server.url, top_logprobs=2)
        many = run(home, server.url, top_logprobs=6)
    atom, whole = few["answers"][0][1], many["answers"][0][1]
    assert atom["probability"] == pytest.approx(0.3) and whole["probability"] == pytest.approx(0.68)
    assert atom["bound"] == pytest.approx(min(3 * 0.28, 1 - 0.58)) and whole["bound"] == 0
    few_scores, many_scores = BENCHMARK.scores(few), BENCHMARK.scores(many)
    task = few_scores["skills"]["object"]
    assert task["cut"][0] == task["mean"] < many_scores["skills"]["object"]["mean"] < task["cut"][1]
    assert few_scores["cut"] == [0.0, pytest.approx(few_scores["cut"][1])] and few_scores["cut"][1] > 30
    samples = BENCHMARK.read(home / "list.jsonl")
    unlike = [BENCHMARK.protocol(samples, judge_at("http://x/v1", top_logprobs=k)) for k in (2, 6)]
    assert why_unlike(*unlike) == ["networks.judge.settings.top_logprobs: 2 and 6"]


def test_the_published_way_is_a_protocol_of_its_own(home: Path) -> None:
    way = published_way(write_checkout(home / "GenEval2"), write_tokenizer(home / "tokenizer.json"))
    published = GenEval2(config=SMALL, way=way)
    samples = published.read(home / "list.jsonl")

    def in_words(body: dict[str, Any]) -> web.Response:
        """A judge that begins numbers with a space, as its tokenizer does."""
        answer = answer_of(body)
        return reply(body, {" ": 0.6, answer: 0.3, "x": 0.05} if answer.isdigit() else spread(answer))

    with ChatServer(lambda body: looking(body) if in_self_test(body) else in_words(body)) as server:
        frame = run(home, server.url, published)
        assert text_of(server.bodies[-1]).endswith("? Say it in a word.")
        ours = run(home, server.url)
        assert text_of(server.bodies[-1]).endswith("and nothing else.")
    three = frame["answers"][2][0], ours["answers"][2][0]
    tokens = way.put(samples.all[2].questions[0]).tokens
    assert three[0]["probability"] == pytest.approx(0.6 * tokens[" "] + 0.3) and tokens[" "] >= 2
    assert three[1]["probability"] == pytest.approx(0.3), "a space is no answer"
    scores = published.scores(frame)
    assert scores["benchmark"] == "geneval2/published" and scores["above_one"] >= 1
    judge = judge_at(server.url)
    names = published.protocol(samples, judge).name, BENCHMARK.protocol(samples, judge).name
    assert names[0].startswith("geneval2/published/wording-") and names[1].startswith("geneval2/prompts-")
    other = published.protocol(samples, judge_at(server.url, model="/models/InternVL3/"))
    assert other.name.startswith("geneval2/published/judge-internvl3/wording-")


def test_another_judge_picture_or_revision_is_another_question(home: Path) -> None:
    with ChatServer(looking) as server:
        run(home, server.url)
        for settings in ({"revision": "2"}, {"model": "other"}, {"temperature": None}):
            before = len(server.requests)
            run(home, server.url, **settings)
            assert len(server.requests) - before == QUESTIONS + SELF_TEST, settings
        before = len(server.requests)
        changed_name = lambda body: reply(body, spread(answer_of(body)), model="gateway/x")  # noqa: E731
        server.answer = changed_name
        run(home, server.url, served_as="gateway/x", revision="3")
        assert len(server.requests) - before == QUESTIONS + SELF_TEST


def test_missing_pictures_are_named_in_a_partial_score(home: Path) -> None:
    folder = Storage(f"file://{home / 'pictures'}")
    folder.delete("out/picture_4.png")
    samples = BENCHMARK.read(home / "list.jsonl")
    pictures = BENCHMARK.read_layout(samples, folder, partial=True)
    with ChatServer(looking) as server:
        frame = BENCHMARK.judge(samples, pictures, judge_at(server.url), store=Storage(f"file://{home}/s"))
        assert len(server.requests) == SELF_TEST + QUESTIONS - len(samples.all[4].questions)
    with pytest.raises(IncompleteRunError, match=r"00004 'three green circles.*_4.png: is missing"):
        BENCHMARK.scores(frame)
    scores = BENCHMARK.scores(frame, partial=True)
    assert scores["of"] == "5 / 6" and scores["tasks"]["6 atoms"]["of"] == "1 / 2"
    assert len(GROUPS) == frame.height


@pytest.mark.parametrize(
    "fault",
    [answers.SERVER_ERROR, Cut(None), Cut(0), Cut(400), answers.SLOW_DOWN],
    ids=["500", "cut before", "cut behind", "cut in the middle", "503"],
)
def test_a_connection_that_breaks_is_tried_again(home: Path, fault: Any) -> None:
    with ChatServer(looking) as server, FaultProxy(server.url) as proxy:
        undisturbed = run(home, server.url)
        (home / "store").rename(home / "before")
        proxy.add(fault, method="POST", path="chat/completions", times=4)
        frame = run(home, proxy.url)
        assert proxy.count("POST", "chat/completions") == QUESTIONS + SELF_TEST + 4
    assert frame.equals(undisturbed) and {one["reason"] for one in kept(home)} == {None}


def test_keys_of_stored_answers_stay(tmp_path: Path) -> None:
    """Another key would ask, and pay, for every stored answer again."""
    judge = judge_at("http://127.0.0.1:9/v1", model=MODEL, revision="r1")
    put = NUMBERS.put(Question(text="Is the circle red?", answer="Yes", skill="object"))
    with ServerJudge(judge, NUMBERS, Storage(f"file://{tmp_path}"), "answers") as opened:
        assert opened._asked(put, "a" * 64).key == "fdc2f9584e230a648234deabb51202182567f074"
    assert ledger_scope(judge) == "87cdbf1c8e61"
