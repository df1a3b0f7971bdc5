"""The full world of scenes: six shapes, eight colours, edits of several steps."""

from __future__ import annotations

from dataclasses import replace

from got_core.corpus.config import IngestConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.model.config import (
    GuidanceScales,
    SchedulerConfig,
)
from got_core.recipes.embedded import EMBEDDED_LOSS, embedded
from got_core.recipes.recipe import Recipe
from got_core.scenes.config import KINDS, CorpusConfig
from got_core.scenes.world import FULL
from got_core.train.stage import finetuning, pretraining

KEEPING_LOSS = replace(EMBEDDED_LOSS, noise_offset=1.0, kept_weight=10.0)
"""Where backgrounds differ: with an offset as strong as the noise, a noisy latent does not show how bright
its background is, so an edit's is read from the source; and what an edit keeps weighs more."""


def embedded_long() -> Recipe:
    """The embedded recipe on the full world of scenes, with at most three CPU-hours of training."""
    short = embedded()
    return replace(
        short,
        name="embedded-long",
        world=FULL,
        # Where a new object goes is all that an add can be judged by, and nothing in the picture shows it.
        corpus=CorpusConfig(
            images=12_000,
            edits=7_500,
            edit_kinds=("add", "add", *KINDS),
            multi_turn=0.8,
            reasoning=0.6,
            place_draws=64,
        ),
        ingest=IngestConfig(image_shard_size=2_000, edit_shard_size=1_500),
        # A visual token for every 8 pixels: of coarser ones small objects share one.
        # Chains are longer than in the short recipe, so rotary frequencies are lower: at its base the slowest
        # one turns by a radian in 17 tokens, and what an instruction names is not found again from the chain.
        # Norms over 6 channels, as in the short recipe, lose how bright a picture is; an edit has to keep it.
        # The shift keeps the last steps of drawing where the U-Net has been trained (see NOISE_MEAN).
        # Edits without guidance: higher scales leave more traces of what was there, and take more passes.
        model=replace(
            short.model,
            edit_scales=GuidanceScales(text=1.0, spatial=1.0, reference=1.0),
            language_model=replace(short.model.language_model, merge_size=1, rope_theta=200.0),
            autoencoder=replace(short.model.autoencoder, latent_channels=48),
            unet=replace(short.model.unet, block_out_channels=(96, 176), norm_groups=2, input_skip=True),
            scheduler=SchedulerConfig(options={"shift": 3.0}),
        ),
        foundation=replace(
            short.foundation,
            tower_steps=2_500,
            vision_steps=600,
            # Half of the questions say what is true of an object: what instructions with reasoning rest on.
            locate_steps=2_000,
            referent_share=0.5,
            reading_steps=2_000,
            language_steps=8_000,
            language_batch_size=8,
            language_rate=1.5e-3,
            settled_rate=1e-4,
            # Edits from the start: a background that a U-Net has learned to guess from words it does not
            # learn to look up later. Errors outside the boxes are few and small, so they have to weigh more;
            # the more they weigh, the later it learns what is to happen inside.
            unet_steps=10_000,
            unet_edit_share=0.65,
            unet_loss=replace(short.foundation.unet_loss, noise_offset=1.0, kept_weight=5.0),
            refiner_steps=600,
            edit_share=0.55,
            reasoning_share=0.35,
            describe_share=0.0,
            locate_share=0.15,
            recall_share=0.1,
            renamed_share=0.4,
            pointing_weight=1.0,
            alignment_weight=10.0,
        ),
        stages=(
            # Guided by the text encoder, the U-Net draws text to image well by now; edits less so.
            pretraining(
                replace(
                    short.stage("pretrain").config,
                    steps=600,
                    mixture={"t2i": 0.3, "edit": 0.7},
                    language_rate=3e-4,
                    loss=KEEPING_LOSS,
                )
            ),
            # Edits are the language model's task first, those of several steps the hardest. It plans them
            # well by now and learns from half of the rows, to save time.
            finetuning(
                replace(
                    short.stage("finetune").config,
                    steps=1_100,
                    mixture={"t2i": 0.2, "single-turn": 0.35, "multi-turn": 0.45},
                    language_rate=4e-4,
                    # Words are bound to boxes by now: what is left is drawing exactly, at all noise levels.
                    loss=replace(KEEPING_LOSS, language_share=0.5, noise_mean=0.5),
                )
            ),
        ),
        evaluate=EvaluateConfig(
            images_per_task=200,
            sampling_seeds=(0, 1, 2),
            repair="both",
            edit_images=200,
            keep_outside="both",
        ),
    )
