"""When models are made again without anyone asking."""

from __future__ import annotations

import dagster as dg

from got_assets.defs.train.jobs import RETRAIN_ASSETS, retrain
from got_assets.project import Project
from got_assets.staleness import Staleness


@dg.schedule(job=retrain, cron_schedule="0 3 * * 1", execution_timezone="UTC", name="retrain_weekly")
def retrain_weekly(
    context: dg.ScheduleEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.RunRequest | dg.SkipReason:
    """Every Monday at three: retrain if data, recipe or code changed since the last model. Off until
    switched on."""
    assert context.repository_def is not None
    staleness = Staleness(context.instance, context.repository_def.asset_graph, project.storage)
    reasons = [f"{state.key}: {state.why}" for state in staleness.states(RETRAIN_ASSETS) if state.needed]
    if not reasons:
        return dg.SkipReason("nothing changed since the last model")
    return dg.RunRequest(tags={"got/why": "; ".join(reasons)[:200]})
