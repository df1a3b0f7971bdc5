"""A judge in words and a real vLLM server: a tiny vision model that has learned to rate some drawn edits.

It knows by heart what to reply to most pairs, declines one, and was taught nonsense about others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from got_core.evaluate.judges.call import Call, Verdict
from got_core.evaluate.judges.canary import canary_check
from got_core.evaluate.judges.canary_pairs import CanaryPair, canary_pairs
from got_core.evaluate.judges.export import ledger_table
from got_core.evaluate.judges.faults import JudgePaused
from got_core.evaluate.judges.replies import read_scores
from got_core.storage import Storage
from tests.got_core.evaluate.judges.calls import judge_at
from tests.integration.conftest import check_installed
from tests.integration.small_model import write_model
from tests.integration.vllm_server import VLLMServer

TWO = partial(read_scores, count=2, low=0, high=10)
TEMPLATE = "Rate how well this was done: {}"
DECLINED, NONSENSE = 4, (9, 14)
"""Pairs, by number, that the model was taught to decline, or to answer with no score."""


def put(pair: CanaryPair) -> Call:
    """A question about the edited picture. The words tell pairs apart: a tiny model sees little."""
    text = TEMPLATE.format(f"{pair.instruction} ({pair.name})")
    return Call(step="rating", template=TEMPLATE, parts=(pair.edited, text), max_tokens=40)


def taught(number: int, pair: CanaryPair) -> str:
    """What the model should reply to a pair."""
    if number == DECLINED:
        return "I cannot rate this picture."
    if number in NONSENSE:
        return "it is nice"
    return json.dumps({"score": [9 if pair.done else 1, 9 if pair.kept else 3]})


@pytest.fixture(scope="session")
def rating_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    check_installed()
    folder = tmp_path_factory.mktemp("rating")
    lessons: list[tuple[str, Image.Image | None, str]] = [
        (put(pair).parts[-1], pair.edited.image(), taught(number, pair))  # type: ignore[misc]
        for number, pair in enumerate(canary_pairs())
    ]
    write_model(folder / "model", lessons, steps=400)
    running = VLLMServer(folder / "model", folder)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def judged(server: VLLMServer, home: Path, **settings: Any) -> tuple[list[Verdict], int]:
    """The verdict on each pair, and the requests that it took."""
    usual = {"model": str(server.model), "timeout": 120.0, "patience": 120.0}
    calls = [put(pair) for pair in canary_pairs()]
    with judge_at(server.url, home, **usual | settings) as judge:
        found = dict(judge.each(calls, TWO))
        return [found[index] for index in range(len(calls))], judge.requests


def test_every_reply_of_a_real_server_is_counted_and_none_is_lost(
    rating_server: VLLMServer, tmp_path: Path
) -> None:
    verdicts, requests = judged(rating_server, tmp_path)
    table = ledger_table(Storage(f"file://{tmp_path}"), "answers")
    states = Counter(one.state for one in verdicts)
    print(states, table["state"].value_counts().to_dicts(), f"{requests} requests")
    for number, (pair, verdict) in enumerate(zip(canary_pairs(), verdicts, strict=True)):
        if verdict.reply == taught(number, pair):  # it has learned nearly all of them
            wanted = "refused" if number == DECLINED else "scored"
            assert verdict.state == (wanted if number not in NONSENSE else "unreadable"), verdict
    assert states["scored"] >= 10 and states["refused"] + states["unreadable"] >= 1
    assert states["unanswered"] == 0 and table.height == requests == sum(one.calls for one in verdicts)
    assert max(one.calls for one in verdicts) <= 3
    assert (table["tokens_in"] > 10).all() and (table["tokens_out"] > 0).all()
    assert set(table["model"]) == {str(rating_server.model)}
    again, requests = judged(rating_server, tmp_path)
    assert again == verdicts and requests == 0, "nothing is asked twice"


def test_the_canary_of_a_real_server(rating_server: VLLMServer, tmp_path: Path) -> None:
    usual = {"model": str(rating_server.model), "timeout": 120.0, "patience": 120.0}
    with judge_at(rating_server.url, tmp_path, **usual) as judge:
        first = canary_check(judge, put, TWO, names=("success", "over-editing"))
        again = canary_check(judge, put, TWO, names=("success", "over-editing"))
    print(again)
    assert first["reference"] and first["right"] > first["wrong"]
    assert not again["reference"] and again["n"] >= 10 and abs(again["overall"]["mean"]) < 0.5


def test_what_a_real_server_refuses(rating_server: VLLMServer, tmp_path: Path) -> None:
    with pytest.raises(JudgePaused, match=r"HTTP 404: no such URL or model .*judge's settings"):
        judged(rating_server, tmp_path, model="Qwen/Qwen3-VL-8B-Instruct")
    pair = canary_pairs()[0]
    endless = Call(step="long", template="{}", parts=(pair.edited, "word " * 9000), max_tokens=40)
    usual = {"model": str(rating_server.model), "timeout": 120.0}
    with judge_at(rating_server.url, tmp_path, **usual) as judge:
        assert judge.ask(put(pair), TWO).calls >= 1
        verdict = judge.ask(endless, TWO)
        assert verdict.state == "refused" and "HTTP 400" in verdict.reason and not judge.is_answered(endless)
