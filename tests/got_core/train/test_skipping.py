"""A batch that is not finite: no worker learns from it, it is counted, and too many in a row are an error."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from got_core.train.config import StageConfig
from got_core.train.run import TrainingRun
from got_core.train.skipping import NotFiniteStepsError, SkippedSteps
from got_core.train.trainer import Trainer
from tests.got_core.ranks import side_by_side
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train import two_skipping
from tests.got_core.train.spoilt import SpoiltData, spoilt_data

CONFIG = StageConfig(steps=6, batch_size=2, lora_rank=4, mixture={"t2i": 1.0}, bf16=False, ema_decay=0.9)


def trainer(run: TrainingRun, config: StageConfig = CONFIG) -> tuple[Trainer, SpoiltData]:
    data = spoilt_data(run)
    return Trainer(tiny_pipeline(), data, config), data


def weights(joint: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in joint.trained().items()}


def row_of_one_step(run: TrainingRun, step: int) -> int:
    """A row that no other of the first six steps draws."""
    joint, data = trainer(run)
    rows: list[set[int]] = []

    def on_step(number: int, losses: dict[str, float]) -> None:
        rows.append(set(data.taken))
        data.taken.clear()

    joint.run(6, on_step)
    others = set().union(*(drawn for k, drawn in enumerate(rows, 1) if k != step))
    return min(rows[step - 1] - others)


def test_one_spoilt_picture_costs_one_step_and_no_weight(training_run: TrainingRun, tmp_path: Path) -> None:
    row = row_of_one_step(training_run, 3)
    joint, data = trainer(training_run)
    data.spoilt = frozenset({row})
    seen: list[dict[str, torch.Tensor]] = [weights(joint)]
    joint.run(4, lambda step, losses: seen.append(weights(joint)))
    assert joint.skips.steps == [3]
    equal = [all(torch.equal(a[k], b[k]) for k in a) for a, b in pairwise(seen)]
    assert equal == [False, False, True, False]
    assert joint.average.steps == 3
    joint.save(tmp_path)
    joint.run(6, lambda step, losses: None)
    resumed, again = trainer(training_run)
    again.spoilt = frozenset({row})
    resumed.load(tmp_path)
    assert resumed.skips.steps == [3], "the count outlives an interruption"
    resumed.run(6, lambda step, losses: None)
    for name, value in joint.trained().items():
        assert value.isfinite().all(), name
        assert torch.equal(value, resumed.trained()[name]), name


def test_a_skipped_first_step_can_be_saved_and_gone_on_from(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    joint, data = trainer(training_run)
    data.everything = True
    joint.run(1, lambda step, losses: None)
    joint.save(tmp_path)
    data.everything = False
    joint.run(3, lambda step, losses: None)
    resumed, _ = trainer(training_run)
    resumed.load(tmp_path)
    resumed.run(3, lambda step, losses: None)
    assert resumed.skips.steps == [1]
    for name, value in joint.trained().items():
        assert torch.equal(value, resumed.trained()[name]), name


def test_too_many_in_a_row_are_an_error_that_names_step_loss_and_samples(training_run: TrainingRun) -> None:
    joint, data = trainer(training_run, replace(CONFIG, max_skipped_steps=2))
    before = weights(joint)
    data.everything = True
    with pytest.raises(NotFiniteStepsError) as caught:
        joint.run(6, lambda step, losses: None)
    ids = {data.sample_id(row) for row in data.taken}
    text = str(caught.value)
    assert text.startswith("step 2: 2 steps in a row were skipped")
    assert "step 1, worker 1 of 1: diffusion, loss of samples " in text
    assert ids and all(one in text for one in ids)
    assert all(torch.equal(value, before[name]) for name, value in joint.trained().items())


def test_a_row_of_skipped_steps_goes_on_across_an_interruption() -> None:
    skips = SkippedSteps(3)
    for step in (2, 5, 6):
        skips.add(step, None)
    assert skips.in_a_row == 2
    resumed = SkippedSteps(3)
    resumed.restore(skips.text())
    resumed.add(7, "step 7")
    assert resumed.in_a_row == 3
    assert SkippedSteps(3).in_a_row == 0
    old = SkippedSteps(3)
    old.restore(None)
    assert old.steps == []


@pytest.mark.slow
def test_all_workers_skip_what_one_of_them_cannot_use(training_run: TrainingRun, tmp_path: Path) -> None:
    side_by_side(two_skipping.train, (training_run, tmp_path), count=2)
    for sharding in ("ddp", "fsdp"):
        reports = [json.loads((tmp_path / f"{sharding}-{rank}.json").read_text()) for rank in (0, 1)]
        assert [one["skipped"] for one in reports] == [[2], [2]]
        assert [one["norms"][1] for one in reports] == ["nan", "nan"]
        # The norm of a spread gradient is that of all its parts.
        assert reports[0]["norms"] == reports[1]["norms"]
        assert reports[0]["error"] == reports[1]["error"]
        assert "step 5: 2 steps in a row" in reports[0]["error"]
        assert "worker 2 of 2: diffusion, loss of samples " in reports[0]["error"]
        assert "worker 1 of 2" not in reports[0]["error"]
        states = [load_file(tmp_path / f"{sharding}-{rank}.safetensors") for rank in (0, 1)]
        for name, value in states[0].items():
            assert value.isfinite().all(), name
            assert torch.equal(value, states[1][name]), name
    ddp, fsdp = (load_file(tmp_path / f"{name}-0.safetensors") for name in ("ddp", "fsdp"))
    for name, value in ddp.items():
        torch.testing.assert_close(fsdp[name], value, rtol=1e-3, atol=2e-5)
