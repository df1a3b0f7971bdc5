"""Runs whose process was killed: marked as failed at the next start, and by the daemon, which then works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from got_assets.leasing import PROCESS_TAG, lease_files, run_tags
from got_assets.orphans import fail_orphans
from got_assets.project import Project
from got_core.leases import LeaseConfig, Leases
from got_core.processes import this_process
from got_core.recipes import get_recipe
from got_core.settings import Settings
from got_core.storage import Storage

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(Settings(home=tmp_path), get_recipe("tiny"), Storage(str(tmp_path / "storage")))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


@dg.op(pool="gpu")
def work() -> None:
    pass


@dg.job
def some_job() -> None:
    work()


def started(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    """A run that Dagster keeps as started."""
    run = instance.create_run_for_job(some_job, tags=tags)
    instance.handle_new_event(event_of(run, dg.DagsterEventType.RUN_START))
    assert status(instance, run.run_id) == dg.DagsterRunStatus.STARTED
    return run.run_id


def event_of(run: dg.DagsterRun, kind: dg.DagsterEventType, data: Any = None) -> dg.EventLogEntry:
    event = dg.DagsterEvent(
        event_type_value=kind.value, job_name=run.job_name, message="", event_specific_data=data
    )
    return dg.EventLogEntry(
        error_info=None,
        user_message="",
        level="debug",
        run_id=run.run_id,
        timestamp=time.time(),
        job_name=run.job_name,
        dagster_event=event,
    )


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def of_process(**changes: Any) -> dict[str, str]:
    tags = run_tags(["images-00000"])
    return {**tags, PROCESS_TAG: json.dumps({**json.loads(tags[PROCESS_TAG]), **changes})}


def test_a_run_of_a_process_that_is_gone_fails_and_its_slots_are_freed(
    instance: dg.DagsterInstance, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = started(instance, of_process(started=this_process().started - 1))
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    assert storage.claim_concurrency_slot("gpu", dead, "work").is_claimed
    assert fail_orphans(instance, project) == [dead]
    assert status(instance, dead) == dg.DagsterRunStatus.FAILURE
    assert storage.get_concurrency_info("gpu").active_slot_count == 0
    assert f"run {dead[:8]} of some_job is marked as failed: its process" in capsys.readouterr().out
    assert fail_orphans(instance, project) == []


def test_a_run_that_is_alive_or_has_ended_or_waits_is_left_alone(
    instance: dg.DagsterInstance, project: Project
) -> None:
    alive = started(instance, run_tags(["images-00000"]))
    ended = started(instance, of_process(pid=2**22 + 1))
    instance.report_run_failed(replace_run(instance, ended), "")
    waits = instance.create_run_for_job(some_job, tags={}).run_id
    assert fail_orphans(instance, project) == []
    assert status(instance, alive) == dg.DagsterRunStatus.STARTED
    assert status(instance, waits) == dg.DagsterRunStatus.NOT_STARTED


def replace_run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run
    return run


def test_a_run_that_was_created_and_never_begun_by_a_dead_process_fails(
    instance: dg.DagsterInstance, project: Project
) -> None:
    run = instance.create_run_for_job(some_job, tags=of_process(pid=2**22 + 1))
    assert fail_orphans(instance, project) == [run.run_id]


def test_a_run_that_was_being_cancelled_is_cancelled(instance: dg.DagsterInstance, project: Project) -> None:
    dead = started(instance, of_process(pid=2**22 + 1))
    instance.report_run_canceling(replace_run(instance, dead))
    assert fail_orphans(instance, project) == [dead]
    assert status(instance, dead) == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize("alive", [True, False])
def test_of_a_run_without_tags_the_process_is_known_by_its_events(
    instance: dg.DagsterInstance, project: Project, alive: bool
) -> None:
    """As versions before tags left them."""
    dead = started(instance, {})
    pid = os.getpid() if alive else 2**22 + 1
    instance.report_engine_event(
        "Executing steps in process", replace_run(instance, dead), dg_engine_data(pid)
    )
    assert fail_orphans(instance, project) == ([] if alive else [dead])


def dg_engine_data(pid: int) -> Any:
    from dagster._core.events import EngineEventData

    return EngineEventData.in_process(pid)


@pytest.mark.parametrize("who", ["holds it", "is gone", "another has it"])
def test_of_another_machine_it_is_judged_by_its_lease(
    instance: dg.DagsterInstance, project: Project, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = replace(this_process(), host="far", boot="another")
    run = started(instance, of_process(host="far", boot="another"))
    files = lease_files(project)
    leases = Leases(files, "got run", LeaseConfig(beat_seconds=0.1, expiry_seconds=1))
    monkeypatch.setattr(
        "got_core.leases.this_process", lambda: this_process() if who == "another has it" else far
    )
    lease = leases.take("images-00000")
    if who == "is gone":
        lease._end.set()
    assert fail_orphans(instance, project, expiry=1) == ([] if who == "holds it" else [run])
    lease.release()


# With real processes


def environment(home: Path) -> dict[str, str]:
    settings = {"GOT_HOME": str(home), "GOT_RECIPE": "tiny", "DAGSTER_HOME": str(home / "dagster")}
    settings["GOT_PARALLEL"] = "1"  # a killed run's other processes would end its runs themselves
    return {**os.environ, **settings, "PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1"}


@contextmanager
def process(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which ends with all its children."""
    log = (home / f"{Path(arguments[0]).name}-{time.monotonic_ns()}.log").open("wb")
    with log, subprocess.Popen(
        arguments, env=environment(home), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
    ) as made:  # fmt: skip
        try:
            yield made
        finally:
            if made.poll() is None:
                made.terminate()  # what it has started in sessions of their own ends with it
                with suppress(subprocess.TimeoutExpired):
                    made.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGKILL)


