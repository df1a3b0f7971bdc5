"""Own photographs on one GPU: a model that has learned GoT, finetuned with LoRA."""

from __future__ import annotations

from dataclasses import replace

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import DEFAULT_RULES, CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import LossConfig, ModelConfig
from got_core.recipes.paper import paper
from got_core.recipes.recipe import Recipe
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.config import StageConfig
from got_core.train.stage import finetuning


def finetune_own(model: ModelConfig | None = None) -> Recipe:
    """Finetuning of a GoT model (``GOT_WEIGHTS``) on some thousands of own photographs, on one GPU.

    ``model``: sizes of the weights that it starts from; None: the paper's. With 5,000 photographs 3,000 steps
    of 16 samples are 9.6 epochs. Shares of data sets are text to image four to one where there are edit
    pairs, and text to image alone where there are none.
    """
    model = model or _learned(paper().model)
    stage = StageConfig(
        steps=3000,
        batch_size=1,
        global_batch=16,
        mixture={"t2i": 0.8, "edit": 0.2},
        geometry="bucket",
        held_out=0.05,  # a champion is compared by it
        decoders=4,
        # Adapters take larger steps than whole weights; the language model plans well already.
        peak_rate=1e-4,
        language_rate=5e-5,
        warmup_steps=100,
        lora_dropout=0.05,
        language_whole=False,
        drawing_lora_rank=32,
        loss=LossConfig(noise_offset=0.1, prediction=model.scheduler.prediction),
        frozen_bf16=True,
        gradient_checkpointing=True,
        checkpoint_every=250,
        sample_every=500,
    )
    return Recipe(
        name="finetune-own",
        world=World(),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=1000, edit_shard_size=1000, min_side=512),
        curate=CurateConfig(rules=(*DEFAULT_RULES, "near_duplicate")),
        model=model,
        foundation=FoundationConfig(),
        stages=(finetuning(stage),),
        evaluate=EvaluateConfig(benchmarks=()),
        ablation=AblationConfig(),
    )


def finetune_own_512() -> Recipe:
    """The same at 512 pixels: a quarter of the latents, for a GPU of 24 GB or a third of the time."""
    recipe = finetune_own(replace(_learned(paper().model), resolution=512))
    return replace(recipe, name="finetune-own-512")


def _learned(model: ModelConfig) -> ModelConfig:
    """The model as it comes out of a training: its head has weights of its own."""
    return replace(model, language_model=replace(model.language_model, tie_embeddings=False))
