"""`got gc` as a job, and when it runs without anyone asking.

Belongs here: the job and its schedule. Not here: what goes (`got_core.retention`), leases
(`got_assets.retention`).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

from typing import Any

import dagster as dg

from got_assets.project import Project
from got_assets.reporting import markdown_table
from got_assets.retention import clean, look_through


class CollectConfig(dg.Config):
    """What to do with what may go."""

    delete: bool = False
    """Whether to remove it; if not, it is only shown."""


@dg.op(out=dg.Out(dg.Nothing))
def collect_unnamed(
    context: dg.OpExecutionContext, config: CollectConfig, project: dg.ResourceParam[Project]
) -> None:
    """Looks for what nothing in storage and registry names any more; `delete` removes it."""
    from got_core.retention.removal import Freed

    graph = context.repository_def.asset_graph
    plan, freed = look_through(project, graph), Freed()
    if config.delete:
        plan, freed = clean(project, graph, context.log.info)
    metadata: dict[str, Any] = {
        "files_deleted": freed.files,
        "bytes_freed": freed.size,
        "goes": markdown_table(
            ["what", "why", "units", "bytes"],
            [(kind, why, one.units, one.size) for (kind, why), one in sorted(plan.rows().items())],
        ),
    }
    context.add_output_metadata(metadata)
    if freed.faults:
        name, why = next(iter(freed.faults.items()))
        raise dg.Failure(f"{len(freed.faults)} files could not be deleted, first {name}: {why}")


@dg.job(executor_def=dg.in_process_executor)
def collect() -> None:
    """What nothing names any more: shown, or removed with `delete: true`."""
    # It takes leases itself, and must not wait for those of a training first as runs of assets do.
    collect_unnamed()


@dg.schedule(job=collect, cron_schedule="0 1 * * 1", execution_timezone="UTC", name="collect_weekly")
def collect_weekly() -> dg.RunRequest:
    """Every Monday at one: removes what nothing names any more, by the ages of `GOT_KEEP_...`. Off until
    switched on."""
    return dg.RunRequest(run_config={"ops": {"collect_unnamed": {"config": {"delete": True}}}})
