"""Foundation parts: labels of the auxiliary head, and that each loop moves its part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from got_core.chain.grammar import parse
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.model.guidance import spatial_latents
from got_core.recipes import tiny
from got_core.train.foundation import (
    cell_labels,
    fit_autoencoder,
    fit_tokenizer,
    train_language_model,
    train_unet,
)
from got_core.train.run import TrainingRun
from got_core.train.stages import build_text_encoder, training_data

CHAIN = parse("a red circle (0,0),(499,499) and a blue cross (500,0),(999,499) on a grey background")


def silent(part: str, step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def test_cells_are_labelled_with_the_object_that_covers_their_centre() -> None:
    labels = cell_labels(CHAIN, 4, ["a blue cross", "a red circle"]).reshape(4, 4, 5)
    assert labels[0, :, 0].tolist() == [1, 1, 0, 0]
    assert (labels[2:, :, 0] == -1).all()
    assert labels[0, 0, 1:] == pytest.approx([0, 0, 0.499, 0.499])


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
    encoder = build_text_encoder(recipe.model, fit_tokenizer(data, recipe.model.image_tokens))
    figures |= train_unet(unet, vae, encoder, data, recipe.model, recipe.foundation, silent)
    assert figures["psnr"] > 15
    assert np.isfinite(figures["diffusion_loss"])
    moved = [name for name, p in unet.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)


def test_the_black_of_canvases_is_no_outlier_to_the_autoencoder(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    vae = build_autoencoder(recipe.model)
    fit_autoencoder(vae, data, recipe.model.autoencoder.balance, recipe.foundation, silent)
    # Fitted on pictures alone, the latents of these canvases have components beyond 15.
    assert spatial_latents(vae, [CHAIN], 64, 64).abs().max() < 8


def test_image_tokens_learn_to_say_what_the_text_encoder_says(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    config = replace(recipe.foundation, vision_steps=1, language_steps=40, edit_share=0.2, describe_share=0.1)
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    torch.manual_seed(0)
    model = build_language_model(recipe.model.language_model, tokenizer)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    losses: list[float] = []

    def listen(part: str, step: int, values: dict[str, float]) -> None:
        losses.append(values.get("alignment", float("nan")))

    projector, encoder = build_projector(recipe.model), build_text_encoder(recipe.model, tokenizer)
    figures = train_language_model(model, projector, encoder, sequences, data, config, listen)
    assert figures["alignment_loss"] < 0.7 * np.nanmax(losses)
