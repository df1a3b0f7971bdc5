"""A walk through the graph with seconds of training, for tests."""

from __future__ import annotations

from dataclasses import replace

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import (
    AutoencoderConfig,
    LanguageModelConfig,
    LossConfig,
    ModelConfig,
    UNetConfig,
)
from got_core.recipes.embedded import EMBEDDED_STAGE
from got_core.recipes.recipe import Recipe
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import NARROW
from got_core.train.stage import finetuning, pretraining


def tiny() -> Recipe:
    """The same graph with seconds of training: for tests. Its model has learned nothing."""
    stage = replace(
        EMBEDDED_STAGE,
        batch_size=2,
        lora_rank=4,
        optimizer="adamw",
        loss=LossConfig(language_share=1 / 3, dropped_weight=0.1),
        checkpoint_every=2,
    )
    return Recipe(
        name="tiny",
        world=NARROW,
        corpus=CorpusConfig(images=48, edits=16),
        ingest=IngestConfig(image_shard_size=24, edit_shard_size=16),
        curate=CurateConfig(),
        model=ModelConfig(
            image_tokens=4,
            language_model=LanguageModelConfig(
                hidden_size=64,
                layers=1,
                heads=2,
                key_value_heads=2,
                intermediate_size=64,
                vision_hidden_size=32,
                vision_layers=1,
                vision_heads=1,
                vision_intermediate_size=32,
                patch_size=16,
            ),
            autoencoder=AutoencoderConfig(latent_channels=8, refiner_channels=8),
            unet=UNetConfig(
                block_out_channels=(16, 32),
                attention_heads=2,
                cross_attention_dim=32,
                pooled_dim=16,
                time_id_dim=8,
            ),
            inference_steps=2,
            max_new_tokens=24,
        ),
        foundation=FoundationConfig(
            batch_size=4,
            language_batch_size=4,
            vision_steps=2,
            language_steps=2,
            unet_steps=2,
            refiner_steps=2,
            projection_images=32,
        ),
        stages=(
            pretraining(replace(stage, steps=3, sample_every=2)),
            finetuning(replace(stage, steps=2, seed=1)),
        ),
        evaluate=EvaluateConfig(
            images_per_task=2, edit_images=6, reason_images=6, stage_images=2, batch_size=12, bootstrap=20
        ),
        ablation=AblationConfig(
            rows=("baseline", "got"),
            seeds=(0,),
            pretrain_steps=2,
            finetune_steps=2,
            images_per_task=2,
            edit_images=4,
            finetune_rows=0.5,
            without_got=True,
        ),
    )
