"""Real Ray runs of a stage: losing a worker or the driver changes nothing in what comes out.

What they are compared with is trained by this process, and what went on from a checkpoint, too, where nothing
is lost any more.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import s3fs
import torch
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer
from ray.train import TrainingFailedError

from got_core.recipes import Recipe, tiny
from got_core.storage import Storage
from got_core.train.checkpoints.folders import Checkpoint, checkpoints_in
from got_core.train.config import StageConfig
from got_core.train.ray.jobs import StoppedTrainingError
from got_core.train.ray.progress import relayed_progress
from got_core.train.run import Reference, TrainingRun, weights_hash
from got_core.train.stage import finetuning
from got_core.train.stages import train_stage
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.kills import HeldRun, held

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_kept")]

STAGE = StageConfig(
    steps=24,
    workers=1,
    batch_size=2,
    lora_rank=4,
    mixture={"t2i": 0.5, "edit": 0.5},
    checkpoint_every=4,
    sample_every=0,
)


def recipe(stage: StageConfig = STAGE) -> Recipe:
    return replace(tiny(), stages=(finetuning(stage),))


def prepared(
    run: TrainingRun, folder: Path, scheme: str = "file", **changes: Any
) -> tuple[TrainingRun, dict]:
    """A run in a storage of its own, and the reference of the model that it starts from."""
    run = replace(
        run,
        storage_url=f"{scheme}://{folder / 'storage'}",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        **{"recipe": recipe(), **changes},
    )
    start = folder / "storage" / "models" / "start"
    tiny_pipeline().save_pretrained(start)
    return run, {"folder": "models/start", "stage": "pretrain", "weights_hash": weights_hash(start)}


@pytest.fixture(scope="module")
def undisturbed(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the weights that the stage ends with when nothing happens to it, and no Ray is there."""
    run, start = prepared(training_run, tmp_path_factory.mktemp("undisturbed"))
    return train_here(run, start)["weights_hash"]


