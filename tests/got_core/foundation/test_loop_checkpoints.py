"""A loop of the foundation that is killed goes on where it was kept, to the same weights bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from got_core.foundation.drawing import train_unet
from got_core.foundation.language_model import fit_tokenizer, train_language_model
from got_core.foundation.loop_checkpoints import FILE, note_of
from got_core.foundation.stage_checkpoints import StageCheckpoints
from got_core.foundation.train import build_text_encoder
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.config import OptimizerName
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.optim import Loop
from got_core.train.run import TrainingRun

STEPS = 5


class Killed(Exception):
    """What a kill is to the test."""


class KillingStorage(Storage):
    """Kills whoever writes a file of this name once more than so often."""

    def __init__(self, url: str, name: str = FILE, after: int = 1_000) -> None:
        super().__init__(url)
        self.name, self.left, self.written = name, after, 0

    def write_bytes(self, name: str, data: bytes) -> None:
        super().write_bytes(name, data)
        if name.endswith(self.name):
            self.written += 1
            if self.written == self.left:
                raise Killed


@pytest.fixture(scope="module")
def data(training_run: TrainingRun) -> TrainingData:
    return training_data(training_run)


def train_drawing(
    data: TrainingData, optimizer: OptimizerName, checkpoints: StageCheckpoints | None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights and figures of a U-Net of seed 3."""
    config = replace(
        tiny().foundation, unet_steps=STEPS, unet_batch_size=4, unet_edit_share=0.5, optimizer=optimizer
    )
    torch.manual_seed(3)
    vae, unet = build_autoencoder(tiny().model), build_unet(tiny().model)
    encoder = build_text_encoder(tiny().model)
    figures = train_unet(unet, vae, encoder, data, tiny().model, config, silent, checkpoints)
    return unet.state_dict(), figures


def silent(part: str, step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_u_net_that_is_killed_ends_with_the_same_weights(
    data: TrainingData, optimizer: OptimizerName, tmp_path: Path
) -> None:
    whole, wanted = train_drawing(data, optimizer, None)
    killing = KillingStorage(f"file://{tmp_path}", after=2)
    with pytest.raises(Killed):
        train_drawing(data, optimizer, StageCheckpoints(killing, "part", seconds=0))
    assert note_of(killing, f"part/{FILE}")["step"] == 1
    counting = KillingStorage(f"file://{tmp_path}")
    kept = StageCheckpoints(counting, "part", seconds=0)
    assert 0 < note_of(counting, f"part/{FILE}")["cpu_seconds"] <= kept.cpu_seconds()
    resumed, figures = train_drawing(data, optimizer, kept)
    assert equal(resumed, whole) and figures == wanted
    assert counting.written == STEPS - 3, "the steps that were left, without the last"


def test_a_loop_is_kept_now_and_then_and_not_without_a_storage(data: TrainingData, tmp_path: Path) -> None:
    storage = KillingStorage(f"file://{tmp_path}")
    train_drawing(data, "adamw", StageCheckpoints(storage, "part", seconds=3600.0))
    assert storage.written == 0 and not storage.exists(f"part/{FILE}")


class Parts:
    """A language model of seed 4 and what it learns with."""

    def __init__(self, data: TrainingData) -> None:
        model = tiny().model
        tokenizer = fit_tokenizer(data, model.image_tokens)
        self.sequences = build_sequences(model, tokenizer, build_image_processor(model.language_model))
        torch.manual_seed(4)
        self.model = build_language_model(model.language_model, tokenizer)
        self.projector = build_projector(model)
        self.encoder = build_text_encoder(model)

    def train(self, data: TrainingData, checkpoints: StageCheckpoints | None) -> dict[str, float]:
        config = replace(
            tiny().foundation,
            tower_steps=2,
            locate_steps=3,
            language_steps=3,
            vision_steps=1,
            optimizer="muon",
        )
        return train_language_model(
            self.model, self.projector, self.encoder, self.sequences, data, config, silent, checkpoints
        )

    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.model, self.projector


@pytest.mark.parametrize("kills", [1, 4], ids=["objects", "language model"])
def test_a_language_model_that_is_killed_within_a_stage_ends_with_the_same_weights(
    data: TrainingData, tmp_path: Path, kills: int
) -> None:
    whole = Parts(data)
    wanted = whole.train(data, None)
    killing = KillingStorage(f"file://{tmp_path}", after=kills)
    with pytest.raises(Killed):
        Parts(data).train(data, StageCheckpoints(killing, "part", seconds=0))
    stage = note_of(killing, f"part/{FILE}")["stage"]
    assert stage == {1: "objects", 4: "language model"}[kills]
    resumed, kept = Parts(data), StageCheckpoints(Storage(f"file://{tmp_path}"), "part", seconds=0)
    assert resumed.train(data, kept) == wanted
    for mine, other in zip(resumed.modules(), whole.modules(), strict=True):
        assert equal(mine.state_dict(), other.state_dict())


def test_a_file_of_other_parameters_is_named(data: TrainingData, tmp_path: Path) -> None:
    killing = KillingStorage(f"file://{tmp_path}", after=1)
    with pytest.raises(Killed):
        train_drawing(data, "adamw", StageCheckpoints(killing, "part", seconds=0))
    other = StageCheckpoints(Storage(f"file://{tmp_path}"), "part")
    small = nn.Linear(2, 2)
    loop = Loop.over([(list(small.parameters()), 1e-3)], 3, 0.9)
    with pytest.raises(ValueError, match=rf"part/{FILE} holds \d+ parameters, the loop 'U-Net' trains 2"):
        other.loop("U-Net", loop).first_step()
    assert other.loop("objects", loop).first_step() == 0, "it is of another stage"
