"""The published size: Qwen2.5-VL-3B and SDXL, for a GPU cluster."""

from __future__ import annotations

from dataclasses import replace

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import STRICT_RULES, CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import (
    AutoencoderConfig,
    GuidanceScales,
    LanguageModelConfig,
    LossConfig,
    ModelConfig,
    SchedulerConfig,
    UNetConfig,
)
from got_core.recipes.recipe import Recipe
from got_core.registry.config import PromotionConfig
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.config import StageConfig
from got_core.train.stage import finetuning, pretraining


def paper() -> Recipe:
    """The published size: Qwen2.5-VL-3B, SDXL's U-Net and autoencoder, pictures of 1024 pixels.

    Corpus, world, foundation training, the ablation and the benchmarks on scenes are of no use here: own
    images, published weights and published benchmarks (``GOT_BENCHMARKS``) take their place. The paper gives
    no shares: those of text to image and of edits are those of its data sets' sizes.
    They name groups that any data has; sources, such as t2i/lahr, are named by GOT_MIXTURE.
    """
    stage = StageConfig(
        steps=60_000,
        workers=16,
        batch_size=2,
        global_batch=128,
        draws_per_step=4,
        mixture={"t2i": 0.914, "single-turn": 0.086},
        geometry="bucket",
        decoders=4,
        peak_rate=1e-4,
        language_rate=None,
        warmup_steps=500,
        final_rate=0.0,
        lora_dropout=0.05,
        loss=LossConfig(noise_offset=0.1, prediction="epsilon"),
        ema_decay=0.0,
        gradient_checkpointing=True,
        selective_checkpointing=True,
        sharding="fsdp",
        checkpoint_every=1000,
        milestone_every=10_000,
        sample_every=5000,
        held_out=0.01,
    )
    return Recipe(
        name="paper",
        world=World(),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=10_000, edit_shard_size=10_000, min_side=512),
        curate=CurateConfig(rules=STRICT_RULES),
        model=_paper_model(),
        foundation=FoundationConfig(),
        stages=(
            pretraining(stage),
            finetuning(
                replace(
                    stage,
                    steps=10_000,
                    mixture={"t2i": 0.395, "single-turn": 0.486, "multi-turn": 0.119},
                    peak_rate=5e-5,
                    warmup_steps=200,
                    seed=1,
                )
            ),
        ),
        evaluate=EvaluateConfig(benchmarks=("geneval", "emu_edit/base"), batch_size=4),
        ablation=AblationConfig(
            seeds=(0,), pretrain_steps=60_000, finetune_steps=10_000, images_per_task=100, workers=16
        ),
        promotion=PromotionConfig(primary="geneval/overall"),
    )


def _paper_model() -> ModelConfig:
    """Qwen2.5-VL-3B-Instruct and SDXL-base, with the numbers of their published configurations."""
    return ModelConfig(
        resolution=1024,
        image_tokens=64,
        language_model=LanguageModelConfig(
            hidden_size=2048,
            layers=36,
            heads=16,
            key_value_heads=2,
            intermediate_size=11_008,
            mrope_section=(16, 24, 24),
            max_positions=128_000,
            rope_theta=1_000_000.0,
            rms_norm_epsilon=1e-6,
            vocabulary=151_936,
            tie_embeddings=True,
            initializer_range=0.02,
            vision_hidden_size=1280,
            vision_layers=32,
            vision_heads=16,
            vision_intermediate_size=3420,
            patch_size=14,
            vision_window=112,
            vision_full_attention=(7, 15, 23, 31),
            vision_tokens_per_second=2,
            image_size=448,
        ),
        autoencoder=AutoencoderConfig(kind="kl", latent_channels=4, scaling_factor=0.13025),
        unet=UNetConfig(
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            attention_heads=(5, 10, 20),
            transformer_layers=(1, 2, 10),
            attention_levels=(False, True, True),
            norm_groups=32,
            cross_attention_dim=2048,
            pooled_dim=1280,
            time_id_dim=256,
        ),
        scheduler=SchedulerConfig(
            name="DDPMScheduler",
            options={
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "steps_offset": 1,
                "timestep_spacing": "leading",
            },
            prediction="epsilon",
        ),
        generate_scales=GuidanceScales(text=7.5, spatial=4.0, reference=1.0),
        edit_scales=GuidanceScales(text=4.0, spatial=3.0, reference=1.5),
        inference_steps=50,
        max_new_tokens=1024,
    )
