"""The manual job that makes a new model out of whatever shards are accepted by now."""

from __future__ import annotations

import dagster as dg

from got_assets.project import PROJECT
from got_core.evaluate.config import BENCHMARK_ASSETS

RETRAIN_ASSETS = (
    "training_plan",
    "taken_down",
    "training_manifest",
    "data_statistics",
    "foundation_models",
    *(stage.asset for stage in PROJECT.recipe.stages),
    *BENCHMARK_ASSETS,
    "benchmark_report",
    "registered_model",
    "promoted_model",
)

retrain = dg.define_asset_job(
    name="retrain",
    selection=dg.AssetSelection.assets(*RETRAIN_ASSETS),
    description="From the manifest of accepted shards to a scored, registered and perhaps promoted model.",
)
