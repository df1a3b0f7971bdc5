"""Dagster's queue of runs, which also notes who asked for a run.

Belongs here: the tag of the person whom the proxy before Dagster's page has let in. Not here: letting
anybody in. Dagster loads it by the name in dagster.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dagster import Field, String
from dagster._config.config_schema import UserConfigSchema
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.dagster_run import DagsterRun
from dagster._serdes import ConfigurableClassData

USER_TAG = "got/user"
"""Tag of a run that somebody asked for on the page: their name, as the proxy knows it."""

HEADER = "X-Auth-Request-User"
"""Read unless the configuration names another one."""

_LONGEST = 100


class NamedRunCoordinator(QueuedRunCoordinator):
    """The queue; runs of schedules and sensors have no person.

    `header` is the one request header that names the person. It has to be the one that the proxy sets in
    place of what a browser sends: nobody else reaches the page, and any other header is the browser's word.
    """

    _header = HEADER

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """The queue's options and `header`."""
        header = Field(String, is_required=False, default_value=HEADER)
        return {**cast(Mapping[str, Any], super().config_type()), "header": header}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> NamedRunCoordinator:
        """As Dagster makes it from dagster.yaml."""
        made = super().from_config_value(inst_data, config_value)  # type: ignore[arg-type]
        made._header = config_value.get("header", HEADER)
        return made

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run, then queue it."""
        if name := (context.get_request_header(self._header) or "").strip()[:_LONGEST]:
            self._instance.add_run_tags(context.dagster_run.run_id, {USER_TAG: name})
        return super().submit_run(context)
