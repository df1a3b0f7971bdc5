"""A judged benchmark and a real vLLM server: a tiny vision model that was taught what to say of drawn edits.

It gives scores of two kinds of edits, declines to rate a third, and says of the fourth what is no score.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.judged.benchmark import Judged, JudgedBenchmark
from got_core.evaluate.judged.definition import read_definitions
from got_core.evaluate.judges.call import Call
from got_core.evaluate.judges.canary_pairs import CanaryPair, canary_pairs
from got_core.evaluate.judges.export import ledger_table
from got_core.evaluate.judges.faults import JudgePaused
from got_core.evaluate.judges.replies import read_number
from got_core.evaluate.scores import IncompleteRunError
from got_core.storage import Storage
from tests.got_core.evaluate.judges.calls import judge_at
from tests.integration.conftest import check_installed
from tests.integration.small_model import write_model
from tests.integration.vllm_server import VLLMServer

PROMPT = "Rate how well this was done: {instruction}"
DECLINED, NO_SCORE = "I cannot rate this picture.", "it is nice"
PAIRS = len(canary_pairs())

DEFINITION = """
title = "Drawn edits"

[samples]
format = "jsonl"
path = "./samples.jsonl"
fields = { id = "{name}", instruction = "{text}", task = "{kind}" }
shows = { source = "{file}" }

[ask.edit]
prompt = "edit.txt"
shows = ["edited"]
scores = ["success", "restraint"]
low = 0
high = 10
max_tokens = 40

[score]
sample = "min"
factor = 0.1
"""


def taught(pair: CanaryPair) -> str:
    """What the model should reply to a pair."""
    kind = kind_of(pair)
    if kind == "add":
        return DECLINED
    if kind == "replace":
        return NO_SCORE
    return json.dumps({"score": [9 if pair.done else 1, 9 if pair.kept else 3]})


def kind_of(pair: CanaryPair) -> str:
    return pair.name.partition(",")[0]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of our own as a folder, the pictures that it is about, and a model that learned them."""
    check_installed()
    place = tmp_path_factory.mktemp("words")
    folder = place / "judged/drawn"
    folder.mkdir(parents=True)
    rows = []
    for number, pair in enumerate(canary_pairs()):
        (folder / f"{number}.png").write_bytes(png(pair.source.image()))
        edited = place / f"edited/{number:02d}.png"
        edited.parent.mkdir(exist_ok=True)
        edited.write_bytes(png(pair.edited.image()))
        name = f"{number:02d}"
        rows.append({"name": name, "text": pair.instruction, "kind": kind_of(pair), "file": f"{number}.png"})
    (folder / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "benchmark.toml").write_text(DEFINITION)
    (folder / "edit.txt").write_text(PROMPT)
    lessons: list[tuple[str, Image.Image | None, str]] = [
        (PROMPT.format(instruction=pair.instruction), pair.edited.image(), taught(pair))
        for pair in canary_pairs()
    ]
    write_model(place / "model", lessons, steps=400)
    return place


@pytest.fixture(scope="session")
def word_server(place: Path) -> Iterator[VLLMServer]:
    running = VLLMServer(place / "model", place)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def settings(server: VLLMServer) -> dict[str, Any]:
    return {"model": str(server.model), "timeout": 120.0, "patience": 120.0}


def opened(place: Path, server: VLLMServer, tmp_path: Path, **changes: Any) -> JudgedBenchmark:
    (definition,) = read_definitions(place / "judged/drawn", "judged/drawn")
    config = judge_at(server.url, tmp_path, **settings(server) | changes).config
    return JudgedBenchmark.open(definition, place, judge=config)


def judged(benchmark: JudgedBenchmark, place: Path, home: Path) -> Judged:
    return benchmark.judge(Storage(f"file://{place / 'edited'}"), store=Storage(f"file://{home}"))


def test_a_judged_benchmark_from_pictures_to_scores(
    place: Path, word_server: VLLMServer, tmp_path: Path
) -> None:
    benchmark = opened(place, word_server, tmp_path)
    found = judged(benchmark, place, tmp_path)
    states = Counter(found.frame["state"])
    scores = benchmark.scores(found.frame, protocol=benchmark.protocol(), canary=found.canary, partial=True)
    print(states, scores["overall"], scores["of"], scores["notes"])
    assert sum(states.values()) == PAIRS and not {"unanswered", "missing"} & states.keys(), "none is lost"
    assert states["scored"] >= 6 and states["refused"] + states["unreadable"] >= 6
    assert scores["states"]["refused"] == states["refused"] and 0 <= scores["overall"] <= 1
    with pytest.raises(IncompleteRunError, match="partial"):
        benchmark.scores(found.frame)
    for pair, row in zip(canary_pairs(), found.frame.sort("sample_id").iter_rows(named=True), strict=True):
        if row["reply"] == taught(pair):  # it has learned nearly all of them
            wanted = {DECLINED: "refused", NO_SCORE: "unreadable"}.get(taught(pair), "scored")
            assert row["state"] == wanted and (row["value"] is None) == (wanted != "scored"), row
    replies = ledger_table(Storage(f"file://{tmp_path}"), "answers")
    samples = replies.filter(~pl.col("step").str.ends_with("canary"))
    assert set(replies["model"]) == {str(word_server.model)}
    assert (replies["tokens_in"] > 10).all() and (replies["tokens_out"] > 0).all()
    assert PAIRS <= samples.height <= 3 * PAIRS and samples["attempt"].max() == (
        3 if states["unreadable"] else 1
    )
    assert found.canary is not None and found.canary["reference"] and found.canary["pairs"] == PAIRS
    again = judged(opened(place, word_server, tmp_path, patience=1.0, timeout=1.0), place, tmp_path)
    assert again.frame.equals(found.frame), "what is kept needs no request"
    assert ledger_table(Storage(f"file://{tmp_path}"), "answers").height == replies.height


def test_what_a_real_server_refuses(place: Path, word_server: VLLMServer, tmp_path: Path) -> None:
    with pytest.raises(JudgePaused, match=r"HTTP 404: no such URL or model .*judge's settings"):
        judged(opened(place, word_server, tmp_path, model="Qwen/Qwen3-VL-8B-Instruct"), place, tmp_path)
    pair = canary_pairs()[0]
    endless = Call(step="long", template="{}", parts=(pair.edited, "word " * 9000), max_tokens=40)
    with judge_at(word_server.url, tmp_path, **settings(word_server)) as judge:
        verdict = judge.ask(endless, lambda text: read_number(text, 0, 10))
        assert verdict.state == "refused" and "HTTP 400" in verdict.reason
        assert not judge.is_answered(endless), "another server may take it"
