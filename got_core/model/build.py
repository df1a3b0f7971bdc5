"""Builds the networks of a GoT model from its configuration, with fresh weights.

The classes are those of the paper size; only the numbers differ.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.config import LanguageModelConfig, ModelConfig, SchedulerConfig
from got_core.model.guidance import GuidanceProjector, widen_input
from got_core.model.pipeline import GoTPipeline
from got_core.model.sequence import SequenceBuilder
from got_core.model.tokens import END_OF_TEXT, IMAGE_PAD
from got_core.model.unet import UNetWithInputSkip


def build_language_model(
    config: LanguageModelConfig, tokenizer: PreTrainedTokenizerBase
) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL model at the configured size for this tokenizer."""

    def ids(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    qwen = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": config.vocabulary or len(tokenizer),
            "rms_norm_eps": config.rms_norm_epsilon,
            "tie_word_embeddings": config.tie_embeddings,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.layers,
            "initializer_range": config.initializer_range,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.key_value_heads,
            "max_position_embeddings": config.max_positions,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": config.rope_theta,
                "mrope_section": list(config.mrope_section),
            },
            "bos_token_id": ids(END_OF_TEXT),
            "eos_token_id": ids(END_OF_TEXT),
            "pad_token_id": ids(END_OF_TEXT),
        },
        vision_config={
            "depth": config.vision_layers,
            "initializer_range": config.initializer_range,
            "hidden_size": config.vision_hidden_size,
            "intermediate_size": config.vision_intermediate_size,
            "num_heads": config.vision_heads,
            "patch_size": config.patch_size,
            "spatial_merge_size": config.merge_size,
            "window_size": config.vision_window or config.image_size,
            "out_hidden_size": config.hidden_size,
            "fullatt_block_indexes": _full_attention(config),
            "tokens_per_second": config.vision_tokens_per_second,
        },
        initializer_range=config.initializer_range,
        tie_word_embeddings=config.tie_embeddings,
        image_token_id=ids(IMAGE_PAD),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(qwen)


def _full_attention(config: LanguageModelConfig) -> list[int]:
    chosen = config.vision_full_attention
    return list(range(config.vision_layers)) if chosen is None else list(chosen)


def build_image_processor(config: LanguageModelConfig) -> Qwen2VLImageProcessorPil:
    """The image processor of the vision tower (PIL backend, no torchvision)."""
    return Qwen2VLImageProcessorPil(
        patch_size=config.patch_size,
        merge_size=config.merge_size,
        size={"shortest_edge": config.image_size**2, "longest_edge": config.image_size**2},
    )


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


def build_unet(config: ModelConfig) -> UNet2DConditionModel:
    """A text-to-image U-Net on C latent channels, SDXL's kind of conditioning; not yet widened to 3C."""
    part = config.unet
    attends = part.attention_levels or (True,) * len(part.block_out_channels)
    return unet_class(config)(
        sample_size=config.resolution // config.autoencoder.patch_size,
        in_channels=config.autoencoder.latent_channels,
        out_channels=config.autoencoder.latent_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        mid_block_type="UNetMidBlock2DCrossAttn" if part.middle_block else None,
        block_out_channels=part.block_out_channels,
        layers_per_block=part.layers_per_block,
        cross_attention_dim=part.cross_attention_dim,
        attention_head_dim=part.attention_heads,
        transformer_layers_per_block=part.transformer_layers,
        norm_num_groups=part.norm_groups,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=part.time_id_dim,
        projection_class_embeddings_input_dim=part.pooled_dim + 6 * part.time_id_dim,
    )


def unet_class(config: ModelConfig) -> type[UNet2DConditionModel]:
    """Diffusers' U-Net, or the one with a skip."""
    return UNetWithInputSkip if config.unet.input_skip else UNet2DConditionModel


def build_projector(config: ModelConfig) -> GuidanceProjector:
    """The two linear maps between the language model and the U-Net."""
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
    mllm: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    projector: GuidanceProjector,
    unet: UNet2DConditionModel,
    vae: PatchAutoencoder | AutoencoderKL,
) -> GoTPipeline:
    """A pipeline of the given parts. A U-Net on C channels is widened to 3C."""
    if unet.config.in_channels == config.autoencoder.latent_channels:
        widen_input(unet)
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
    """What a pipeline is told of a configuration beside its parts."""
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
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase, image_processor: Qwen2VLImageProcessorPil
) -> SequenceBuilder:
    """The sequence builder of a model."""
    return SequenceBuilder(tokenizer, image_processor, config.image_tokens, config.language_model.image_size)
