"""The rehearsal is the published size's own configuration: only sizes, steps, batches and workers differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from got_core.model.buckets import bucket_sizes
from got_core.recipes import get_recipe

LANGUAGE_MODEL = "model.language_model"
DIFFERENCES = {
    "name",
    # Sizes of shards.
    "ingest.image_shard_size",
    "ingest.edit_shard_size",
    # Sizes of pictures, networks and chains.
    "model.resolution",
    "model.image_tokens",
    "model.max_new_tokens",
    "model.inference_steps",
    f"{LANGUAGE_MODEL}.hidden_size",
    f"{LANGUAGE_MODEL}.layers",
    f"{LANGUAGE_MODEL}.heads",
    f"{LANGUAGE_MODEL}.key_value_heads",
    f"{LANGUAGE_MODEL}.intermediate_size",
    f"{LANGUAGE_MODEL}.mrope_section",
    f"{LANGUAGE_MODEL}.vision_hidden_size",
    f"{LANGUAGE_MODEL}.vision_layers",
    f"{LANGUAGE_MODEL}.vision_heads",
    f"{LANGUAGE_MODEL}.vision_intermediate_size",
    f"{LANGUAGE_MODEL}.vision_full_attention",
    f"{LANGUAGE_MODEL}.vision_window",
    f"{LANGUAGE_MODEL}.image_size",
    "model.autoencoder.block_out_channels",
    "model.autoencoder.layers_per_block",
    "model.unet.block_out_channels",
    "model.unet.attention_heads",
    "model.unet.transformer_layers",
    "model.unet.cross_attention_dim",
    "model.unet.pooled_dim",
    "model.unet.time_id_dim",
    # Steps, intervals, batches, workers and their decoders of each stage, and the step of its buckets' sides.
    "stages.steps",
    "stages.warmup_steps",
    "stages.checkpoint_every",
    "stages.sample_every",
    "stages.milestone_every",
    "stages.workers",
    "stages.decoders",
    "stages.batch_size",
    "stages.global_batch",
    "stages.bucket_multiple",
    # A hundredth of a few dozen rows is none.
    "stages.held_out",
    # Steps, pictures and workers of the ablation.
    "ablation.pretrain_steps",
    "ablation.finetune_steps",
    "ablation.images_per_task",
    "ablation.workers",
}
"""Every field in which the two may differ, by name."""


def fields(name: str) -> dict[str, Any]:
    """All fields of a recipe by their dotted names; those of a stage's configuration as `stages.<field>`, one
    value a stage."""
    whole = asdict(get_recipe(name))
    stages = whole.pop("stages")
    flat = dict(_flat(whole))
    for key in stages[0]["config"]:
        flat[f"stages.{key}"] = [stage["config"][key] for stage in stages]
    flat["stages"] = [{k: v for k, v in stage.items() if k != "config"} for stage in stages]
    return flat


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, one in value.items():
        if isinstance(one, dict) and one:
            found += _flat(one, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", one))
    return found


def test_only_the_listed_fields_differ_from_paper() -> None:
    paper, rehearsal = fields("paper"), fields("rehearsal")
    assert paper.keys() == rehearsal.keys()
    assert {name for name, value in paper.items() if rehearsal[name] != value} == DIFFERENCES


def test_what_is_rehearsed_is_there() -> None:
    recipe = get_recipe("rehearsal")
    assert recipe.model.language_model.vocabulary == 151_936
    assert recipe.model.autoencoder.kind == "kl"
    assert len(recipe.model.unet.block_out_channels) == 3
    for stage in recipe.stages:
        config = stage.config
        assert (config.workers, config.sharding, config.geometry) == (2, "fsdp", "bucket")
        assert config.gradient_checkpointing and config.bf16 and config.decoders
        assert config.samples_per_step > config.workers * config.batch_size  # several passes a step
        assert config.steps >= 2 * config.checkpoint_every
        assert len(bucket_sizes(recipe.model.resolution, config.bucket_multiple)) == 5
