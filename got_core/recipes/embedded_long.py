"""The recipe `embedded` at another length: more scenes, longer stages, larger benchmarks.

Belongs here: what is longer. Not here: what both have in common (`embedded`).
"""

from __future__ import annotations

from dataclasses import replace

from got_core.corpus.config import IngestConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.recipes.embedded import embedded
from got_core.recipes.recipe import Recipe
from got_core.train.stage import finetuning, pretraining


def embedded_long() -> Recipe:
    """The embedded recipe with about two CPU-hours of training after its foundation, whose corpus this is."""
    short = embedded()
    return replace(
        short,
        name="embedded-long",
        corpus=replace(short.corpus, images=12_000, edits=7_500, multi_turn=0.8, reasoning=0.6),
        ingest=IngestConfig(image_shard_size=2_000, edit_shard_size=1_500),
        stages=(
            pretraining(replace(short.stage("pretrain").config, steps=600)),
            finetuning(replace(short.stage("finetune").config, steps=1_100)),
        ),
        evaluate=EvaluateConfig(
            benchmarks=short.evaluate.benchmarks,
            images_per_task=200,
            sampling_seeds=(0, 1, 2),
            repair="both",
            edit_images=200,
            reason_images=120,
            keep_outside="both",
        ),
    )
