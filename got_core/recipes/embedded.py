"""The default: small instances of the real classes on rendered scenes, on two cores."""

from __future__ import annotations

from dataclasses import replace

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import (
    LanguageModelConfig,
    LossConfig,
    ModelConfig,
    UNetConfig,
)
from got_core.recipes.recipe import Recipe
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.config import StageConfig
from got_core.train.stage import finetuning, pretraining

NOISE_MEAN = 1.5
"""Of the noise levels' logit. On 8 x 8 latents the layout shows through all but strong noise, and a sample
that shows it teaches no binding of words to boxes: at 0 objects are learned three times slower."""
EMBEDDED_LOSS = LossConfig(language_share=1 / 3, dropped_weight=0.1, noise_mean=NOISE_MEAN)
EMBEDDED_STAGE = StageConfig(
    steps=1,
    workers=2,
    batch_size=18,
    mixture={"t2i": 0.85, "edit": 0.15},
    peak_rate=2e-3,
    language_rate=5e-4,
    warmup_steps=50,
    final_rate=0.1,
    optimizer="muon",
    loss=EMBEDDED_LOSS,
    ema_decay=0.998,
    sample_every=400,
)
"""What stages of small models on two cores have in common. No dropout: it costs a fifth of a step there."""


def embedded() -> Recipe:
    """Small instances of the real classes on rendered scenes: the graph in minutes on two cores."""
    return Recipe(
        name="embedded",
        # Plain grey, nothing tiny, pairs of two colours: what a small model can learn to draw within minutes.
        world=World(tones=("grey",), min_object=18, unlike_colors=True),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=500, edit_shard_size=500),
        curate=CurateConfig(),
        # On an 8 x 8 grid of latents attention at the coarser level and a middle block add time, not quality.
        # Rotary frequencies that can tell eight columns apart: in longer ones a token never knows its own.
        model=ModelConfig(
            language_model=LanguageModelConfig(rope_theta=20.0),
            unet=UNetConfig(attention_levels=(True, False), middle_block=False),
        ),
        foundation=FoundationConfig(
            optimizer="muon",
            tower_steps=300,
            vision_steps=100,
            vision_rate=4e-3,
            seeing_rate=1e-3,
            language_steps=700,
            unet_steps=600,
            unet_loss=LossConfig(dropped_weight=0.1, noise_mean=NOISE_MEAN),
        ),
        # Edits come last: from the start on, they would slow down the binding of words to boxes.
        stages=(
            pretraining(replace(EMBEDDED_STAGE, steps=620, mixture={"t2i": 1.0}, final_rate=0.4)),
            finetuning(
                replace(EMBEDDED_STAGE, steps=260, peak_rate=1e-3, warmup_steps=20, final_rate=0.02, seed=1)
            ),
        ),
        evaluate=EvaluateConfig(),
        ablation=AblationConfig(),
    )
