"""Making tables again in which rows are quarantined though asking had failed.

Belongs here: finding such tables of the data line, and the work of `got data retry`. Not here: which rows
those are (`got_core.annotate.stored_faults`).
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from got_assets.io import value_name
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_core.storage import Storage


def why_again(storage: Storage, asset: str, partition: str) -> str:
    """Why a stored table is to be made again; "" if no row of it is quarantined for a fault."""
    from got_core.annotate.stored_faults import faults_among

    name = value_name(asset, partition)
    if not storage.exists(f"{name}.parquet"):
        return ""
    count = faults_among(storage.read_table(name))
    return f"{count} rows are quarantined though asking may have failed" if count else ""


def first_with_faults(storage: Storage, assets: Iterable[str], partition: str) -> tuple[str, str]:
    """The first of some assets whose table is to be made again, and why; ("", "") if there is none."""
    found = ((asset, why_again(storage, asset, partition)) for asset in assets)
    return next((one for one in found if one[1]), ("", ""))


def retry(project: Project, instance: dg.DagsterInstance) -> int:
    """Make every table again in which rows are quarantined for a fault, and what hangs on it. Exit status."""
    from got_assets.run import EDIT_STEPS, IMAGE_STEPS, Runner, assign_shards, report_failures

    runner, again = Runner(project, instance), 0
    for steps, shards in zip((IMAGE_STEPS, EDIT_STEPS), assign_shards(project, instance), strict=True):
        for shard in shards:
            asset, why = first_with_faults(project.storage, steps, shard)
            if asset:
                again += 1
                runner.bring_up_to_date(steps[steps.index(asset) :], shard, why)
    report_failures(runner)
    log_progress(f"{again} shards asked again" if again else "no row is quarantined for a fault")
    return 1 if any(outcome.error for outcome in runner.outcomes.values()) else 0
