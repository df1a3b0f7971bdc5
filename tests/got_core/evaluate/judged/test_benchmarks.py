"""The judged benchmarks that come with the project, from downloads in published formats to scores."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.guidance_grid.prompts import grid_prompts
from got_core.evaluate.judged.benchmark import JudgedBenchmark
from got_core.evaluate.judged.shape import Definition
from got_core.evaluate.published.benchmark import OUTCOMES, NothingJudgesError
from got_core.evaluate.published.downloads import MissingDownloadError
from got_core.evaluate.published.outside import outside_of
from got_core.evaluate.published.registry import PUBLISHED, published_benchmark
from got_core.evaluate.scores import IncompleteRunError
from got_core.recipes import tiny
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judged.made import (
    about_samples,
    encoded,
    fill,
    judge_at,
    level_of,
    looking,
    pictures_in,
    reason_edit,
    shade,
)

NAMES = tuple(one.name for one in PUBLISHED if type(one.opener).__name__ == "JudgedOpener")
COUNTS = {"imagenhub": 4, "gedit": 4, "imgedit": 3, "risebench": 5, "reason_edit": 12}


def definition(name: str) -> Definition:
    return published_benchmark(name).opener.definition


def storages(tmp_path: Path, *names: str) -> list[Storage]:
    return [Storage(f"file://{tmp_path / name}") for name in names]


def test_which_there_are() -> None:
    assert set(NAMES) == {
        *("imagenhub", "imagenhub/published", "imagenhub/viescore", "imagenhub/viescore/published"),
        *("reason_edit", "reason_edit/published", "imgedit", "imgedit/published"),
        *("gedit/en", "gedit/en/published", "gedit/cn", "gedit/cn/published"),
        *("risebench", "risebench/published"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_from_downloads_to_scores(downloads: Path, tmp_path: Path, name: str) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(looking) as server:
        bench = JudgedBenchmark.open(definition(name), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places)
        frame = bench.judge(folder, store=store).frame
        asked = len(server.requests)
        assert bench.judge(folder, store=store).frame.equals(frame) and len(server.requests) == asked, "kept"
    assert frame["state"].unique().to_list() == ["scored"]
    assert frame.height == COUNTS[name.partition("/")[0]]
    scores = bench.scores(frame, protocol=bench.protocol())
    assert scores["protocol"].startswith(f"{name}/judge-eyes")
    assert (scores["of"], scores["partial"]) == (f"{frame.height} / {frame.height}", False)
    assert scores["states"] == {
        "scored": frame.height, "refused": 0, "unreadable": 0, "unanswered": 0, "missing": 0
    }  # fmt: skip
    assert scores["low"] <= scores["overall"] <= scores["high"]
    assert scores["overall"] == pytest.approx(expected_overall(name, frame))
    assert "because" in frame["reply"][0] or "so" in frame["reply"][0], "the judge's words are kept"
    published = name.endswith("/published")
    assert ("wording-" in scores["protocol"]) == published, "our texts stand under the published names"
    assert "samples-" in scores["protocol"] and "the published list has" in scores["notes"][0]


def expected_overall(name: str, frame: pl.DataFrame) -> float:
    """By the documented formulas, from what `looking` says of greys of level 3, 4, ... in order."""
    levels = [min(10, k + 3) for k in range(frame.height)]
    if name in ("imagenhub", "imagenhub/published") or name.startswith("reason_edit"):
        return sum(levels) / len(levels) / 10
    pairs = [math.sqrt(min(k, min(10, k + 1)) ** 2) for k in levels]
    if name.startswith("imagenhub/viescore"):
        return sum(pairs) / len(pairs)
    if name.startswith("gedit"):  # two tasks of two samples
        return (sum(pairs[:2]) / 2 + sum(pairs[2:]) / 2) / 2
    fives = [min(5, max(1, k)) for k in levels]
    if name.startswith("imgedit"):  # each sample is a task of its own
        return sum(fives) / len(fives)
    return 100 * sum(one == 5 for one in fives) / len(fives)


def test_sets_and_languages(downloads: Path, tmp_path: Path) -> None:
    (folder,) = storages(tmp_path, "pictures")
    with ChatServer(looking) as server:
        both = [
            JudgedBenchmark.open(definition(f"gedit/{language}"), downloads, judge=judge_at(server))
            for language in ("en", "cn")
        ]
        for bench in both:  # one folder may hold both languages, and the sources beside
            fill(folder, bench.samples.places)
        folder.write_bytes("fullset/subject-add/en/en0s_SRCIMG.png", b"a source")
        english, chinese = (bench.judge(folder, store=folder_of(tmp_path)).frame for bench in both)
    assert english["prompt"].str.contains("grey").all() and chinese["prompt"].str.contains("灰").all()
    scores = both[0].scores(english)
    assert list(scores["tasks"]) == ["background_change", "subject-add"]
    part = scores["sets"]["intersection"]
    assert part["of"] == "2 / 2"
    assert part["overall"] == pytest.approx(english.filter(pl.int_range(4) % 2 == 0)["value"].mean())
    assert both[0].protocol().digest() != both[1].protocol().digest()
    with pytest.raises(BenchmarkDataError, match=r"files of no sample: 1 \(fullset/subject-add/fr/a.png\)"):
        folder.write_bytes("fullset/subject-add/fr/a.png", b"of nothing")
        both[0].judge(folder, store=folder_of(tmp_path))


def folder_of(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'store'}")


def test_an_edited_picture_is_shown_in_the_size_of_its_source(downloads: Path, tmp_path: Path) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    sizes: list[list[tuple[int, int]]] = []

    def answer(body: dict) -> str:
        sizes.append([one.size for one in pictures_in(body)])
        return looking(body)

    with ChatServer(answer) as server:
        bench = JudgedBenchmark.open(definition("gedit/en"), downloads, judge=judge_at(server))
        for place in bench.samples.places.values():
            folder.write_bytes(f"{place}.png", encoded(shade(4), size=(48, 48)))
        bench.judge(folder, store=store)
        small = JudgedBenchmark.open(definition("risebench"), downloads, judge=judge_at(server))
        for place in small.samples.places.values():
            store.write_bytes(f"rise/{place}.png", encoded(shade(5), size=(1536, 768)))
        sizes_before = len(sizes)
        small.judge(Storage(store.url_of("rise")), store=store, prefix="answers-of-rise")
    canary = (256, 256)
    assert {size for shown in sizes[:sizes_before] for size in shown} == {(24, 16), canary}
    assert {shown[-1] for shown in sizes[sizes_before:]} == {(768, 384), canary}


def test_wordings_and_viescore_share_pictures_and_answers(downloads: Path, tmp_path: Path) -> None:
    """The first question of VIEScore is that of ImagenHub: it is not paid twice."""
    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(looking) as server:
        first, second, published = (
            JudgedBenchmark.open(definition(name), downloads, judge=judge_at(server))
            for name in ("imagenhub", "imagenhub/viescore", "imagenhub/published")
        )
        fill(folder, first.samples.places)
        first.judge(folder, store=store)
        assert len(about_samples(server)) == 4
        frame = second.judge(folder, store=store).frame
        later = about_samples(server)[4:]
        assert [len(pictures_in(body)) for body in later] == [1] * 4, "only the edit is shown"
        published.judge(folder, store=store)
        assert len(about_samples(server)) == 12
    assert frame["score_names"][0].to_list() == ["success", "restraint", "naturalness", "cleanness"]
    records = {one.samples.sha256() for one in (first, second, published)}
    assert len(records) == 1, "they draw the same pictures"


def test_a_judge_that_refuses_a_tenth(downloads: Path, tmp_path: Path) -> None:
    folder, store = storages(tmp_path, "pictures", "store")

    def answer(body: dict) -> str:
        if level_of(pictures_in(body)[-1]) == 3:
            return "I'm sorry, but I can't assist with that request."
        return looking(body)

    with ChatServer(answer) as server:
        bench = JudgedBenchmark.open(definition("reason_edit"), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places, levels=lambda k: 3 if k == 0 else 8)
        frame = bench.judge(folder, store=store).frame
        asked = len(server.requests)
        bench.judge(folder, store=store)
        assert len(server.requests) == asked, "a refusal is kept, too"
    refused = frame.filter(pl.col("state") != "scored")
    assert refused["state"].to_list() == ["refused"] and refused["value"].null_count() == 1
    with pytest.raises(IncompleteRunError, match=r"11 / 12 samples are scored, 1 refused: 1-Left-Right/001"):
        bench.scores(frame, protocol=bench.protocol())
    scores = bench.scores(frame, protocol=bench.protocol(), partial=True)
    assert (scores["partial"], scores["of"], scores["states"]["refused"]) == (True, "11 / 12", 1)
    assert scores["overall"] == pytest.approx(0.8), "a refusal is no score of 0"
    assert scores["tasks"]["1-Left-Right"]["partial"] and scores["tasks"]["1-Left-Right"]["of"] == "1 / 2"
    assert "the judge refused 1 of 12 samples (8.3%)" in scores["notes"]


def test_unreadable_replies_are_counted_and_a_task_without_any_score_leaves_no_total(
    downloads: Path, tmp_path: Path
) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(lambda body: "Between good and bad." if "三" in str(body) else looking(body)) as server:
        bench = JudgedBenchmark.open(definition("imgedit"), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places)
        server.answer = lambda body: "fine work" if "grey cloud" in str(body) else looking(body)
        frame = bench.judge(folder, store=store).frame
    row = frame.row(by_predicate=pl.col("sample_id") == "97", named=True)
    assert (row["state"], row["calls"], row["scores"]) == ("unreadable", 3, [])
    scores = bench.scores(frame, partial=True)
    assert scores["overall"] is None and scores["tasks"]["add"]["mean"] is None
    assert scores["states"]["unreadable"] == 1


def test_missing_and_broken_pictures_are_named(downloads: Path, tmp_path: Path) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(looking) as server:
        bench = JudgedBenchmark.open(definition("imagenhub"), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places)
        folder.delete("100_1.png")
        with pytest.raises(BenchmarkDataError, match=r"missing pictures: 1 \(100_1.png\)"):
            bench.judge(folder, store=store)
        assert not server.requests, "before anything is asked"
        whole = folder.read_bytes("101_1.png")
        folder.write_bytes("100_1.png", b"no picture")
        folder.write_bytes("101_1.png", whole[:60])
        with pytest.raises(
            BenchmarkDataError, match=r"pictures that cannot be judged: 2 .*100_1: the edited"
        ):
            bench.judge(folder, store=store)
        frame = bench.judge(folder, store=store, partial=True).frame
        assert len(about_samples(server)) == 2
    assert frame["state"].to_list() == ["missing", "scored", "missing", "scored"]
    assert bench.scores(frame, partial=True)["states"]["missing"] == 2
    assert "none of PNG" in frame["reason"][0] and " at 0x" not in frame["reason"][0], "alike for all"


def test_a_server_that_is_gone_pauses_and_what_is_answered_counts_on(downloads: Path, tmp_path: Path) -> None:
    from got_core.evaluate.judges.faults import JudgePaused

    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(looking) as server:
        bench = JudgedBenchmark.open(definition("imagenhub"), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places)
        bench.judge(folder, store=store)
        config = judge_at(server, patience=0.2, timeout=0.5, retries=1)
    away = JudgedBenchmark.open(definition("imagenhub/viescore"), downloads, judge=config)
    with pytest.raises(JudgePaused):
        away.judge(folder, store=store)
    frame = away.judge(folder, store=store, partial=True).frame
    assert frame["state"].to_list() == ["unanswered"] * 4
    with pytest.raises(IncompleteRunError, match="0 / 4 samples are scored, 4 unanswered"):
        away.scores(frame)
    kept = JudgedBenchmark.open(definition("imagenhub"), downloads, judge=config)
    assert kept.judge(folder, store=store).frame["state"].to_list() == ["scored"] * 4, "no server is needed"


def test_a_judge_that_answers_a_point_higher_moves_the_canary(downloads: Path, tmp_path: Path) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    higher = 0

    def answer(body: dict) -> str:
        level = min(8, level_of(pictures_in(body)[-1])) + higher
        return f'{{"score": [{level}, {level}], "reasoning": "so"}}'

    with ChatServer(answer) as server:
        bench = JudgedBenchmark.open(definition("imagenhub"), downloads, judge=judge_at(server))
        fill(folder, bench.samples.places)
        first = bench.judge(folder, store=store)
        assert bench.judge(folder, store=store).canary == first.canary, "nothing new: it is not asked again"
        assert first.canary["reference"] and first.canary["note"] is None
        higher = 1
        folder.write_bytes("100_1.png", encoded(shade(7)))
        later = bench.judge(folder, store=store)
    assert later.frame["value"].to_list()[1:] == first.frame["value"].to_list()[1:], "what is kept counts on"
    scores = bench.scores(later.frame, canary=later.canary)
    assert scores["canary"]["moved"]["success"]["mean"] == 1
    assert any(one.startswith("canary moved by +1.0") for one in scores["notes"])


def test_an_opened_benchmark_tells_what_changed_outside_and_shows_a_grid(
    downloads: Path, tmp_path: Path
) -> None:
    folder, store = storages(tmp_path, "pictures", "store")
    with ChatServer(looking) as server:
        opened = published_benchmark("reason_edit").open(downloads, judge=judge_at(server))
        fill(folder, opened.samples.places)
        frame = opened.judge(folder, store=store, prefix="kept")
    scores = opened.scores(frame, protocol=opened.protocol())
    assert scores["benchmark"] == "reason_edit" and scores["canary"]["reference"]
    outside = outside_of(opened, folder, frame)
    assert outside is not None and outside.rows.height == 12
    assert opened.grid(folder, frame).startswith(b"\x89PNG") and opened.grid(None, frame) == b""
    outcomes = opened.outcomes(frame)
    assert tuple(outcomes.columns) == OUTCOMES and outcomes["value"].to_list() == frame["value"].to_list()
    drawing = published_benchmark("reason_edit").open(downloads, networks=False)
    with pytest.raises(NothingJudgesError, match="set GOT_JUDGE_URL and GOT_JUDGE_MODEL"):
        drawing.judge(folder, store=store, prefix="kept")
    with pytest.raises(NothingJudgesError):
        published_benchmark("reason_edit").open(downloads)
    with pytest.raises(ValueError, match="not by str: set GOT_JUDGE_URL"):
        published_benchmark("reason_edit").open(downloads, judge="somebody")
    place = reason_edit(tmp_path / "data alone")
    with pytest.raises(MissingDownloadError, match=r"vie_prompts.py is read, from github.com/TIGER-AI-Lab"):
        published_benchmark("reason_edit/published").open(place, judge=judge_at(server))


def test_a_guidance_grid_draws_the_first_edits_of_each_task(downloads: Path, tmp_path: Path) -> None:
    config = GuidanceGridConfig(benchmark="gedit/en", prompts=3)
    grid = grid_prompts(config, tiny().world, tiny().evaluate, downloads)
    found = grid.requests("grid")
    assert [one.name for one in found.values()] == [
        "grid/fullset/background_change/en/en0b.png",
        "grid/fullset/subject-add/en/en0s.png",
        "grid/fullset/background_change/en/en1b.png",
    ]
    assert all(one.source.size == (24, 16) and "grey" in one.prompt for one in found.values())
    (store,) = storages(tmp_path, "store")
    assert grid.protocol is None and grid.judge(store, "grid", {}) is None
    assert any("not judged: a server" in note for note in grid.notes)
