"""Builds the networks of a GoT model from its configuration, with fresh weights.

The classes are those of the paper size; only the numbers differ.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from transformers import ImageProcessingMixin, PreTrainedModel, PreTrainedTokenizerBase

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.backbones.qwen2_5_vl import (
    QwenPlanner,
    build_image_processor,
    build_language_model,
)
from got_core.model.backbones.registry import drawer_of
from got_core.model.backbones.sdxl_unet import build_unet, unet_class
from got_core.model.config import ModelConfig, SchedulerConfig
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline
from got_core.model.sequence import SequenceBuilder

__all__ = [
    "assemble_pipeline",
    "build_autoencoder",
    "build_image_processor",
    "build_language_model",
    "build_projector",
    "build_scheduler",
    "build_sequences",
    "build_unet",
    "fresh_pipeline",
    "pipeline_settings",
    "scheduler_class",
    "unet_class",
]


def build_autoencoder(config: ModelConfig) -> PatchAutoencoder | AutoencoderKL:
    """The autoencoder of the configured kind, not yet fitted."""
    part = config.autoencoder
    if part.kind == "patch":
        return PatchAutoencoder(
            part.patch_size, part.latent_channels, part.refiner_channels, part.scaling_factor
        )
    levels = len(part.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=part.block_out_channels,
        layers_per_block=part.layers_per_block,
        latent_channels=part.latent_channels,
        norm_num_groups=min(32, part.block_out_channels[0]),
        sample_size=config.resolution,
        scaling_factor=part.scaling_factor,
    )


def build_projector(config: ModelConfig) -> GuidanceProjector:
    """The two linear maps between the language model and the drawing network."""
    return GuidanceProjector(
        config.language_model.hidden_size, config.unet.cross_attention_dim, config.unet.pooled_dim
    )


def build_scheduler(config: SchedulerConfig) -> SchedulerMixin:
    """Any scheduler of diffusers, with the configured options."""
    return scheduler_class(config.name)(**config.options)


def scheduler_class(name: str) -> Any:
    """A scheduler's class by its name. Raises ValueError where diffusers has no such scheduler."""
    cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise ValueError(f"{name!r} is not a scheduler of diffusers; name a class such as DDPMScheduler")
    return cls


def assemble_pipeline(
    config: ModelConfig,
    *,
    mllm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    projector: GuidanceProjector,
    unet: ModelMixin,
    vae: PatchAutoencoder | AutoencoderKL,
) -> GoTPipeline:
    """A pipeline of the given parts. A drawing network that takes C channels is widened to 3C."""
    drawer_of(unet).widen_input()
    pipeline = GoTPipeline(
        mllm=mllm.eval(),
        tokenizer=tokenizer,
        image_processor=build_image_processor(config.language_model),
        projector=projector,
        unet=unet,
        vae=vae,
        scheduler=build_scheduler(config.scheduler),
        **pipeline_settings(config),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_settings(config: ModelConfig) -> dict[str, Any]:
    """What a pipeline takes from a configuration beside its parts."""
    return {
        "resolution": config.resolution,
        "image_tokens": config.image_tokens,
        "source_size": config.language_model.image_size,
        "inference_steps": config.inference_steps,
        "max_new_tokens": config.max_new_tokens,
        "prediction": config.scheduler.prediction,
        "generate_scales": list(config.generate_scales.as_tuple()),
        "edit_scales": list(config.edit_scales.as_tuple()),
        "reasoning": config.reasoning,
        "spatial_guidance": config.spatial_guidance,
    }


def fresh_pipeline(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> GoTPipeline:
    """A pipeline of the configured size that has learned nothing."""
    torch.manual_seed(seed)
    return assemble_pipeline(
        config,
        mllm=build_language_model(config.language_model, tokenizer),
        tokenizer=tokenizer,
        projector=build_projector(config),
        unet=build_unet(config),
        vae=build_autoencoder(config),
    )


def build_sequences(
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase, image_processor: ImageProcessingMixin
) -> SequenceBuilder:
    """The sequence builder of a model."""
    chat = QwenPlanner.chat_format(image_processor, config.language_model.image_size)
    return SequenceBuilder(tokenizer, chat, config.image_tokens)
