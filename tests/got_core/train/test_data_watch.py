"""Takedowns and counts at the start and the checkpoints of a training, in one process."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.curate.config import CurateConfig
from got_core.curate.takedown import CurrentRemoval
from got_core.curate.takedown_lists import LIST, add_takedowns
from got_core.train.config import StageConfig
from got_core.train.data.samples import NEVER, training_data
from got_core.train.data_watch import DataWatch
from got_core.train.run import TrainingRun
from got_core.train.takedown_file import read_taken_down
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline

NAME = "models/finetune/key"
CONFIG = StageConfig(steps=8, batch_size=4, lora_rank=4, mixture={"t2i": 1.0}, max_substituted=1.0)


@pytest.fixture
def run(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    shutil.copytree(training_run.raw_url, tmp_path / "raw")
    return replace(
        training_run,
        raw_url=str(tmp_path / "raw"),
        storage_url=f"file://{tmp_path / 'storage'}",
        takedowns=CurrentRemoval(CurateConfig(), {}),
    )


def begin(run: TrainingRun, step: int = 0) -> tuple[Trainer, DataWatch]:
    """A training that goes on from a step."""
    trainer = Trainer(tiny_pipeline(), training_data(run, CONFIG), CONFIG)
    trainer.step = step
    return trainer, DataWatch(trainer, run, NAME)


def go_on(trainer: Trainer, watch: DataWatch, until: int) -> None:
    trainer.run(until, lambda step, losses: None)
    watch.look()


def test_a_takedown_holds_from_the_next_step_on_and_for_whoever_goes_on(run: TrainingRun) -> None:
    storage, rows = run.storage(), run.manifest.filter(kind="t2i")
    edit = run.manifest.filter(kind="edit")
    first, second, pair = rows["image_id"][0], rows["image_id"][1], edit["pair_id"][0]
    trainer, watch = begin(run)
    watch.look()
    assert (trainer.data.taken_down_from == NEVER).all()
    add_takedowns(storage, [first])
    go_on(trainer, watch, 2)
    add_takedowns(storage, [second, pair])
    go_on(trainer, watch, 4)
    found = {row["id"]: row["from_step"] for row in read_taken_down(storage, NAME)}
    assert found == {first: 2, second: 4, pair: 4}
    assert watch.found()["taken_down"] == read_taken_down(storage, NAME)

    # Steps 3 and 4 are lost: what is known by now is left out of them as well.
    trainer, watch = begin(run, step=3)
    watch.look()
    found = {row["id"]: row["from_step"] for row in read_taken_down(storage, NAME)}
    assert found == {first: 2, second: 3, pair: 3}
    known = trainer.data.manifest.found(
        ["sample_id"], {row["sample_id"] for row in watch.found()["taken_down"]}
    )
    assert sorted(trainer.data.taken_down_from[[*known]]) == [2, 3, 3]

    # What is no longer on the list stays left out of this training.
    storage.delete(LIST)
    trainer, watch = begin(run, step=6)
    watch.look()
    assert {row["id"]: row["from_step"] for row in watch.found()["taken_down"]} == found


def test_a_list_that_cannot_be_read_is_looked_at_again(run: TrainingRun) -> None:
    said: list[str] = []
    storage, image = run.storage(), run.manifest.filter(kind="t2i")["image_id"][0]
    trainer, watch = begin(replace(run, progress=said.append))
    storage.write_bytes(LIST, b"no,list\n1,2\n")
    watch.look()
    assert "has no column id" in said[0] and "looked at again later" in said[0]
    storage.delete(LIST)
    add_takedowns(storage, [image])
    go_on(trainer, watch, 1)
    assert [(row["id"], row["from_step"]) for row in watch.found()["taken_down"]] == [(image, 1)]
    assert said[1] == "step 1: 1 samples were taken down and are left out"


def test_counts_go_on_where_the_training_goes_on(run: TrainingRun) -> None:
    missing = run.manifest.filter(kind="t2i")["target_path"].to_list()[::2]
    for path in missing:
        (Path(run.raw_url) / path).unlink(missing_ok=True)
    trainer, watch = begin(run)
    for step in (0, 2, 4, 6):
        go_on(trainer, watch, step)
    kept = run.storage().read_json(f"{NAME}/substituted.json")
    counts = kept["steps"]
    assert counts["0"] == 0 < counts["2"] < counts["4"] < counts["6"]
    assert all(one["reason"] == "vanished" and one["path"] in missing for one in kept["first"])
    whole = watch.found()["substituted"]

    trainer, watch = begin(run, step=2)
    watch.look()
    assert watch.found()["substituted"]["samples"] == counts["2"], "what was lost does not count"
    assert all(one["index"] < 2 * 4 for one in watch.found()["substituted"]["first"])
    go_on(trainer, watch, 6)
    assert watch.found()["substituted"]["samples"] == whole["samples"]
    named = [one["sample_id"] for one in watch.found()["substituted"]["first"]]
    assert len(named) == len(set(named))
