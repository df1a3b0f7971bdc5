"""What a tracker says and keeps, above all of a stage that goes on after an interruption."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from got_core.train.run import TrainingRun
from got_core.train.tracking import Tracker
from got_core.train.window import WINDOW


@pytest.fixture
def said() -> list[str]:
    """Lines that the run has told."""
    return []


@pytest.fixture
def run(training_run: TrainingRun, tmp_path: Path, said: list[str]) -> TrainingRun:
    """A run with a tracking database of its own."""
    return replace(training_run, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", progress=said.append)


def take_steps(tracker: Tracker, first: int, last: int, steps: int) -> None:
    """Log steps ``first`` to ``last`` of ``steps``; the loss of a window is its last step."""
    for step in range(first + WINDOW - 1, last + 1, WINDOW):
        tracker.log_steps(step, steps, WINDOW, {"loss": float(step), "text": 1.0}, {"rate/drawing": 0.5})


def test_the_time_left_counts_the_steps_of_this_process_alone(run: TrainingRun, said: list[str]) -> None:
    for first, last, elapsed, left in ((1, 2 * WINDOW, 500, 158), (901, 900 + WINDOW, 600, 30)):
        with Tracker.start(run, "finetune", resume_key="key") as tracker:
            tracker.started -= elapsed
            take_steps(tracker, first, last, 1000)
        # 10 and 24 seconds a step.
        assert re.search(rf"step {last} of 1000, .*about {left} min left", said[-1])


def test_a_process_without_a_step_of_its_own_knows_the_last_losses(run: TrainingRun) -> None:
    with pytest.raises(RuntimeError), Tracker.start(run, "finetune", resume_key="key") as killed:
        take_steps(killed, 1, 2 * WINDOW, 2 * WINDOW)
        raise RuntimeError("killed between the last checkpoint and the model")
    assert killed.last() == {"loss": 2 * WINDOW, "text": 1.0}
    with Tracker.start(run, "finetune", resume_key="key") as resumed:
        assert resumed.run_id == killed.run_id
        assert resumed.last() == killed.last(), "rates and the like are no losses"
        client = MlflowClient(run.tracking_uri)
        assert client.get_run(resumed.run_id).info.status == "RUNNING"
    with Tracker.start(run, "finetune", resume_key="another") as fresh:
        assert fresh.last() == {}
    with Tracker.start(run, "finetune", active=False) as silent:
        assert silent.last() == {}


def test_metrics_of_two_processes_are_one_history(run: TrainingRun) -> None:
    for first in (1, 1 + WINDOW):
        with Tracker.start(run, "finetune", resume_key="key") as tracker:
            take_steps(tracker, first, first + WINDOW - 1, 1000)
            assert tracker.plot().startswith(b"\x89PNG")
    history = MlflowClient(run.tracking_uri).get_metric_history(tracker.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(WINDOW, WINDOW), (2 * WINDOW, 2 * WINDOW)]
    rates = MlflowClient(run.tracking_uri).get_metric_history(tracker.run_id, "rate/drawing")
    assert [one.value for one in rates] == [0.5, 0.5]
