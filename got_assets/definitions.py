"""Everything that Dagster loads. No model library is imported here; assets import what they need.

Loading reads no storage, home or network: without credentials the graph still shows, and a process that has
loaded it need not be started again for a list that has changed (`got_assets.defs.lists`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What loads stays, so looking through it for garbage meanwhile takes time and finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


with _nothing_collected():
    import dagster as dg

    from got_assets.defs.alerts import sensors as alert_sensors
    from got_assets.defs.annotate import assets as annotate_assets
    from got_assets.defs.annotate import checks as annotate_checks
    from got_assets.defs.annotate import imported as annotate_imported
    from got_assets.defs.curate import assets as curate_assets
    from got_assets.defs.curate import checks as curate_checks
    from got_assets.defs.curate import review as curate_review
    from got_assets.defs.curate import shards as curate_shards
    from got_assets.defs.curate import takedown as curate_takedown
    from got_assets.defs.evaluate import ablation as evaluate_ablation
    from got_assets.defs.evaluate import assets as evaluate_assets
    from got_assets.defs.evaluate import guidance as evaluate_guidance
    from got_assets.defs.evaluate import stages as evaluate_stages
    from got_assets.defs.ingest import assets as ingest_assets
    from got_assets.defs.ingest import checks as ingest_checks
    from got_assets.defs.ingest import jobs as ingest_jobs
    from got_assets.defs.ingest import sensors as ingest_sensors
    from got_assets.defs.ingest import upkeep as ingest_upkeep
    from got_assets.defs.lists import sources as list_sources
    from got_assets.defs.register import assets as register_assets
    from got_assets.defs.register import jobs as register_jobs
    from got_assets.defs.retention import jobs as retention_jobs
    from got_assets.defs.train import assets as train_assets
    from got_assets.defs.train import jobs as train_jobs
    from got_assets.defs.train import plan as train_plan
    from got_assets.defs.train import schedules as train_schedules
    from got_assets.io import StorageIOManager
    from got_assets.leasing import leased_executor
    from got_assets.project import PROJECT

defs = dg.Definitions(
    # No backfill policy: a backfill then is one run a shard, with its partition as its key. With a policy of
    # one partition a run, runs get ranges of partitions instead and do not know their shard.
    assets=[
        *list_sources.ASSETS,
        *dg.load_assets_from_modules(
            [
                ingest_assets,
                annotate_imported if PROJECT.settings.chains_imported else annotate_assets,
                curate_assets,
                curate_review,
                curate_shards,
                curate_takedown,
                train_plan,
                train_assets,
                evaluate_assets,
                evaluate_ablation,
                evaluate_guidance,
                evaluate_stages,
                register_assets,
            ]
        ),
    ],
    asset_checks=dg.load_asset_checks_from_modules([ingest_checks, annotate_checks, curate_checks]),
    jobs=[
        ingest_jobs.prepare_images,
        ingest_jobs.prepare_edits,
        train_jobs.retrain,
        register_jobs.move_champion,
        retention_jobs.collect,
    ],
    schedules=[train_schedules.retrain_weekly, retention_jobs.collect_weekly],
    sensors=[
        ingest_sensors.watch_raw_images,
        ingest_sensors.watch_edit_pairs,
        ingest_sensors.record_failures,
        list_sources.watch_lists,
        ingest_upkeep.keep_shards_up_to_date,
        curate_takedown.watch_takedowns,
        alert_sensors.alert,
    ],
    executor=leased_executor,
    resources={"project": PROJECT, "io_manager": StorageIOManager(PROJECT.storage)},
)
