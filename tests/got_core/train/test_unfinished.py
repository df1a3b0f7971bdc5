"""What a stage goes on with after an interruption, and when it begins anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from got_core.frame_hash import content_hash
from got_core.train.data.manifest_file import manifest_of
from got_core.train.run import TrainingRun
from got_core.train.unfinished import (
    Training,
    begin_or_go_on,
    finish,
    forget_unfinished,
    key_of,
    unfinished,
)

START = {"folder": "models/start", "stage": "foundation", "weights_hash": "w", "identity": "small"}


@pytest.fixture
def run(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    run = replace(training_run, storage_url=f"file://{tmp_path}")
    for name in ("start", "other"):
        run.storage().write_json(f"models/{name}/model_index.json", {})
    return run


def newer(run: TrainingRun) -> TrainingRun:
    """The run on a manifest of other rows."""
    manifest = run.manifest.head(-1)
    return replace(run, manifest=manifest, manifest_hash=content_hash(manifest))


def begin(run: TrainingRun, start: dict | None = None) -> Training:
    return begin_or_go_on(run, run.recipe.stage("finetune"), start or START)


def test_new_data_waits_until_what_has_begun_is_finished(run: TrainingRun) -> None:
    stage = run.recipe.stage("finetune")
    first = begin(run)
    assert not first.pinned and first.key == key_of(run, stage, START)
    assert begin(run) == first, "with nothing changed it is the same training"
    said: list[str] = []
    asked = replace(newer(run), progress=said.append)
    again = begin(asked)
    assert again.pinned and again.key == first.key and again.run.manifest_hash == run.manifest_hash
    assert again.run.manifest is None, "no frame travels"
    assert [*manifest_of(again.run).rows()] == run.manifest.to_dicts()
    assert "newer data waits for the next training" in said[0] and "got train restart finetune" in said[0]
    run.storage().write_json(f"models/finetune/{first.key}/metrics.json", {})
    assert begin(asked).key == first.key, "what ended without anyone noticing is taken first"
    finish(again, stage)
    assert not unfinished(run.storage(), "finetune")
    next_one = begin(asked)
    assert not next_one.pinned and next_one.run.manifest_hash == asked.manifest_hash


def test_a_start_that_differs_by_its_data_alone_waits_as_well(run: TrainingRun) -> None:
    first = begin(run)
    other = START | {"folder": "models/other", "weights_hash": "x"}
    again = begin(newer(run), other)
    assert again.pinned and again.start == START and again.key == first.key


@pytest.mark.parametrize("what", ["recipe", "start", "published"])
def test_another_recipe_or_other_weights_are_a_new_training(run: TrainingRun, what: str) -> None:
    published = {"folder": "models/start", "stage": "published", "weights_hash": "w"}
    start = START if what != "published" else published
    first = begin(run, start)
    asked = newer(run)
    if what == "recipe":
        asked = replace(asked, recipe=run.recipe.with_stage("finetune", peak_rate=1e-5))
    else:
        start = start | ({"identity": "large"} if what == "start" else {"weights_hash": "x"})
    second = begin(asked, start)
    assert not second.pinned and second.key != first.key
    assert len(unfinished(run.storage(), "finetune")) == 2


def test_what_has_lost_its_start_or_its_manifest_begins_anew(run: TrainingRun) -> None:
    for lost in ("models/start", None):
        first, said = begin(run), list[str]()
        run.storage().delete(lost or f"models/finetune/{first.key}/manifest")
        second = begin(replace(newer(run), progress=said.append), START | {"folder": "models/other"})
        assert not second.pinned
        assert "begins anew" in said[0] and (lost or "manifest") in said[0]
        forget_unfinished(run.storage(), "finetune")
        run.storage().write_json("models/start/model_index.json", {})


def test_what_is_given_up_begins_at_the_first_step_and_finished_models_stay(run: TrainingRun) -> None:
    storage, first = run.storage(), begin(run)
    folder = f"models/finetune/{first.key}"
    storage.write_json(f"ray/finetune-{first.key}/checkpoint.json", {})
    storage.write_json("models/finetune/done/metrics.json", {})
    assert forget_unfinished(storage, "finetune") == [folder]
    assert not storage.exists(folder) and not storage.exists(f"ray/finetune-{first.key}")
    assert storage.exists("models/finetune/done/metrics.json")
    assert not unfinished(storage, "finetune") and forget_unfinished(storage, "finetune") == []
    assert not begin(newer(run)).pinned