def train_here(run: TrainingRun, start: Reference) -> Reference:
    """The last stage of the run, trained by this process on one thread, as a worker trains it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_stage(replace(run, workers=0), run.recipe.stages[-1], start)
    finally:
        torch.set_num_threads(threads)


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(
    training_run: TrainingRun, undisturbed: str, tmp_path: Path
) -> None:
    said: list[str] = []
    plain, start = prepared(training_run, tmp_path, progress=said.append)
    run = held(plain, tmp_path / "gate", STAGE.checkpoint_every)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_the_first_worker, run, said)
        reference = train_stage(run, run.recipe.stages[-1], start)
        killed.result()
    (_, first), (_, second) = _starts(said)
    assert first == 0
    assert second > 0
    assert second % STAGE.checkpoint_every == 0
    assert reference["weights_hash"] == undisturbed
    assert reference["steps"] == STAGE.steps
    assert not _checkpoints(run.storage()), "a finished stage goes on from none"


def test_a_killed_driver_goes_on_where_it_was_and_leaves_no_process(
    training_run: TrainingRun, undisturbed: str, tmp_path: Path
) -> None:
    run, start = prepared(training_run, tmp_path)
    run.manifest.write_parquet(tmp_path / "manifest.parquet")
    arguments = [str(tmp_path), run.raw_url, str(run.edits_url), start["weights_hash"]]
    driver = subprocess.Popen([sys.executable, "-m", "tests.got_core.train.driver", *arguments])
    try:
        _wait(lambda: _complete(run.storage()) or driver.poll() is not None, 900)
        # Ray's own agents look for their parent once a minute; what computes has to end at once.
        family = [p for p in psutil.Process(driver.pid).children(recursive=True) if "Agent" not in _title(p)]
        assert any("TrainWorker" in _title(process) for process in family)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == -signal.SIGKILL
    _wait(lambda: not any(_lives(process) for process in family), 900)
    said: list[str] = []
    reference = train_here(replace(run, progress=said.append), start)
    ((_, resumed_from),) = _starts(said)
    assert resumed_from > 0
    assert reference["weights_hash"] == undisturbed


def test_two_spread_workers_with_storage_behind_another_scheme(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    stage = replace(
        STAGE, steps=3, workers=2, checkpoint_every=2, sharding="fsdp", sample_every=2, milestone_every=2
    )
    run, start = prepared(training_run, tmp_path, "local", recipe=recipe(stage))
    reference = train_stage(run, run.recipe.stages[-1], start)
    assert reference["steps"] == 3
    assert run.storage().exists(reference["samples"])
    (milestone,) = _checkpoints(run.storage())
    record = milestone.record()
    assert (milestone.step, record["step"], record["milestone"]) == (2, 2, True)
    assert [worker["rank"] for worker in record["workers"]] == [0, 1]
    assert record["command"] == sys.argv
    assert record["arguments"]["start"] == start["folder"]
    parts = {name.rpartition("/")[2][:11] for name in run.storage().list(milestone.name)}
    assert parts == {"run.json", "rank-00000-", "rank-00001-", "shard-00001", "shard-00002"}


def kill_the_first_worker(run: HeldRun, said: list[str]) -> None:
    """After the first checkpoint; the training cannot end before."""
    try:
        _wait(lambda: _complete(run.storage()) and _starts(said), 900)
        os.kill(_starts(said)[0][0], signal.SIGKILL)
    finally:
        run.gate.touch()


def _starts(said: list[str]) -> list[tuple[int, int]]:
    """Process and first step of every worker that has announced itself."""
    found = [re.search(r"process (\d+) on .* from step (\d+)", line) for line in said]
    return [(int(match[1]), int(match[2])) for match in found if match]


def _checkpoints(storage: Storage) -> list[Checkpoint]:
    stages = storage.folders("models/finetune")
    return [found for stage in stages for found in checkpoints_in(storage, f"{stage}/checkpoints")]


def _complete(storage: Storage) -> int:
    return sum(found.is_complete() for found in _checkpoints(storage))


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(met: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until, f"not met within {seconds} s"
        time.sleep(0.05)


def test_lost_progress_lines_are_said_and_change_no_result(training_run: TrainingRun) -> None:
    lines: list[str] = []
    with relayed_progress(replace(training_run, progress=lines.append)) as relayed:
        (actor,) = relayed.progress.args  # type: ignore[union-attr]
        ray.get(actor.put.remote("begun"))
        _wait(lambda: lines, 600)
        ray.kill(actor)
        relayed.report("this is lost")
        _wait(lambda: len(lines) > 1, 600)
    assert lines[0] == "begun" and len(lines) == 2 and "not heard of" in lines[1]


def test_a_training_that_gives_up_is_not_started_again(training_run: TrainingRun, tmp_path: Path) -> None:
    said: list[str] = []
    stage = replace(STAGE, max_skipped_steps=2, peak_rate=1e30, warmup_steps=0, optimizer="adamw")
    run, start = prepared(training_run, tmp_path, recipe=recipe(stage), progress=said.append)
    with pytest.raises(StoppedTrainingError, match=r"finetune: step [0-9]+: 2 steps in a row were skipped"):
        train_stage(run, run.recipe.stages[-1], start)
    assert len(_starts(said)) == 1
    assert [line for line in said if " is skipped: " in line]
    client = MlflowClient(run.tracking_uri)
    experiment = client.get_experiment_by_name("got-training")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FAILED"


def test_held_out_losses_are_in_the_reference(training_run: TrainingRun, tmp_path: Path) -> None:
    stage = replace(STAGE, steps=4, checkpoint_every=2, held_out=0.3)
    run, start = prepared(training_run, tmp_path, recipe=recipe(stage))
    reference = train_here(run, start)
    metrics = reference["metrics"]
    names = {"held_out/loss", "held_out/text", "held_out/diffusion", "held_out/start_loss", "loss", "text"}
    assert names < metrics.keys()
    assert metrics["held_out/start_loss"] != metrics["held_out/loss"]
    assert reference["held_out_rows"]
    client = MlflowClient(run.tracking_uri)
    history = client.get_metric_history(reference["mlflow_run_id"], "held_out/loss")
    assert [one.step for one in history] == [0, 2, 4]
    assert history[0].value == metrics["held_out/start_loss"]
    assert history[-1].value == metrics["held_out/loss"]
    logged = set(client.get_run(reference["mlflow_run_id"]).data.metrics)
    assert {
        "rate/language",
        "gradient_norm",
        "samples_per_second",
        "data_wait_share",
        "skipped_steps",
    } < logged


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Options of an S3 server with a bucket `training`; credentials and a cache are in the environment."""
    ray.shutdown()  # what `ray_kept` started knows nothing of them
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    options = {"endpoint_url": "http://{}:{}".format(*server.get_host_and_port())}
    s3fs.S3FileSystem(**options).mkdir("training")
    yield options
    server.stop()


def test_a_stage_that_broke_off_goes_on_from_its_checkpoint_in_a_bucket(
    training_run: TrainingRun, undisturbed: str, s3: dict[str, str], tmp_path: Path
) -> None:
    said: list[str] = []
    local, start = prepared(training_run, tmp_path, recipe=recipe(replace(STAGE, max_failures=0)))
    there = replace(local, storage_url="s3://training/got", storage_options=s3, progress=said.append)
    run = held(there, tmp_path / "gate", STAGE.checkpoint_every)
    storage = run.storage()
    storage.upload(local.storage().download(start["folder"]), start["folder"])

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_the_first_worker, run, said)
        with pytest.raises(TrainingFailedError):
            train_stage(run, run.recipe.stages[-1], start)
        killed.result()
    reference = train_here(run, start)
    (_, first), (_, second) = _starts(said)
    assert first == 0
    assert second > 0
    assert reference["weights_hash"] == undisturbed
    assert not _checkpoints(local.storage()), "nothing was written to this machine's storage"
