"""A judge by a real server on this machine: states, retries, limits, and what is kept."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from got_core.evaluate.judges.call import Call, Verdict
from got_core.evaluate.judges.export import COLUMNS, export_ledger, ledger_table
from got_core.evaluate.judges.faults import JudgeError, JudgePaused
from got_core.evaluate.judges.questions import call_key, question_of
from got_core.evaluate.judges.replies import Scores, UnreadableReply, read_scores
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer, completion
from tests.got_core.evaluate.judges.calls import (
    MODEL,
    TEMPLATE,
    TWO,
    attempt_of,
    call,
    entries,
    judge_at,
    number_of,
    shown,
)
from tests.got_core.evaluate.judges.generated_replies import replies

GOOD = json.dumps({"score": [7, 8], "reasoning": "the hat is gone"})
SECRET = "sk-secret-of-the-judge"
Answer = Callable[[dict[str, Any]], Any]


def judged(
    server: ChatServer, home: Path, calls: list[Call], read: Any = TWO, **settings: Any
) -> list[Verdict]:
    with judge_at(server.url, home, **settings) as judge:
        found = dict(judge.each(calls, read))
    return [found[index] for index in range(len(calls))]


def plain_or(answer: Callable[[int, int], Any]) -> Answer:
    """Answers by call and attempt; the plain request behind a refused one is answered."""

    def of_body(body: dict[str, Any]) -> Any:
        number = number_of(body)
        return "a red disc" if number is None else answer(number, attempt_of(body))

    return of_body


def test_generated_replies_by_a_server(tmp_path: Path) -> None:
    """Each call has three replies: the first that can be read, or refuses, is the last one asked for."""
    made = replies(3 * 400, seed=7)
    triples = [made[k : k + 3] for k in range(0, len(made), 3)]
    asked: Counter[int] = Counter()
    lock = threading.Lock()

    def answer(number: int, attempt: int) -> web.Response:
        with lock:
            asked[number] += 1
        return web.json_response(triples[number][attempt - 1].response)

    calls = [call(number) for number in range(len(triples))]
    with ChatServer(plain_or(answer)) as server:
        verdicts = judged(server, tmp_path, calls, refusals_in_a_row=1000)
        assert max(asked.values()) == 3 and sum(asked.values()) == len(server.requests)
        again = judged(server, tmp_path, calls)
        assert again == verdicts and sum(asked.values()) == len(server.requests), "nothing is asked again"
    for number, (verdict, triple) in enumerate(zip(verdicts, triples, strict=True)):
        decides = next((k for k, one in enumerate(triple) if one.state != "unreadable"), 2)
        made_as = triple[decides]
        values = verdict.value.values if verdict.value else None
        assert (verdict.state, values) == (made_as.state, made_as.values), (made_as, verdict)
        assert verdict.calls == asked[number] == decides + 1
        assert (verdict.reason == "") == (verdict.state == "scored")
    table = ledger_table(Storage(f"file://{tmp_path}"), "answers")
    assert table.height == sum(asked.values()), "every reply is a row"
    counts = Counter(one.state for k, triple in enumerate(triples) for one in triple[: asked[k]])
    assert dict(table["state"].value_counts().iter_rows()) == counts


def test_what_is_sent_and_what_is_kept(tmp_path: Path) -> None:
    reply = {"model": MODEL, **completion(GOOD, tokens_in=100, tokens_out=20)}
    with ChatServer(lambda _: web.json_response(reply)) as server:
        (verdict,) = judged(
            server, tmp_path, [call(3)], api_key=SECRET, price_in=1e6, price_out=1e5, revision="r1"
        )
        (body,) = server.bodies
    kinds = [part["type"] for part in body["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"], "in the order of the parts"
    urls = [part["image_url"]["url"] for part in body["messages"][0]["content"][:2]]
    assert all(url.startswith("data:image/png;base64,") for url in urls) and len(set(urls)) == 2
    assert (
        (body["max_tokens"], body["temperature"]) == (300, 0)
        and "seed" not in body
        and "logprobs" not in body
    )
    assert verdict.value == Scores((7.0, 8.0), "the hat is gone") and verdict.reply == GOOD
    assert (verdict.calls, verdict.tokens_in, verdict.tokens_out, verdict.cost) == (1, 100, 20, 102.0)
    (row,) = ledger_table(Storage(f"file://{tmp_path}"), "answers").iter_rows(named=True)
    assert (row["judge"], row["revision"], row["model"], row["state"]) == (MODEL, "r1", MODEL, "scored")
    assert row["asked"] == verdict.asked and row["asked"].startswith("20") and row["reply"] == GOOD
    assert row["pictures"] == [shown(6).sha256, shown(7).sha256] and row["prompt"] == call(3).prompt
    assert (row["step"], row["attempt"], row["cost"]) == ("test rating", 1, 102.0)
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_keys_are_those_of_the_ledger() -> None:
    config = judge_at("http://127.0.0.1:9/v1", Path("/nowhere"), revision="ü").config
    odd = call(1, parts=('"quoted"\n – 好 \ud83d', shown(1), "", shown(2)))  # noqa: RUF001
    for one in (call(1), odd, call(2, parts=("text alone",))):
        for attempt in (1, 2, 3):
            for asked in (None, "2026-01-01"):
                assert call_key(config, one, attempt, asked) == question_of(config, one, attempt, asked).key
    plain = judge_at("http://127.0.0.1:9/v1", Path("/nowhere")).config
    assert call_key(plain, call(1), 1) == "6b16ff83b4fdacebf45d0f794842151b5c755842", (
        "stored replies count on"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"template": f"{TEMPLATE} Be strict."},
        {"parts": (shown(0), shown(1), "Rate edit 00")},
        {"parts": (shown(1), shown(0), "Rate edit 0")},
        {"parts": (shown(0), shown(5), "Rate edit 0")},
        {"max_tokens": 301},
    ],
)
def test_another_call_is_another_question(changes: dict[str, Any]) -> None:
    with judge_at("http://127.0.0.1:9/v1", Path("/nowhere")) as judge:
        assert judge.key(call(0, **changes)) != judge.key(call(0))
        assert judge.key(call(0, step="another name")) == judge.key(call(0))


def test_another_judge_temperature_or_room_to_think_is_another_question(tmp_path: Path) -> None:
    with ChatServer(lambda _: GOOD) as server:
        for settings in (
            {},
            {"revision": "2"},
            {"model": "other"},
            {"temperature": None},
            {"thinking_tokens": 50},
        ):
            before = len(server.requests)
            judged(server, tmp_path, [call(0)], **settings)
            assert len(server.requests) == before + 1, settings
        assert server.bodies[-1]["max_tokens"] == 350
    assert ledger_table(Storage(f"file://{tmp_path}"), "answers").height == 5


def test_a_reply_that_cannot_be_read_is_handed_back_with_what_is_wrong(tmp_path: Path) -> None:
    bad = ("<think>hm</think>eight", '{"score": [8, 11]}')
    with ChatServer(plain_or(lambda _, attempt: [*bad, GOOD][attempt - 1])) as server:
        (verdict,) = judged(server, tmp_path, [call(0)])
        first, second, third = (body["messages"] for body in server.bodies)
    assert verdict.state == "scored" and verdict.calls == 3 and verdict.tokens_in == 300
    assert second[:1] == first and third[:3] == second
    assert second[1] == {"role": "assistant", "content": "eight"}, "without the reasoning"
    assert "the score 11 is outside of 0 to 10" in third[-1]["content"]


def test_a_better_reader_needs_no_request_and_a_stricter_one_only_what_is_left(tmp_path: Path) -> None:
    def lenient(text: str) -> Scores:
        return Scores((8.0, 8.0)) if text == "eight" else TWO(text)

    def strict(text: str) -> Scores:
        scores = TWO(text)
        if not scores.reasoning:
            raise UnreadableReply("say why")
        return scores

    first = {0: ["eight", "eight", "eight"], 1: ["[7, 8]", GOOD]}
    with ChatServer(plain_or(lambda number, attempt: first[number][attempt - 1])) as server:
        verdicts = judged(server, tmp_path, [call(0), call(1)])
        assert [one.state for one in verdicts] == ["unreadable", "scored"] and len(server.requests) == 4
        better = judged(server, tmp_path, [call(0), call(1)], lenient)
        assert better[0].value == Scores((8.0, 8.0)) and better[0].calls == 1 and len(server.requests) == 4
        stricter = judged(server, tmp_path, [call(1)], strict)
        assert stricter[0].value.reasoning == "the hat is gone" and stricter[0].calls == 2
        assert len(server.requests) == 5, "the first reply is not asked for again"
        assert judged(server, tmp_path, [call(1)])[0].reply == "[7, 8]", "the first readable one counts"


@pytest.mark.parametrize("detail", ["flagged by the content policy", "picture too large"])
def test_a_request_that_is_turned_away(tmp_path: Path, detail: str) -> None:
    """What is shown is refused for good; what a setting may change is asked again."""

    def answer(number: int, _: int) -> Any:
        refused = web.json_response({"error": {"message": detail}}, status=400)
        return refused if number == 1 else GOOD

    with ChatServer(plain_or(answer)) as server:
        verdicts = judged(server, tmp_path, [call(0), call(1)])
        assert [one.state for one in verdicts] == ["scored", "refused"]
        assert detail in verdicts[1].reason and "answers other requests" in verdicts[1].reason
        before = len(server.requests)
        again = judged(server, tmp_path, [call(0), call(1)])
        assert [one.state for one in again] == ["scored", "refused"]
        assert len(server.requests) - before == (0 if "flagged" in detail else 3)


FAULTS: dict[str, Callable[[], web.Response]] = {
    "500": lambda: web.Response(status=500),
    "html": lambda: web.Response(text="<html>maintenance</html>"),
    "error in 200": lambda: web.json_response({"error": {"code": 502, "message": "upstream"}}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_never_a_verdict(tmp_path: Path, fault: str) -> None:
    """Three requests at most may have been charged; faults that cost nothing count while others go well."""
    broken = [True]
    asked: Counter[int] = Counter()

    def answer(number: int, attempt: int) -> Any:
        asked[number] += 1
        if number == 5 and broken[0]:
            return "nonsense" if attempt == 1 else FAULTS[fault]()
        return GOOD

    # Others are answered all the while: each of them waits for its own turn.
    calls = [call(5), *(call(number) for number in range(10, 90))]
    with ChatServer(plain_or(answer), latency=0.01) as server:
        (verdict, *others) = judged(server, tmp_path, calls, concurrency=2, retries=10**6)
        assert verdict.state == "unanswered" and "no answer in this run" in verdict.reason
        requests = asked[5]
        assert requests == 3 if fault == "html" else requests >= 3, "one unreadable reply, two failures"
        assert {one.state for one in others} == {"scored"}
        assert set(ledger_table(Storage(f"file://{tmp_path}"), "answers")["state"]) == {
            "scored",
            "unreadable",
        }
        broken[0] = False
        assert judged(server, tmp_path, [call(5)])[0].calls == 2
        assert asked[5] == requests + 1, "the reply that is kept is not asked for again"


def test_a_server_that_is_gone_stops_judging_and_what_is_answered_counts(tmp_path: Path) -> None:
    gone = [True]

    def answer(number: int, _: int) -> Any:
        return web.Response(status=503) if gone[0] and number > 3 else GOOD

    calls = [call(number) for number in range(8)]
    with ChatServer(plain_or(answer)) as server:
        with pytest.raises(JudgePaused, match=r"no reply for .* Judge again when the server is back"):
            judged(server, tmp_path, calls, patience=0.3, concurrency=1)
        with judge_at(server.url, tmp_path) as judge:
            assert [judge.is_answered(one) for one in calls] == [True] * 4 + [False] * 4
            assert [judge.is_answered(one, TWO) for one in calls] == [True] * 4 + [False] * 4
            assert judge.kept(calls[0], TWO) is not None and judge.kept(calls[5], TWO) is None
        gone[0] = False
        before = len(server.requests)
        assert {one.state for one in judged(server, tmp_path, calls)} == {"scored"}
        assert len(server.requests) - before == 4
    with judge_at("http://127.0.0.1:9/v1", tmp_path) as judge:
        assert len(dict(judge.each(calls, TWO))) == 8 and judge.requests == 0, "no server is needed"


def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    calls = [call(number) for number in range(30)]
    with ChatServer(lambda _: web.json_response(completion(GOOD, tokens_in=400, tokens_out=100))) as server:
        for _ in range(2):
            with pytest.raises(JudgePaused, match="budget of the judge's answers"):
                judged(server, tmp_path, calls, budget_tokens=5000)
        with judge_at(server.url, tmp_path) as judge:
            assert 4000 <= judge.spent.tokens <= 5000
            assert judge.spent.tokens == 500 * len(server.requests)
        assert judged(server, tmp_path, calls)[29].state == "scored"
        assert len(server.requests) == 30


def test_another_model_is_noticed_and_nothing_of_it_kept(tmp_path: Path) -> None:
    reply = {"model": "judge-1-mini", **completion(GOOD)}
    with ChatServer(lambda _: web.json_response(reply)) as server:
        with pytest.raises(JudgeError, match="replies as the model 'judge-1-mini', wanted is 'judge-1'"):
            judged(server, tmp_path, [call(0)])
        assert not [one for one in entries(tmp_path) if one["kind"] == "done"]
        assert judged(server, tmp_path, [call(0)], served_as="judge-1-mini")[0].model == "judge-1-mini"


def test_a_judge_that_refuses_a_tenth_is_counted(tmp_path: Path) -> None:
    def answer(number: int, _: int) -> str:
        return "I'm sorry, but I can't assist with that." if number % 10 == 3 else GOOD

    with ChatServer(plain_or(answer)) as server:
        verdicts = judged(server, tmp_path, [call(number) for number in range(50)])
        assert len(server.requests) == 50, "a refusal is not asked again"
    assert Counter(one.state for one in verdicts) == {"scored": 45, "refused": 5}
    table = ledger_table(Storage(f"file://{tmp_path}"), "answers")
    assert table.filter(state="refused")["reason"].unique().to_list() == [
        "I'm sorry, but I can't assist with that."
    ]


def test_one_call_at_the_same_time_is_one_request(tmp_path: Path) -> None:
    with ChatServer(plain_or(lambda _, attempt: "eight" if attempt == 1 else GOOD), latency=0.05) as server:
        verdicts = judged(server, tmp_path, [call(0)] * 4)
        assert len(server.requests) == 2 and {one.calls for one in verdicts} == {2}


def test_the_ledger_as_a_file(tmp_path: Path) -> None:
    def answer(number: int, attempt: int) -> str:
        return ["[7, 8]", "eight \ud83d", "I cannot evaluate this."][number]

    storage = Storage(f"file://{tmp_path}")
    with ChatServer(plain_or(answer)) as server:
        judged(server, tmp_path, [call(number) for number in range(3)])
    assert export_ledger(storage, "answers", tmp_path / "out" / "ledger.parquet").height == 5
    export_ledger(storage, "answers/", tmp_path / "out" / "ledger.jsonl")
    table = pl.read_parquet(tmp_path / "out" / "ledger.parquet")
    assert table.schema == COLUMNS
    assert [
        json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()
    ] == table.to_dicts()
    assert Counter(table["state"]) == {"scored": 1, "unreadable": 3, "refused": 1}
    assert sorted(table.filter(state="unreadable")["attempt"]) == [1, 2, 3]
    (path,) = tmp_path.glob("answers/*/*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])  # killed while it wrote
    assert ledger_table(storage, "answers").height == 4
    with pytest.raises(ValueError, match=r"ledger.csv: the ledger is written as .parquet or .jsonl"):
        export_ledger(storage, "answers", tmp_path / "ledger.csv")
    assert ledger_table(storage, "nothing").schema == COLUMNS
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ledger.jsonl", "ledger.parquet"]


def test_readers_of_one_score(tmp_path: Path) -> None:
    with ChatServer(lambda _: "Score: 4/5") as server:
        (verdict,) = judged(server, tmp_path, [call(0)], partial(read_scores, count=1, low=1, high=5))
    assert verdict.value.values == (4.0,)
