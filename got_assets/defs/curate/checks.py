"""Blocking check of the manifest: training needs samples."""

from __future__ import annotations

import dagster as dg
import polars as pl

from got_assets.defs.curate.assets import training_manifest


@dg.asset_check(asset=training_manifest, blocking=True)
def has_samples(training_manifest: pl.DataFrame) -> dg.AssetCheckResult:
    """There is at least one text-to-image sample, ids are unique, and every sample has a chain."""
    kinds = dict(training_manifest.group_by("kind").len().iter_rows())
    repeated = training_manifest.height - training_manifest["sample_id"].n_unique()
    chainless = training_manifest.filter(pl.col("chain").str.strip_chars() == "").height
    return dg.AssetCheckResult(
        passed=kinds.get("t2i", 0) > 0 and repeated == 0 and chainless == 0,
        metadata={"t2i": kinds.get("t2i", 0), "edit": kinds.get("edit", 0), "repeated": repeated},
        description="ready to train"
        if kinds.get("t2i", 0)
        else "no accepted text-to-image sample in any shard",
    )
