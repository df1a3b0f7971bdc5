"""The sensor that looks whether something is wrong and tells a webhook.

Belongs here: when it looks, what it remembers, and that a message that was not taken is sent again. Not here:
what is wrong (`got_assets.line`), sending (`got_core.alerts`).

One sensor for failed runs too: a run failure sensor is called once for each run and moves on when it fails.
Here many failures are one message, and none is lost while the receiver is away.
"""

from __future__ import annotations

import json
import time
from typing import Any

import dagster as dg

from got_assets.defs.alerts.lines import LINES
from got_assets.line.findings import failed_runs, findings
from got_assets.line.state import read_line
from got_assets.project import Project
from got_core.alerts.finding import news
from got_core.alerts.webhook import send
from got_core.watch_settings import AlertSettings

EVERY = 300
"""Seconds: a look reads as much as one of `keep_shards_up_to_date`."""
_SETTINGS = AlertSettings()
_HOUR = 3600.0


@dg.sensor(
    minimum_interval_seconds=EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING if _SETTINGS.webhook else dg.DefaultSensorStatus.STOPPED,
)
def alert(context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]) -> dg.SkipReason:
    """Posts to GOT_ALERT_WEBHOOK what is wrong, and when it is over: failed runs, shards that are stuck or
    stopped, the budget of the day, a full disk, a judge whose canary has moved. On where the webhook is set.
    """
    settings = AlertSettings()
    if settings.webhook is None:
        return dg.SkipReason("no webhook is configured (GOT_ALERT_WEBHOOK)")
    assert context.repository_def is not None
    now, told = time.time(), _remembered(context.cursor)
    graph = context.repository_def.asset_graph
    line = read_line(context.instance, graph, LINES, project, stuck_runs=settings.stuck_runs)
    failed, until, known = failed_runs(context.instance, told.get("since", now), told.get("runs", ()))
    messages, left = news(told.get("told", {}), findings(line, settings), now, settings.repeat_hours * _HOUR)
    for one in [*filter(None, [failed]), *messages]:
        send(settings.webhook, one.document())
    # Only now: what a receiver did not take is told again at the next look, with all that came with it.
    context.update_cursor(json.dumps({"since": until, "runs": known, "told": left}))
    return dg.SkipReason(f"{len(left)} things are wrong, {len(messages) + bool(failed)} messages sent")


def _remembered(cursor: str | None) -> dict[str, Any]:
    """What the last look left; nothing at the first one, and where the cursor was changed by hand."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
