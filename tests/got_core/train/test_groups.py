"""Four real processes: groups that hold a model each, frozen weights whole, and samples drawn by all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.sample_pictures import sample_grid
from got_core.train.trainer import Trainer
from tests.got_core.ranks import side_by_side
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline
from tests.got_core.train import four_workers
from tests.got_core.train.saved_state import saved_state

pytestmark = pytest.mark.slow
WAYS = ("groups", "frozen", "both")


@pytest.fixture(scope="module")
def trained(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    side_by_side(four_workers.train, (training_run, folder), count=4)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_losses_and_checkpoints_are_those_of_replicated_training(trained: Path, way: str) -> None:
    for rank in range(4):
        expected, found = (json.loads((trained / f"{one}-{rank}.json").read_text()) for one in ("ddp", way))
        for mine, other in zip(found["losses"], expected["losses"], strict=True):
            assert mine == pytest.approx(other, rel=1e-3)
    ddp, spread = (saved_state(trained / name) for name in ("ddp", way))
    assert ddp.keys() == spread.keys()
    for name, value in ddp.items():
        torch.testing.assert_close(
            spread[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_each_worker_holds_its_share(trained: Path) -> None:
    for way, shares in {"groups": (0.5, 0.5), "frozen": (0.25, 1.0), "both": (0.5, 1.0)}.items():
        for part, share in zip(("trained", "frozen"), shares, strict=True):
            held = [json.loads((trained / f"{way}-{rank}.json").read_text())[part] for rank in range(4)]
            assert sum(held) / 4 == pytest.approx(share, abs=0.03), (way, part)


def test_sample_pictures_do_not_depend_on_who_draws_them(trained: Path, training_run: TrainingRun) -> None:
    config = replace(four_workers.CONFIG, workers=1)
    alone = Trainer(sees_its_conditions(tiny_pipeline()), training_data(training_run), config)
    grid = sample_grid(alone, print)
    assert grid is not None
    found, expected = (np.asarray(one, dtype=int) for one in (Image.open(trained / "samples.png"), grid))
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 3
