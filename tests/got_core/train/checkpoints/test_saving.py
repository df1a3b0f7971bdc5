"""Training goes on while its state is written, and what is written is what it was."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from got_core.storage import Storage
from got_core.train.checkpoints.folders import checkpoints_in, last_checkpoint
from got_core.train.checkpoints.record import run_record, worker_record
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.checkpoints.tensors import read_whole
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline


class Gate(Storage):
    """A storage whose writes wait for a word, and then may fail."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.open, self.full = threading.Event(), False

    def write_bytes(self, name: str, data: bytes) -> None:
        assert self.open.wait(60)
        if self.full:
            raise OSError(28, "No space left on device")
        super().write_bytes(name, data)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(f"file://{tmp_path / 'storage'}")


def state(value: float) -> dict[str, torch.Tensor]:
    return {"parameter.a": torch.full((30, 30), value), "optimizer.a.step": torch.tensor(value)}


def test_training_goes_on_and_does_not_change_what_is_written(gate: Gate) -> None:
    with Checkpoints(gate, "c") as checkpoints:
        tensors = state(1.0)
        checkpoints.save(1, tensors, {"skipped": 3})
        for value in tensors.values():
            value.fill_(7.0)
        assert last_checkpoint(gate, "c") is None
        gate.open.set()
    found = last_checkpoint(gate, "c")
    assert found is not None and found.step == 1
    assert all(torch.equal(value, state(1.0)[name]) for name, value in read_whole(found).items())
    record = found.record()
    assert record["note"] == {"skipped": 3}
    assert datetime.fromisoformat(record["time"]).utcoffset() is not None


def test_one_upload_at_a_time(gate: Gate) -> None:
    with Checkpoints(gate, "c") as checkpoints:
        checkpoints.save(1, state(1.0), {})
        second = threading.Thread(target=checkpoints.save, args=(2, state(2.0), {}))
        second.start()
        second.join(0.3)
        assert second.is_alive(), "the second waits for the first"
        gate.open.set()
        second.join(60)
        assert not second.is_alive()
    found = checkpoints_in(gate, "c")
    assert [(one.step, one.is_complete()) for one in found] == [(1, True), (2, True)]
    assert [read_whole(one)["parameter.a"][0, 0] for one in found] == [1.0, 2.0]


@pytest.mark.parametrize("late", [False, True])
def test_the_next_save_or_the_end_raises_what_went_wrong(gate: Gate, late: bool) -> None:
    gate.open.set()
    message = r"checkpoint .*/c/step-00000002-[0-9a-f]{8} could not be written \(OSError: .*No space"
    with pytest.raises(RuntimeError, match=message), Checkpoints(gate, "c") as checkpoints:
        checkpoints.save(1, state(1.0), {})
        checkpoints.wait()
        gate.full = True
        checkpoints.save(2, state(2.0), {})
        if not late:
            checkpoints.save(3, state(3.0), {})
    found = last_checkpoint(gate, "c")
    assert found is not None and found.step == 1


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_upload(gate: Gate) -> None:
    gate.open.set()
    gate.full = True
    with pytest.raises(ZeroDivisionError), Checkpoints(gate, "c") as checkpoints:
        checkpoints.save(1, state(1.0), {})
        raise ZeroDivisionError


def test_two_and_milestones_stay(storage: Storage) -> None:
    config = StageConfig(steps=12, checkpoint_every=2, milestone_every=5)
    with Checkpoints(storage, "c") as checkpoints:
        for step in range(2, 13, 2):
            checkpoints.save(step, state(step), {}, milestone=config.is_milestone(step))
    assert [one.step for one in checkpoints_in(storage, "c")] == [6, 10, 12]


def test_milestones_are_the_first_checkpoints_at_or_after_a_multiple() -> None:
    config = StageConfig(steps=25, checkpoint_every=4, milestone_every=10)
    kept = [step for step in (*range(4, 25, 4), 25) if config.is_milestone(step)]
    assert kept == [12, 20]
    assert not any(replace(config, milestone_every=0).is_milestone(step) for step in range(1, 26))
    assert config.identity() == replace(config, milestone_every=0).identity()


def test_what_is_not_finite_is_never_saved(training_run: TrainingRun, storage: Storage) -> None:
    config = StageConfig(steps=4, batch_size=2, lora_rank=4, bf16=False, ema_decay=0.9)
    joint = Trainer(tiny_pipeline(), training_data(training_run), config)
    joint.run(1, lambda step, losses: None)
    name, parameter = next(item for item in joint.trained().items() if item[0].startswith("unet"))
    moment = joint.optimizer.state(parameter)["exp_avg"]
    broken = [
        (parameter.data, f"parameter.{name}", torch.nan),
        (moment, f"optimizer.{name}.exp_avg", torch.inf),
        (joint.average.values[0], f"average.{next(iter(joint.trained()))}", -torch.inf),
    ]
    with Checkpoints(storage, "c") as checkpoints:
        for tensor, called, value in broken:
            kept = tensor.flatten()[0].item()
            tensor.view(-1)[0] = value
            with pytest.raises(FloatingPointError, match=f"^step 1: {called} holds NaN"):
                joint.save(checkpoints)
            tensor.view(-1)[0] = kept
        assert not storage.list()
        joint.save(checkpoints, {"skipped_steps": 2})
    again = Trainer(tiny_pipeline(), training_data(training_run), config)
    note = again.resume(Checkpoints(storage, "c"))
    assert note is not None and note["skipped_steps"] == 2 and again.step == 1
    assert again.average.steps == 1
    assert again.resume(Checkpoints(storage, "other")) is None


def test_a_folder_without_a_checkpoint_is_an_error(training_run: TrainingRun, tmp_path: Path) -> None:
    config = StageConfig(steps=4, batch_size=2, lora_rank=4, bf16=False)
    joint = Trainer(tiny_pipeline(), training_data(training_run), config)
    with pytest.raises(FileNotFoundError, match="holds no complete checkpoint"):
        joint.load(tmp_path)


def test_the_record_says_from_what_where_and_with_what(training_run: TrainingRun, storage: Storage) -> None:
    stage = training_run.recipe.stages[-1]
    run = replace(
        training_run,
        storage_url="s3://me:K1@bucket/got",
        tags={"git_commit": "abc"},
        raw_options={"key": "K2"},
    )
    record = run_record(
        run,
        stage,
        arguments={"name": "models/x"},
        command=["got", "run", "--token", "K3"],
        workers=[worker_record(0, torch.device("cpu"))],
    )
    with Checkpoints(storage, "c", record=record) as checkpoints:
        checkpoints.save(5, state(1.0), {})
    text = storage.read_bytes(f"{checkpoints_in(storage, 'c')[0].name}/run.json").decode()
    assert not [secret for secret in ("K1", "K2", "K3") if secret in text]
    kept = checkpoints_in(storage, "c")[0].record()
    assert (
        kept["packages"]["torch"] == torch.__version__.split("+")[0]
        or kept["packages"]["torch"] == torch.__version__
    )
    assert {"transformers", "diffusers", "peft", "ray", "safetensors"} < kept["packages"].keys()
    assert (kept["recipe"], kept["stage"], kept["step"]) == (run.recipe.name, stage.name, 5)
    assert kept["config"]["steps"] == stage.config.steps
    assert "workers" not in kept["identity"] and kept["manifest_hash"] == run.manifest_hash
    assert kept["git_commit"] == "abc" and kept["workers"][0]["device"] == "cpu"
