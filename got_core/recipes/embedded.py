"""The default: small instances of the real classes on rendered scenes, on two cores."""

from __future__ import annotations

from dataclasses import replace

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import CurateConfig
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
from got_core.scenes.config import KINDS, CorpusConfig
from got_core.scenes.world import FULL
from got_core.train.config import StageConfig
from got_core.train.stage import finetuning, pretraining

NOISE_MEAN = 1.5
"""Of the noise levels' logit. On 8 x 8 latents the layout shows through all but strong noise, and a sample
that shows it teaches no binding of words to boxes: at 0 objects are learned three times slower."""
EMBEDDED_LOSS = LossConfig(
    language_share=1 / 3, dropped_weight=0.1, noise_mean=NOISE_MEAN, noise_offset=1.0, kept_weight=5.0
)
"""With an offset as strong as the noise, a noisy latent does not show how bright its background is, so an
edit's is read from the source; and what an edit keeps weighs more. As the foundation's U-Net was trained."""
EMBEDDED_STAGE = StageConfig(
    steps=1,
    workers=2,
    batch_size=18,
    mixture={"t2i": 0.3, "edit": 0.7},
    # The foundation ended at small rates: larger ones undo more than so few steps learn again.
    peak_rate=1e-4,
    language_rate=2e-4,
    warmup_steps=20,
    final_rate=0.1,
    optimizer="muon",
    loss=EMBEDDED_LOSS,
    ema_decay=0.99,
    sample_every=400,
)
"""What stages of small models on two cores have in common. No dropout: it costs a fifth of a step there."""


def embedded() -> Recipe:
    """Small instances of the real classes on rendered scenes: from the foundation weights that come with the
    package, the graph takes minutes on two cores."""
    return Recipe(
        name="embedded",
        world=FULL,
        # Where a new object goes is all that an add can be judged by, and nothing in the picture shows it.
        corpus=CorpusConfig(
            images=4_000,
            edits=1_500,
            edit_kinds=("add", "add", *KINDS),
            multi_turn=0.5,
            reasoning=0.3,
            place_draws=64,
        ),
        # Two shards of each kind, so that two cores end together; each one more is another run of the graph.
        ingest=IngestConfig(image_shard_size=2_000, edit_shard_size=1_350),
        curate=CurateConfig(),
        model=_model(),
        foundation=_foundation(),
        stages=(
            pretraining(replace(EMBEDDED_STAGE, steps=120, first_samples=30)),
            finetuning(
                replace(
                    EMBEDDED_STAGE,
                    steps=120,
                    mixture={"t2i": 0.2, "single-turn": 0.4, "multi-turn": 0.2, "reasoning": 0.2},
                    final_rate=0.02,
                    row_share=0.5,
                    seed=1,
                )
            ),
        ),
        evaluate=EvaluateConfig(
            benchmarks=("geneval/scenes", "edits/scenes", "reason_edit/scenes"),
            edit_images=252,
            reason_images=60,
        ),
        ablation=AblationConfig(
            seeds=(0, 1),
            pretrain_steps=270,
            finetune_steps=210,
            finetune_rows=0.5,
            edit_images=48,
            without_got=True,
            foundation_share=0.3,
            peak_rate=1e-3,
            language_rate=1.5e-3,
        ),
    )


def _model() -> ModelConfig:
    """Norms over large groups of channels, for small ones lose how bright a picture is, and an edit has to
    keep it. Edits without guidance: higher scales leave more traces of what was there, and take more passes.
    """
    return ModelConfig(
        # A visual token for every 8 pixels: of coarser ones small objects share one. Rotary frequencies low
        # enough that what an instruction names is found again from the chain, and high enough to tell eight
        # columns apart.
        language_model=LanguageModelConfig(merge_size=1, rope_theta=200.0),
        autoencoder=AutoencoderConfig(latent_channels=48),
        # On an 8 x 8 grid of latents attention at the coarser level and a middle block add time, not quality.
        unet=UNetConfig(
            block_out_channels=(96, 176),
            attention_levels=(True, False),
            middle_block=False,
            norm_groups=2,
            input_skip=True,
        ),
        # The shift keeps the last steps of drawing where the U-Net has been trained (see NOISE_MEAN).
        scheduler=SchedulerConfig(options={"shift": 3.0}),
        edit_scales=GuidanceScales(text=1.0, spatial=1.0, reference=1.0),
    )


def _foundation() -> FoundationConfig:
    """How the weights that come with the package are trained, on the corpus of the longer recipe."""
    return FoundationConfig(
        optimizer="muon",
        tower_steps=2_500,
        vision_steps=600,
        vision_rate=4e-3,
        seeing_rate=1e-3,
        # Half of the questions say what is true of an object: what instructions with reasoning rest on.
        locate_steps=2_000,
        referent_share=0.5,
        reading_steps=2_000,
        language_steps=8_000,
        language_batch_size=8,
        language_rate=1.5e-3,
        settled_rate=1e-4,
        # Edits from the start: a background that a U-Net has learned to guess from words it does not learn to
        # look up later. Errors outside the boxes are few and small, so they have to weigh more; the more they
        # weigh, the later it learns what is to happen inside.
        unet_steps=10_000,
        unet_edit_share=0.65,
        unet_loss=LossConfig(dropped_weight=0.1, noise_mean=NOISE_MEAN, noise_offset=1.0, kept_weight=5.0),
        refiner_steps=600,
        edit_share=0.55,
        reasoning_share=0.35,
        describe_share=0.0,
        locate_share=0.15,
        recall_share=0.1,
        renamed_share=0.4,
        pointing_weight=1.0,
        alignment_weight=10.0,
    )
