"""The manual job that makes a new model out of whatever shards are accepted by now."""

from __future__ import annotations

import dagster as dg

from got_assets.project import PROJECT
from got_core.train.stage import reads_latents

RETRAIN_ASSETS = (
    "training_plan",
    "taken_down",
    "training_manifest",
    "data_statistics",
    "foundation_models",
    *(["latent_shards"] if reads_latents(PROJECT.recipe.stages) else []),
    *(stage.asset for stage in PROJECT.recipe.stages),
    *PROJECT.recipe.evaluate.assets,
    *(["stage_scores"] if PROJECT.recipe.evaluate.stage_requests else []),
    "benchmark_report",
    "registered_model",
    "promoted_model",
)

retrain = dg.define_asset_job(
    name="retrain",
    selection=dg.AssetSelection.assets(*RETRAIN_ASSETS),
    description="From the manifest of accepted shards to a scored, registered and perhaps promoted model.",
)
