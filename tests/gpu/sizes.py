"""Models of these tests: the published widths where there is a GPU, tiny ones on a CPU."""

from __future__ import annotations

from dataclasses import replace

import torch

from got_core.model.build import build_scheduler, fresh_pipeline
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes import Recipe, paper, tiny
from got_core.train.config import StageConfig
from got_core.train.stage import pretraining


def recipe_for(device: torch.device) -> Recipe:
    """One stage of edits in aspect buckets: ``paper``'s whole U-Net and autoencoder and a language model of
    its width with two layers; on a CPU the recipe ``tiny``."""
    full = device.type == "cuda"
    recipe = paper() if full else tiny()
    model = _shallow(recipe.model) if full else recipe.model
    stage = StageConfig(
        steps=4,
        batch_size=1,
        mixture={"edit": 1.0},
        geometry="bucket",
        bucket_multiple=64 if full else 16,
        lora_rank=32 if full else 4,
        loss=LossConfig(prediction=model.scheduler.prediction),
        gradient_checkpointing=True,
    )
    return replace(recipe, model=model, stages=(pretraining(stage),))


def _shallow(model: ModelConfig) -> ModelConfig:
    language = replace(model.language_model, layers=2, vision_layers=2, vision_full_attention=(1,))
    return replace(model, language_model=language)


def random_pipeline(model: ModelConfig, device: torch.device) -> GoTPipeline:
    """A pipeline with random weights, made on the device: at the published size a CPU takes minutes."""
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4) and a blue square"], model.image_tokens)
    with device:
        pipeline = fresh_pipeline(model, tokenizer)
    pipeline.register_modules(scheduler=build_scheduler(model.scheduler))
    return pipeline
