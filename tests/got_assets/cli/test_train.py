"""`got train`: what it finds in a storage and an MLflow database, and what restarting deletes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from got_core.frame_hash import content_hash
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.run import TrainingRun
from got_core.train.tracking import Tracker
from got_core.train.unfinished import Training, begin_or_go_on

from .conftest import Result

Got = Callable[..., Result]
START = {"folder": "models/start", "stage": "foundation", "weights_hash": "0123456789ab"}


@pytest.fixture
def run(home: Path) -> TrainingRun:
    manifest = pl.DataFrame({"sample_id": ["a"], "kind": ["t2i"]})
    return TrainingRun(
        storage_url=f"file://{home / 'storage'}",
        raw_url=str(home / "raw"),
        edits_url=None,
        manifest=manifest,
        manifest_hash=content_hash(manifest),
        recipe=tiny(),
        tracking_uri=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
    )


def begun(run: TrainingRun) -> Training:
    """The pretraining of a run that was killed after a checkpoint of step 2."""
    training = begin_or_go_on(run, run.recipe.stages[0], START)
    name = f"models/pretrain/{training.key}"
    for step, ranks in ((2, 2), (4, 1)):
        for rank in range(ranks):
            run.storage().write_json(
                f"{name}/checkpoints/step-{step:08d}-0000000a/rank-{rank:05d}-of-00002.json", {}
            )
    with pytest.raises(KeyboardInterrupt), Tracker.start(run, "pretrain", resume_key=name) as tracker:
        figures = {"rate/drawing": 1e-4, "skipped_steps": 3.0, "substituted_pictures": 1.0}
        tracker.log_steps(2, 3, 2, {"loss": 0.25}, figures)
        raise KeyboardInterrupt
    return training


def test_nothing_has_begun(got: Got) -> None:
    done = got("train", "status", "--json")
    assert done.status == 0
    stages = done.json["stages"]
    assert [(one["stage"], one["state"], one["steps"]) for one in stages] == [
        ("pretrain", "not begun", 3),
        ("finetune", "not begun", 2),
    ]
    assert got("train", "status").out.splitlines() == [
        "pretrain: not begun, 3 steps",
        "finetune: not begun, 2 steps",
    ]


def test_an_unfinished_training_shows_its_last_whole_checkpoint_and_losses(
    got: Got, run: TrainingRun
) -> None:
    training = begun(run)
    one, _ = got("train", "status", "--json").json["stages"]
    assert (one["state"], one["step"], one["steps"]) == ("unfinished", 2, 3)
    assert 0 <= one["checkpoint_age_seconds"] < 600
    assert one["folder"].endswith(f"models/pretrain/{training.key}")
    assert (one["metrics"]["loss"], one["logged_step"]) == (0.25, 2)
    assert (one["skipped_steps"], one["substituted_pictures"]) == (3, 1)
    assert MlflowClient(run.tracking_uri).get_run(one["mlflow_run_id"]).info.run_name == "pretrain"
    text = got("train", "status").out
    for part in ("unfinished, checkpoint of step 2, of 3 steps", "step 2: loss 0.250", one["mlflow_run_id"]):
        assert part in text
    assert "3 steps skipped, 1 pictures substituted" in text


def test_without_mlflow_the_storage_still_tells(
    got: Got, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(run)
    monkeypatch.setenv("GOT_MLFLOW_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    one, _ = got("train", "status", "--json").json["stages"]
    assert (one["state"], one["step"], one["mlflow_run_id"]) == ("unfinished", 2, None)
    assert "127.0.0.1" in one["mlflow_fault"]
    assert "not read: " in got("train", "status").out


def test_a_finished_stage(got: Got, run: TrainingRun) -> None:
    storage = Storage(run.storage_url)
    storage.write_json("models/finetune/abc/metrics.json", {"last": {}})
    storage.write_json("finetuned_model.json", {"folder": "models/finetune/abc/pipeline"})
    _, one = got("train", "status", "--json").json["stages"]
    assert (one["state"], one["step"]) == ("finished", 2)


def test_restarting_asks_first_and_deletes_the_checkpoints(got: Got, run: TrainingRun) -> None:
    training = begun(run)
    folder = f"models/pretrain/{training.key}"
    asked = got("train", "restart", "pretrain")
    assert asked.status == 2 and "add --yes" in asked.err and folder in asked.err
    assert run.storage().exists(folder)
    assert folder in got("train", "restart", "pretrain", "--yes").out
    assert not run.storage().exists(folder)
    assert got("train", "status", "--json").json["stages"][0]["state"] == "not begun"
    assert "no unfinished training" in got("train", "restart", "pretrain", "--yes").out
    wrong = got("train", "restart", "tune")
    assert wrong.status == 2 and "it has pretrain, finetune" in wrong.err
