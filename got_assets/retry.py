"""`got data retry`: makes tables again in which rows are quarantined though asking had failed.

Belongs here: going through all shards. Not here: which tables those are (`stored_faults`), and making one
(`run`).
"""

from __future__ import annotations

import dagster as dg

from got_assets.project import Project
from got_assets.reporting import log_progress
from got_assets.run import EDIT_STEPS, IMAGE_STEPS, Runner, assign_shards, report_failures
from got_assets.stored_faults import first_with_faults


def retry(project: Project, instance: dg.DagsterInstance) -> int:
    """Make every table again in which rows are quarantined for a fault, and what hangs on it. Exit status."""
    runner, again = Runner(project, instance), 0
    for steps, shards in zip((IMAGE_STEPS, EDIT_STEPS), assign_shards(project, instance), strict=True):
        for shard in shards:
            asset, why = first_with_faults(project.storage, steps, shard)
            if asset:
                again += 1
                runner.bring_up_to_date(steps[steps.index(asset) :], shard, why)
    report_failures(runner.outcomes, runner.paused)
    log_progress(f"{again} shards asked again" if again else "no row is quarantined for a fault")
    failed = any(outcome.error for outcome in runner.outcomes.values())
    return 1 if failed or runner.paused else 0
