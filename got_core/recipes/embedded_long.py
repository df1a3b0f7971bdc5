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
    """The embedded recipe with an hour and a half of CPU time of training after its foundation, whose corpus
    this is."""
    short = embedded()
    # After the foundation plans are what is missing most, so the language model learns from every row; rates
    # that change something, for so many steps bring them down again; and what an edit keeps is learned well
    # enough to weigh less, so that replaced objects leave smaller traces.
    loss = replace(short.stage("pretrain").config.loss, language_share=1.0, kept_weight=2.0)
    pretrain = replace(
        short.stage("pretrain").config,
        steps=900,
        loss=loss,
        peak_rate=4e-4,
        language_rate=1.5e-3,
        final_rate=0.5,
    )
    finetune = replace(
        short.stage("finetune").config,
        steps=1_800,
        loss=loss,
        peak_rate=2e-4,
        language_rate=7.5e-4,
        row_share=0.75,
    )
    return replace(
        short,
        name="embedded-long",
        corpus=replace(short.corpus, images=12_000, edits=7_500, multi_turn=0.8, reasoning=0.6),
        ingest=IngestConfig(image_shard_size=2_000, edit_shard_size=1_500),
        stages=(pretraining(pretrain), finetuning(finetune)),
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
