"""Dagster's queue of runs, which also notes who asked for a run.

Belongs here: the tag of the person whom the proxy before Dagster's page has let in. Not here: letting
anybody in. Dagster loads it by the name in dagster.yaml.
"""

from __future__ import annotations

from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.dagster_run import DagsterRun

USER_TAG = "got/user"
"""Tag of a run that somebody asked for on the page: their name, as the proxy knows it."""

HEADERS = ("X-Auth-Request-User", "X-Forwarded-Email")
"""Set by nginx, or by oauth2-proxy alone, in place of what a browser sends; nobody else reaches the page."""

_LONGEST = 100


class NamedRunCoordinator(QueuedRunCoordinator):
    """The queue; runs of schedules and sensors have no person."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run, then queue it."""
        sent = ((context.get_request_header(header) or "").strip() for header in HEADERS)
        if name := next(filter(None, sent), "")[:_LONGEST]:
            self._instance.add_run_tags(context.dagster_run.run_id, {USER_TAG: name})
        return super().submit_run(context)
