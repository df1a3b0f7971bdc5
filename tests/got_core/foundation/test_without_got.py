"""Foundation models that know nothing of GoT: what their lessons hold, and what their U-Net reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from got_core.chain.grammar import BOX_START, parse
from got_core.foundation.config import without_got
from got_core.foundation.curriculum import Curriculum
from got_core.foundation.drawing import train_unet
from got_core.foundation.language_model import fit_tokenizer, train_language_model
from got_core.foundation.questions import CAPTION_PROMPT, LIST_PROMPT, caption_of
from got_core.foundation.train import build_text_encoder
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.model.sequence import IGNORED
from got_core.model.tokens import image_token
from got_core.recipes import tiny
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.run import TrainingRun

MODEL = tiny().model
KNOWING = replace(
    tiny().foundation,
    unet_edit_share=0.5,
    reading_steps=3,
    pointing_weight=1.0,
    edit_share=0.5,
    locate_steps=1,
)
CONFIG = without_got(KNOWING)


@pytest.fixture(scope="module")
def data(training_run: TrainingRun) -> TrainingData:
    return training_data(training_run)


def test_captions_are_the_chains_words_without_places() -> None:
    chain = parse("a red circle (0,0),(99,99) and a blue cross (500,0),(999,499) on a grey background")
    assert caption_of(chain).to_data() == " a red circle and a blue cross on a grey background"


def test_lessons_are_captions_named_objects_and_words_to_draw_from_and_hold_no_chain(
    data: TrainingData,
) -> None:
    tokenizer = fit_tokenizer(data, MODEL.image_tokens)
    sequences = build_sequences(MODEL, tokenizer, build_image_processor(MODEL.language_model))
    curriculum = Curriculum(sequences, data, CONFIG)
    lists, kinds = LIST_PROMPT.partition(":")[0], set()
    for step in range(18):
        batch = curriculum.captions(step)
        if batch.draws:
            assert "pixel_values" not in batch.inputs and len(batch.chains) == CONFIG.language_batch_size
            for ids, labels in zip(batch.inputs["input_ids"], batch.inputs["labels"], strict=True):
                text = tokenizer.decode(ids)
                assert BOX_START not in text and image_token(0) in text
                assert (labels != IGNORED).sum() == 3, "what stands around the image tokens, and nothing else"
            kinds.add("words")
            continue
        assert "pixel_values" in batch.inputs
        for ids, labels in zip(batch.inputs["input_ids"], batch.inputs["labels"], strict=True):
            whole, answer = tokenizer.decode(ids), tokenizer.decode(ids[labels != IGNORED])
            assert image_token(0) not in whole and " 2. " not in answer and f"{lists}:" not in whole
            assert (CAPTION_PROMPT in whole) == (BOX_START not in answer)
            kinds.add(CAPTION_PROMPT in whole)
    assert kinds == {True, False, "words"}


def test_the_language_model_ends_with_captions_and_has_met_the_text_encoder(data: TrainingData) -> None:
    tokenizer = fit_tokenizer(data, MODEL.image_tokens)
    sequences = build_sequences(MODEL, tokenizer, build_image_processor(MODEL.language_model))
    torch.manual_seed(0)
    model, projector = build_language_model(MODEL.language_model, tokenizer), build_projector(MODEL)
    fresh = {name: value.clone() for name, value in projector.state_dict().items()}
    parts: list[str] = []
    figures = train_language_model(
        model,
        projector,
        build_text_encoder(MODEL),
        sequences,
        data,
        replace(CONFIG, language_steps=8),
        lambda part, step, losses: parts.append(part),
    )
    assert parts[-1] == "captions" and not {"reading", "language model"} & set(parts)
    assert "captions_text" in figures
    assert not all(torch.equal(value, fresh[name]) for name, value in projector.state_dict().items())


def test_the_u_net_reads_plain_latents_alone(data: TrainingData) -> None:
    torch.manual_seed(0)
    vae, unet = build_autoencoder(MODEL), build_unet(MODEL)
    encoder = build_text_encoder(MODEL)
    train_unet(unet, vae, encoder, data, MODEL, CONFIG, lambda part, step, losses: None)
    assert unet.config.in_channels == unet.config.out_channels == MODEL.autoencoder.latent_channels
