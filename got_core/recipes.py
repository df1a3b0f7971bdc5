"""Recipes: functions that return the whole configuration of the graph.

``embedded`` runs on a laptop and is the default; ``tiny`` walks the same graph in seconds for tests. A
recipe of your own is another function here, or any code that returns a ``Recipe``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from got_core.corpus.config import IngestConfig
from got_core.curate.config import CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.model.config import (
    AutoencoderConfig,
    LanguageModelConfig,
    ModelConfig,
    UNetConfig,
)
from got_core.scenes.corpus import CorpusConfig
from got_core.scenes.world import NARROW, World
from got_core.train.config import FoundationConfig, StageConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that can be chosen about a run of the graph, by stage."""

    name: str
    world: World
    """The world of scenes: corpus and benchmark of the embedded default."""
    corpus: CorpusConfig
    ingest: IngestConfig
    curate: CurateConfig
    model: ModelConfig
    foundation: FoundationConfig
    pretrain: StageConfig
    finetune: StageConfig
    evaluate: EvaluateConfig


def embedded() -> Recipe:
    """Small instances of the real classes on rendered scenes: the graph in minutes on two cores."""
    return Recipe(
        name="embedded",
        # Plain grey and nothing tiny: what a small model can learn to draw within minutes.
        world=World(tones=("grey",), min_object=18),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=500, edit_shard_size=500),
        curate=CurateConfig(),
        model=ModelConfig(),
        foundation=FoundationConfig(),
        pretrain=StageConfig(steps=750, final_rate=0.5),
        finetune=StageConfig(steps=400, peak_rate=1e-3, warmup_steps=20, final_rate=0.02, seed=1),
        evaluate=EvaluateConfig(),
    )


def tiny() -> Recipe:
    """The same graph with seconds of training: for tests. Its model has learned nothing."""
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
            vision_steps=2,
            language_steps=2,
            unet_steps=2,
            refiner_steps=2,
            projection_images=32,
        ),
        pretrain=StageConfig(steps=3, batch_size=2, lora_rank=4, checkpoint_every=2, sample_every=2),
        finetune=StageConfig(steps=2, batch_size=2, lora_rank=4, checkpoint_every=2, seed=1),
        evaluate=EvaluateConfig(images_per_task=2, batch_size=12, bootstrap=20),
    )


RECIPES = {"embedded": embedded, "tiny": tiny}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError, which lists the names, for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; set GOT_RECIPE to one of: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()


def digest(config: Any) -> str:
    """Twelve hex digits that change when any value of a configuration changes.

    Takes dataclasses, and JSON values or lists of dataclasses.
    """

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return plain(asdict(value))
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    text = json.dumps(plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
