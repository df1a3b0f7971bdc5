"""Dagster's launcher of runs on this machine, which also knows whether a run's process is still there.

Belongs here: what Dagster's run monitoring asks a launcher. Not here: what `make run` does at its start
(`orphans`). Dagster loads it by the name in dagster.yaml.
"""

from __future__ import annotations

import time
from typing import Any

from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRun

from got_core.leases import LeaseConfig, Watch

AWAY_SECONDS = 900.0
"""For which a run whose process is gone counts as running while its code server is away."""


class LocalRunLauncher(DefaultRunLauncher):
    """The default launcher, with the health of runs: also of those that `make run` executes."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._watches: dict[str, Watch] = {}
        self._gone: dict[str, float] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks for the health of runs."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where a run's process is known to be gone; RUNNING otherwise.

        A run that has just failed is launched again by Dagster, once and at once: where the code server went
        with the process and is not back yet, that fails and the run stays lost. So RUNNING also then.
        """
        from got_assets.orphans import process_gone

        record = self._instance.get_run_record_by_id(run.run_id)
        gone = process_gone(self._instance, record) if record else None
        if gone or (gone is None and self._shows_no_life(run)):
            since = self._gone.setdefault(run.run_id, time.monotonic())
            if not code_answers(run) and time.monotonic() - since < AWAY_SECONDS:
                return CheckRunHealthResult(WorkerStatus.RUNNING, "its process and its code server are gone")
            del self._gone[run.run_id]
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _shows_no_life(self, run: DagsterRun) -> bool:
        """By the leases of a run of another machine, from one question to the next."""
        from got_assets.leasing import lease_files, leases_of
        from got_assets.orphans import shows_no_life
        from got_assets.project import PROJECT

        if not leases_of(run.tags):
            return False
        return shows_no_life(lease_files(PROJECT), run, self._watches, LeaseConfig().expiry_seconds)


def code_answers(run: DagsterRun) -> bool:
    """Whether the code server that a run came from answers; True where it came from none."""
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
    from dagster._grpc.client import DagsterGrpcClient

    origin = run.remote_job_origin
    place = origin.repository_origin.code_location_origin if origin else None
    if not isinstance(place, GrpcServerCodeLocationOrigin):
        return True
    try:
        client = DagsterGrpcClient(
            host=place.host, port=place.port, socket=place.socket, use_ssl=bool(place.use_ssl)
        )
        client.ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True
