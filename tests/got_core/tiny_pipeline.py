"""A GoT pipeline of the real classes with random weights, small enough to be built in a second."""

from __future__ import annotations

import torch

from got_core.model.build import fresh_pipeline
from got_core.model.config import ModelConfig
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes import tiny

TINY = tiny().model


def tiny_pipeline(seed: int = 0, config: ModelConfig = TINY) -> GoTPipeline:
    """Random weights; the plans and pictures are noise, the code that runs is the real one."""
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4) and a blue square"], config.image_tokens)
    return fresh_pipeline(config, tokenizer, seed)


def sees_its_conditions(pipeline: GoTPipeline) -> GoTPipeline:
    """The same pipeline with weight on all input channels: a fresh one ignores Gr and Gs (zeros)."""
    torch.nn.init.normal_(pipeline.unet.conv_in.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return pipeline
