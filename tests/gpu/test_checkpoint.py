"""A training on the device that is cut off goes on as if it had not been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import TINY
from tests.gpu.sizes import random_pipeline, recipe_for


def ignore(step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def state(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, averages and moments."""
    found = {}
    for (name, parameter), average in zip(trainer.trained().items(), trainer.average.values, strict=True):
        found |= {name: parameter.detach().clone(), f"{name} average": average.clone()}
        moments = trainer.optimizer.state(parameter).items()
        found |= {f"{name} {part}": value.clone() for part, value in moments}
    return found


def test_a_checkpoint_brings_back_every_bit(
    training_run: TrainingRun, device: torch.device, tmp_path: Path
) -> None:
    config = replace(recipe_for(torch.device("cpu")).stages[0].config, ema_decay=0.9)
    run = training_data(training_run, config)

    def trainer() -> Trainer:
        return Trainer(random_pipeline(TINY, torch.device("cpu")), run, config, device=device)

    whole = trainer()
    whole.run(2, ignore)
    whole.save(tmp_path)
    resumed = trainer()
    resumed.load(tmp_path)
    assert resumed.step == 2
    before, after = state(whole), state(resumed)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
        assert value.device == after[name].device, name
    for one in (whole, resumed):
        one.run(4, ignore)
    for name, value in state(whole).items():
        # Kernels of a GPU may sum in another order each time.
        torch.testing.assert_close(state(resumed)[name], value, rtol=1e-3, atol=1e-5, msg=name)
