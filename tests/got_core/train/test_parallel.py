"""Two real processes: replicated and spread training agree; checkpoints suit any number of workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from got_core.model.pipeline import GoTPipeline
from got_core.train.checkpoints.tensors import training_tensors
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.ranks import side_by_side
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train import two_workers
from tests.got_core.train.saved_state import saved_state

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    side_by_side(two_workers.train, (training_run, folder), count=2)
    return folder


def test_spread_training_is_replicated_training(trained: Path) -> None:
    ddp, fsdp = (saved_state(trained / name) for name in ("ddp", "fsdp"))
    assert ddp.keys() == fsdp.keys()
    for name, value in ddp.items():
        torch.testing.assert_close(fsdp[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_spread_training_leaves_the_same_pipeline_and_draws_the_same_picture(trained: Path) -> None:
    pictures = [np.asarray(Image.open(trained / f"{name}.png"), dtype=int) for name in ("ddp", "fsdp")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 3
    ddp, fsdp = (GoTPipeline.from_pretrained(trained / f"{name}-pipeline") for name in ("ddp", "fsdp"))
    for part in ("mllm", "unet", "projector"):
        other = getattr(fsdp, part).state_dict()
        for name, value in getattr(ddp, part).state_dict().items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=2e-5)


def test_checkpoints_suit_another_number_of_workers_and_another_sharding(
    trained: Path, training_run: TrainingRun
) -> None:
    state = saved_state(trained / "fsdp")
    config = replace(two_workers.CONFIG, workers=1)
    assert config.identity() == replace(two_workers.CONFIG, sharding="fsdp").identity()
    alone = Trainer(tiny_pipeline(), training_data(training_run), config)
    alone.load(trained / "fsdp")
    assert alone.step == 2
    restored = training_tensors(alone.trained(), alone.average, alone.optimizer)
    assert all(torch.equal(state[name], value) for name, value in restored.items())
    alone.run(3, lambda step, losses: None)
    # Written replicated, read spread, written again: not a bit is lost.
    again, first = (saved_state(trained / name) for name in ("resumed", "ddp"))
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_two_workers_weigh_every_token_alike(trained: Path, training_run: TrainingRun) -> None:
    config = replace(two_workers.TEXT_CONFIG, workers=1, batch_size=4)
    alone = Trainer(tiny_pipeline(), training_data(training_run), config)
    alone._backward_passes()
    both = load_file(trained / "text.safetensors")
    for name, parameter in alone.trained().items():
        if parameter.grad is not None:
            torch.testing.assert_close(both[name], parameter.grad, rtol=1e-3, atol=1e-6)