def until(condition: Callable[[], Any], seconds: float, home: Path) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        logs = {path.name: path.read_text()[-3000:] for path in home.glob("*.log")}
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)
    return found


def runs(instance: dg.DagsterInstance, *statuses: dg.DagsterRunStatus, **tags: str) -> list[dg.DagsterRun]:
    return [*instance.get_runs(dg.RunsFilter(statuses=[*statuses], tags=tags))]


def begin_run_and_kill_it(home: Path) -> str:
    """`got run`, killed in the middle of a step; the run that it leaves behind."""
    with process(home, sys.executable, "-m", "got_assets.cli", "run") as made:
        until((home / "dagster" / ".made-by-dagster").exists, 600, home)
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            found = until(lambda: runs(instance, dg.DagsterRunStatus.STARTED), 600, home)
            os.kill(made.pid, signal.SIGKILL)
            made.wait()
            assert status(instance, found[0].run_id) == dg.DagsterRunStatus.STARTED
    return found[0].run_id


def launch(home: Path, shard: str) -> None:
    """Put a run of one shard into the daemon's queue."""
    workspace = str(ROOT / "got_assets" / "instance" / "workspace.yaml")
    tags = json.dumps({"dagster/partition": shard})
    subprocess.run(
        [str(BIN / "dagster"), "job", "launch", "-w", workspace, "-j", "prepare_images", "--tags", tags],
        env=environment(home), cwd=ROOT, check=True, capture_output=True, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_after_a_kill_the_daemon_works(tmp_path: Path) -> None:
    dead = begin_run_and_kill_it(tmp_path)
    config = tmp_path / "dagster" / "dagster.yaml"
    config.write_text(config.read_text().replace("poll_interval_seconds: 30", "poll_interval_seconds: 1"))
    launch(tmp_path, "images-00000")
    workspace = str(ROOT / "got_assets" / "instance" / "workspace.yaml")
    daemon = (str(BIN / "dagster-daemon"), "run", "-w", workspace)
    with (
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
        process(tmp_path, *daemon),
    ):
        [queued] = runs(instance, dg.DagsterRunStatus.QUEUED)
        until(lambda: status(instance, dead) == dg.DagsterRunStatus.FAILURE, 600, tmp_path)
        under_way = lambda: runs(instance, dg.DagsterRunStatus.STARTED)  # noqa: E731
        [launched] = until(under_way, 600, tmp_path)
        assert launched.run_id == queued.run_id
        kill_process_of(until(lambda: tagged(instance, queued.run_id), 600, tmp_path))
        again = until(
            lambda: runs(instance, dg.DagsterRunStatus.SUCCESS, **{"dagster/retry_number": "1"}),
            600, tmp_path,
        )  # fmt: skip
        assert again[0].parent_run_id == queued.run_id
        assert status(instance, queued.run_id) == dg.DagsterRunStatus.FAILURE
        assert not runs(instance, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED)


def tagged(instance: dg.DagsterInstance, run_id: str) -> int | None:
    tags = replace_run(instance, run_id).tags
    return json.loads(tags[PROCESS_TAG])["pid"] if PROCESS_TAG in tags else None


def kill_process_of(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_after_a_kill_the_next_start_marks_the_run_as_failed(tmp_path: Path) -> None:
    dead = begin_run_and_kill_it(tmp_path)
    with (
        process(tmp_path, sys.executable, "-m", "got_assets.cli", "ui"),
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
    ):
        until(lambda: status(instance, dead) == dg.DagsterRunStatus.FAILURE, 600, tmp_path)
