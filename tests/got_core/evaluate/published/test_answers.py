"""GenEval 2 through the interface of published benchmarks."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from got_core.evaluate.geneval.scene_reader import SceneReader
from got_core.evaluate.published.benchmark import OUTCOMES, NothingJudgesError
from got_core.evaluate.published.downloads import MissingDownloadError
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.scores import IncompleteRunError
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.geneval2.lists import judge_at
from tests.got_core.evaluate.geneval2.viewers import looking
from tests.got_core.evaluate.published.downloads import write_data
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

NAMES = ("geneval2", "geneval2/published")


@pytest.mark.parametrize("name", NAMES)
def test_from_drawing_to_scores(tmp_path: Path, place: Path, name: str) -> None:
    folder, store = (Storage(f"file://{tmp_path / part}") for part in ("pictures", "store"))
    options = {"sampler": {"num_inference_steps": 2}, "weights_hash": "0" * 64}
    benchmark = published_benchmark(name)
    assert benchmark.by_server
    drawing = benchmark.open(place, networks=False)
    assert drawing.generate(sees_its_conditions(tiny_pipeline()), folder, **options) == 6
    with ChatServer(looking) as server:
        opened = benchmark.open(place, judge=judge_at(server.url))
        frame = opened.judge(folder, store=store, prefix="kept")
        asked = len(server.requests)
        assert opened.judge(folder, store=store, prefix="kept").equals(frame)
        assert len(server.requests) == asked, "kept"
    protocol = opened.protocol(plan=True, sampler=options["sampler"])
    assert protocol.name.startswith(name) and protocol.plan is True
    scores = opened.scores(frame, protocol=protocol)
    assert (scores["benchmark"], scores["of"], scores["partial"]) == (name, "6 / 6", False)
    assert scores["notes"] == list(opened.notes) and "not the published list" in scores["notes"][0]
    assert 0 <= scores["low"] <= scores["overall"] <= scores["high"] <= 100
    outcomes = opened.outcomes(frame)
    assert tuple(outcomes.columns) == OUTCOMES and outcomes["sample_id"].is_unique().all()
    means = dict(outcomes.group_by("task").agg(pl.col("value").mean()).iter_rows())
    assert means == pytest.approx({task: one["mean"] for task, one in scores["tasks"].items()})
    assert opened.grid(folder, frame).startswith(b"\x89PNG") and opened.grid(None, frame) == b""

    folder.delete("pictures/00003.png")
    with pytest.raises(ValueError, match=r"pictures/00003.png: is missing"):
        opened.judge(folder, store=store, prefix="kept")
    part = opened.judge(folder, store=store, prefix="kept", partial=True)
    with pytest.raises(IncompleteRunError):
        opened.scores(part, protocol=protocol)
    scores = opened.scores(part, protocol=protocol, partial=True)
    assert scores["partial"] and scores["of"] == "5 / 6"


def test_what_each_way_needs(tmp_path: Path, place: Path) -> None:
    data = write_data(tmp_path / "place")
    ours, published = (published_benchmark(name) for name in NAMES)
    assert ours.open(data, judge=judge_at("http://x/v1")).protocol().name.startswith("geneval2/prompts-")
    with pytest.raises(MissingDownloadError, match=r"Qwen3-VL-8B-Instruct/tokenizer.json is missing"):
        published.open(data, judge=judge_at("http://x/v1"))
    with pytest.raises(NothingJudgesError, match="set GOT_JUDGE_URL and GOT_JUDGE_MODEL"):
        ours.open(data)
    with pytest.raises(ValueError, match="not by SceneReader: set GOT_JUDGE_URL"):
        ours.open(data, judge=SceneReader.__new__(SceneReader))
    with pytest.raises(ValueError, match="name their folder"):
        ours.open(data, judge=judge_at("http://x/v1")).judge(
            None, store=Storage(f"file://{tmp_path}"), prefix=""
        )
    wording = published.open(place, judge=judge_at("http://x/v1")).protocol().name
    assert wording.startswith("geneval2/published/wording-")
