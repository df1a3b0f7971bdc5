"""Runs whose process is gone: Dagster keeps them as running, and the daemon then launches nothing more.

Belongs here: finding them and marking them as failed. Not here: doing their work again (`run`, the daemon's
retries).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dagster as dg
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRun, RunRecord

from got_assets.leasing import lease_files, leases_of, process_of
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_core.conditional_files import ConditionalFiles
from got_core.leases import LeaseConfig, Watch, holder_of
from got_core.processes import ProcessIdentity, is_gone, pid_is_gone

_UNDER_WAY = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_LOOK_SECONDS = 2.0


def fail_orphans(
    instance: dg.DagsterInstance, project: Project, expiry: float = LeaseConfig().expiry_seconds
) -> list[str]:
    """Mark runs as failed whose process is gone, and free their slots of pools. Returns their ids.

    Runs of other machines, and of before this machine was last started, count as gone where for `expiry`
    seconds, which are then waited for, a lease of theirs has not changed or was not theirs. A run of which
    nothing is known is left as it is, with a line that says so.
    """
    failed, unknown = [], []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[*_UNDER_WAY])):
        gone = process_gone(instance, record)
        if gone:
            failed.append(record.dagster_run)
        elif gone is None and process_of(record.dagster_run.tags):
            unknown.append(record.dagster_run)
    if unknown:
        failed += _without_life(unknown, lease_files(project), expiry)
    for run in failed:
        fail(instance, run, f"its process ({_name(run)}) is gone: it was killed, or its machine was stopped")
    return [run.run_id for run in failed]


def process_gone(instance: dg.DagsterInstance, record: RunRecord) -> bool | None:
    """Whether a run's process has ended; None where that cannot be told from its tags and events."""
    run = record.dagster_run
    if process := process_of(run.tags):
        return is_gone(process)
    # Runs without tags: launched a moment ago, or by a version that had none.
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return None
    pid = _noted_pid(instance, run.run_id)
    since = record.start_time or record.create_timestamp.timestamp()
    return None if pid is None else pid_is_gone(pid, since)


def fail(instance: dg.DagsterInstance, run: DagsterRun, why: str) -> None:
    """Mark a run as failed (as cancelled, if that was wanted), unless it has ended meanwhile."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.is_finished:
        return
    if now.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(now, why)
    else:
        instance.report_run_failed(now, why)
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    log_progress(f"run {run.run_id[:8]} of {now.job_name} is marked as failed: {why}")


def shows_no_life(files: ConditionalFiles, run: DagsterRun, watches: dict[str, Watch], expiry: float) -> bool:
    """Whether a lease of a run has stood still, or was not the run's, for as long as it is watched."""
    process, names = process_of(run.tags), leases_of(run.tags)
    return any(_stands_still(files, name, process, watches, expiry) for name in names)


def _stands_still(
    files: ConditionalFiles,
    name: str,
    process: ProcessIdentity | None,
    watches: dict[str, Watch],
    expiry: float,
) -> bool:
    holder, version = holder_of(files, name)
    # Not at once where another process has it by now: a run lets go of its lease before it notes its end.
    tag = version.tag if version is not None and holder is not None and holder.process == process else ""
    return watches.setdefault(f"{process}/{name}", Watch(expiry)).stood_still(tag)


def _without_life(runs: list[DagsterRun], files: ConditionalFiles, expiry: float) -> list[DagsterRun]:
    """Those whose leases show no life while they are watched."""
    found: list[DagsterRun] = []
    watches: dict[str, Watch] = {}
    until = time.monotonic() + expiry + _LOOK_SECONDS
    for run in (run for run in runs if not leases_of(run.tags)):
        log_progress(
            f"run {run.run_id[:8]} ({_name(run)}) may be under way: if it is not, cancel it in Dagster"
        )
    waiting = [run for run in runs if leases_of(run.tags)]
    said: Callable[[str], None] | None = log_progress
    while waiting and time.monotonic() < until:
        dead = [run for run in waiting if shows_no_life(files, run, watches, expiry)]
        found += dead
        waiting = [run for run in waiting if run not in dead]
        if waiting and said:
            said(f"looking for {expiry:.0f} s whether {', '.join(map(_name, waiting))} still works")
            said = None
        if waiting:
            time.sleep(min(_LOOK_SECONDS, expiry / 4))
    return found


def _name(run: DagsterRun) -> str:
    process = process_of(run.tags)
    return str(process) if process else "of which only the number is known"


def _noted_pid(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The number of the process that last noted itself in a run's events."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed([*events]):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        noted = (getattr(data, "metadata", None) or {}).get("pid")
        if noted is not None and str(noted.value).isdigit():
            return int(str(noted.value))
    return None
