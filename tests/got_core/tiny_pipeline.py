"""A GoT pipeline of the real classes with random weights, small enough to be built in a second."""

from __future__ import annotations

import torch

from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_scheduler,
    build_unet,
)
from got_core.model.config import AutoencoderConfig, LanguageModelConfig, ModelConfig, UNetConfig
from got_core.model.guidance import widen_input
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer

TINY = ModelConfig(
    image_tokens=4,
    language_model=LanguageModelConfig(
        hidden_size=64,
        layers=1,
        heads=2,
        key_value_heads=2,
        intermediate_size=64,
        vision_hidden_size=32,
        vision_layers=1,
        vision_heads=2,
        vision_intermediate_size=32,
    ),
    autoencoder=AutoencoderConfig(latent_channels=16, refiner_channels=0),
    unet=UNetConfig(block_out_channels=(16, 32), attention_heads=2, cross_attention_dim=32, pooled_dim=16),
    inference_steps=2,
    max_new_tokens=8,
)


def tiny_pipeline(seed: int = 0) -> GoTPipeline:
    """Random weights; the plans and pictures are noise, the code that runs is the real one."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4) and a blue square"], TINY.image_tokens)
    unet = build_unet(TINY)
    widen_input(unet)
    pipeline = GoTPipeline(
        mllm=build_language_model(TINY.language_model, tokenizer).eval(),
        tokenizer=tokenizer,
        image_processor=build_image_processor(TINY.language_model),
        projector=build_projector(TINY),
        unet=unet,
        vae=build_autoencoder(TINY),
        scheduler=build_scheduler(TINY.scheduler),
        resolution=TINY.resolution,
        image_tokens=TINY.image_tokens,
        source_size=TINY.language_model.image_size,
        inference_steps=TINY.inference_steps,
        max_new_tokens=TINY.max_new_tokens,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
