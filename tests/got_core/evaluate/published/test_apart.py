"""Both sides of any opened benchmark, from a pipeline and a folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from got_core.evaluate.benchmarks import benchmarks_named
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.geneval.scene_reader import SceneReader
from got_core.evaluate.published.apart import Apart, NothingApartError, pictures_of, plans_of, with_apart
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.published.scenes import OpenedScenes
from got_core.evaluate.report import Section, benchmark_report
from got_core.evaluate.scores import FAILURES
from got_core.recipes import tiny
from got_core.storage import Storage
from tests.got_core.evaluate.geneval.lists import write_list
from tests.got_core.evaluate.published.downloads import write_data, write_networks
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

SAMPLER = {"num_inference_steps": 1, "max_new_tokens": 4}


def test_edits(tmp_path: Path, storage: Storage) -> None:
    place = write_networks(write_data(tmp_path / "place"))
    opened = published_benchmark("emu_edit/base").open(place, device="cpu")
    pipeline, folder = sees_its_conditions(tiny_pipeline()), Storage(f"file://{tmp_path / 'pictures'}")
    planned = plans_of(opened, pipeline, storage, prefix="plans", sampler=SAMPLER)
    assert planned.figures["benchmark"] == "emu_edit/base" and planned.figures["plans"] == "4 / 4"
    opened.generate(pipeline, folder, sampler=SAMPLER)
    drawn = pictures_of(opened, folder, opened.judge(folder, store=storage, prefix="judged"))
    assert drawn is not None and drawn.rows.height == 4
    assert drawn.rows["chain"].to_list() == planned.rows["chain"].to_list(), (
        "the same plans as without drawing"
    )
    json.dumps([planned.figures, drawn.figures])


def test_geneval(tmp_path: Path, storage: Storage) -> None:
    from got_core.evaluate.detector import known_scenes

    world = tiny().world
    (tmp_path / "geneval").mkdir()
    rows = [row for _, row in known_scenes(world, 6, seed=1)]
    write_list(tmp_path / "geneval/evaluation_metadata.jsonl", rows)
    judge = SceneReader(world, EvaluateConfig(self_test=6))
    opened = published_benchmark("geneval").open(tmp_path, judge=judge)
    pipeline, folder = sees_its_conditions(tiny_pipeline()), Storage(f"file://{tmp_path / 'pictures'}")
    planned = plans_of(opened, pipeline, storage, prefix="plans", sampler=SAMPLER)
    assert planned.figures["protocol"].startswith("geneval/plans/") and planned.figures["of"] == "6 / 6"
    opened.generate(pipeline, folder, sampler=SAMPLER)
    frame = opened.judge(folder, store=storage, prefix="judged")
    drawn = pictures_of(opened, folder, frame)
    assert drawn is not None and drawn.figures["pictures"] == "24 / 24"
    assert drawn.figures["planned_wrong"] == 24 - frame["correct"].sum()
    shown = set(drawn.rows["plan_correct"])
    assert shown == set(planned.rows["correct"]) == {False}
    plain = opened.scores(frame, protocol=opened.protocol(plan=True))
    scores = with_apart(plain, drawn)
    assert scores["planned_wrong"] == 24 - frame["correct"].sum() and scores["plan_overall"] == 0
    for one in scores["tasks"].values():
        assert one["n"] == one["correct"] + sum(one[cause] for cause in FAILURES)
    page = benchmark_report([Section(scores)])
    assert "planned wrong" in page and "Plans alone satisfy what is asked in 0.000" in page
    strange = Apart(drawn.rows, {**drawn.figures, "partial": True})
    assert "planned_wrong" not in with_apart(plain, strange) and with_apart(plain, None) == plain


def test_scenes_have_it_in_their_scores(storage: Storage) -> None:
    (benchmark,) = benchmarks_named(["geneval/scenes"])
    opened = OpenedScenes(benchmark, tiny().world, tiny().evaluate)
    assert pictures_of(opened, storage, None) is None  # type: ignore[arg-type]
    with pytest.raises(NothingApartError, match="geneval/scenes does not say what a plan has to show"):
        plans_of(opened, tiny_pipeline(), storage, prefix="plans")
