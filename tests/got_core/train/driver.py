"""A driver process that a test can kill: the stage of ``test_ray``, prepared by the test."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from got_core.frame_hash import content_hash
from got_core.train.run import TrainingRun
from got_core.train.stages import train_stage
from tests.got_core.train.kills import held
from tests.got_core.train.test_ray import STAGE, recipe

if __name__ == "__main__":
    folder, raw_url, edits_url, weights = sys.argv[1:]
    manifest = pl.read_parquet(Path(folder) / "manifest.parquet")
    run = TrainingRun(
        storage_url=f"file://{folder}/storage",
        raw_url=raw_url,
        edits_url=edits_url,
        manifest=manifest,
        manifest_hash=content_hash(manifest),
        recipe=recipe(),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )
    # It is killed before it would end: what it waits for never comes.
    run = held(run, Path(folder) / "never", STAGE.checkpoint_every)
    train_stage(
        run, run.recipe.stages[-1], {"folder": "models/start", "stage": "pretrain", "weights_hash": weights}
    )
