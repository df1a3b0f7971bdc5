"""Foundation parts: labels of the auxiliary head, captions, and that each loop moves its part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from got_core.chain.grammar import parse
from got_core.model.build import build_autoencoder, build_unet
from got_core.recipes import tiny
from got_core.train.foundation import (
    cell_labels,
    fit_autoencoder,
    fit_tokenizer,
    train_unet,
    without_boxes,
)
from got_core.train.run import TrainingRun
from got_core.train.stages import training_data

CHAIN = parse("a red circle (0,0),(499,499) and a blue cross (500,0),(999,499) on a grey background")


def silent(part: str, step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def test_cells_are_labelled_with_the_object_that_covers_their_centre() -> None:
    labels = cell_labels(CHAIN, 4, ["a blue cross", "a red circle"]).reshape(4, 4, 5)
    assert labels[0, :, 0].tolist() == [1, 1, 0, 0]
    assert (labels[2:, :, 0] == -1).all()
    assert labels[0, 0, 1:] == pytest.approx([0, 0, 0.499, 0.499])


def test_captions_are_chains_without_their_boxes() -> None:
    assert without_boxes(CHAIN) == "a red circle and a blue cross on a grey background"


def test_the_tokenizer_knows_every_word_of_the_manifest(training_run: TrainingRun) -> None:
    data = training_data(training_run)
    tokenizer = fit_tokenizer(data, 4)
    for row in data.rows:
        words = row["prompt"].split()
        ids = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
        assert all(len(token) == 1 for token in ids), row["prompt"]


def test_autoencoder_and_unet_learn_something_in_a_few_steps(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    torch.manual_seed(0)
    vae, unet = build_autoencoder(recipe.model), build_unet(recipe.model)
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    figures = fit_autoencoder(vae, data, recipe.model.autoencoder.balance, recipe.foundation, silent)
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    figures |= train_unet(unet, vae, tokenizer, data, recipe.model, recipe.foundation, silent)
    assert figures["psnr"] > 15
    assert np.isfinite(figures["diffusion_loss"])
    moved = [name for name, p in unet.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)
