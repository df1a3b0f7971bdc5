"""The published size's own configuration at sizes that two cores train in minutes: `paper`, rehearsed.

Belongs here: sizes, steps, intervals, batches, workers and the held-out share, nothing else, so that whatever
breaks at the settings of `paper` breaks here first. A test names every field in which the two may differ. Not
here: the pictures, weights and annotator that a rehearsal runs on (``deployments/rehearsal``).
"""

from __future__ import annotations

from dataclasses import replace

from got_core.model.config import ModelConfig
from got_core.recipes.paper import paper
from got_core.recipes.recipe import Recipe
from got_core.train.stage import Stage


def rehearsal() -> Recipe:
    """`paper` with small networks of the same shape, pictures of 128 pixels and a few steps, on two workers.

    Stages have a decoder process a worker, several passes a step, aspect buckets, several checkpoints and a
    milestone, as those of `paper` do; of its few rows a larger share is held out, for there to be one. What
    comes out has learned nothing.
    """
    full = paper()
    small = replace(
        full,
        name="rehearsal",
        ingest=replace(full.ingest, image_shard_size=24, edit_shard_size=32),
        model=_small(full.model),
        ablation=replace(full.ablation, pretrain_steps=4, finetune_steps=2, images_per_task=1, workers=2),
    )
    small = replace(small, stages=tuple(_spread(stage) for stage in small.stages))
    small = small.with_stage("pretrain", steps=12, warmup_steps=3, checkpoint_every=4)
    return small.with_stage("finetune", steps=6, warmup_steps=2, checkpoint_every=3)


def _spread(stage: Stage) -> Stage:
    """A stage over two workers, with intervals of a few steps."""
    config = replace(
        stage.config,
        workers=2,
        decoders=1,
        batch_size=1,
        global_batch=8,
        bucket_multiple=32,
        sample_every=8,
        milestone_every=8,
        held_out=0.1,
    )
    return replace(stage, config=config)


def _small(model: ModelConfig) -> ModelConfig:
    """The networks with the published levels, windows, strides and vocabulary, and few channels."""
    return replace(
        model,
        resolution=128,
        image_tokens=16,
        language_model=replace(
            model.language_model,
            hidden_size=32,
            layers=2,
            heads=2,
            key_value_heads=1,
            intermediate_size=64,
            mrope_section=(2, 3, 3),
            vision_hidden_size=32,
            vision_layers=2,
            vision_heads=2,
            vision_intermediate_size=64,
            vision_full_attention=(1,),
            vision_window=56,
            image_size=112,
        ),
        autoencoder=replace(model.autoencoder, block_out_channels=(16, 16, 32, 32), layers_per_block=1),
        unet=replace(
            model.unet,
            block_out_channels=(32, 64, 64),
            attention_heads=(1, 2, 2),
            transformer_layers=(1, 1, 2),
            cross_attention_dim=64,
            pooled_dim=32,
            time_id_dim=16,
        ),
        inference_steps=4,
        max_new_tokens=32,
    )
