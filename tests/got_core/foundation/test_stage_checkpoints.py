"""A language part that is cut off between stages ends with the weights of one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from got_core.foundation.stage_checkpoints import FILE, StageCheckpoints
from got_core.foundation.train import _language_part
from got_core.recipes import tiny
from got_core.registry.tracking import ensure_experiment
from got_core.storage import Storage
from got_core.train.cpu_time import CpuTimer
from got_core.train.run import TrainingRun, weights_hash
from got_core.train.tracking import EXPERIMENT

STAGES = ["vision tower", "vision", "objects", "reading", "language model"]
FOLDER = "models/foundation/x/language"


class CutOff(Exception):
    """What a kill is to the test."""


class Listener:
    """Hears what a run says; cuts it off at the first step of a stage."""

    def __init__(self, until: str = "") -> None:
        self.until, self.trained, self.said = until, [], []  # type: ignore[var-annotated]

    def __call__(self, line: str) -> None:
        self.said.append(line)
        stage, _, rest = line.partition(": ")
        if stage == self.until:
            raise CutOff
        if rest.startswith("step 0,"):
            self.trained.append(stage)


def in_storage(run: TrainingRun, folder: Path, listener: Listener) -> TrainingRun:
    steps = {"tower_steps": 2, "locate_steps": 2, "reading_steps": 2, "optimizer": "muon"}
    recipe = replace(tiny(), foundation=replace(tiny().foundation, **steps))  # type: ignore[arg-type]
    ensure_experiment(run.tracking_uri, EXPERIMENT)
    return replace(run, storage_url=f"file://{folder}", recipe=recipe, progress=listener)


@pytest.fixture(scope="module")
def in_one_go(
    training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """The trained folder, and the metrics, of a part that nothing happened to."""
    home, listener = tmp_path_factory.mktemp("one_go"), Listener()
    metrics = _language_part(in_storage(training_run, home, listener), FOLDER)
    assert listener.trained == STAGES
    return home / FOLDER, metrics


@pytest.mark.parametrize("until", STAGES[1:])
def test_a_part_goes_on_after_its_last_finished_stage_to_the_same_weights(
    training_run: TrainingRun, in_one_go: tuple[Path, dict[str, float]], tmp_path: Path, until: str
) -> None:
    clock = CpuTimer()
    with pytest.raises(CutOff):
        _language_part(in_storage(training_run, tmp_path, Listener(until)), FOLDER)
    cut = clock.seconds()
    done = STAGES[: STAGES.index(until)]
    kept = StageCheckpoints(Storage(f"file://{tmp_path}"), FOLDER)
    before = kept.cpu_seconds()
    assert kept.names == done
    assert 0.1 * cut < before < cut
    (tmp_path / FOLDER / f".{FILE}.0123.partial").write_bytes(b"half of one")
    listener, clock = Listener(), CpuTimer()
    metrics = _language_part(in_storage(training_run, tmp_path, listener), FOLDER)
    assert listener.trained == STAGES[len(done) :]
    assert f"foundation: language model, after {', '.join(done)}" in listener.said
    whole, wanted = in_one_go
    assert weights_hash(tmp_path / FOLDER) == weights_hash(whole)
    assert metrics.keys() == wanted.keys()
    assert all(metrics[name] == value for name, value in wanted.items() if name != "language_cpu_seconds")
    assert before < metrics["language_cpu_seconds"] < before + clock.seconds()
    assert names(tmp_path / FOLDER) == names(whole)
    assert FILE not in names(whole)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_weights_of_other_modules_are_refused(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}")
    StageCheckpoints(storage, "part").run("one", {"model": torch.nn.Linear(2, 3)}, lambda: {"loss": 1.0})
    again = StageCheckpoints(storage, "part")
    with pytest.raises(RuntimeError, match="size mismatch"):
        again.run("one", {"model": torch.nn.Linear(2, 4)}, lambda: {})
