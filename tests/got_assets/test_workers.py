"""Several shards at once: processes that share one instance on disk, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from .conftest import Graph
from .test_staleness import EDIT_STEPS, IMAGE_STEPS

ROOT = Path(__file__).resolve().parents[2]
TO_CAPTIONS = tuple(IMAGE_STEPS[:2])


@pytest.fixture
def shared(graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Graph]:
    """The graph with an instance that other processes can open, and its shards assigned."""
    from got_assets.home import prepare_dagster_home

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    prepare_dagster_home(graph.project)
    graph.render()
    with dg.DagsterInstance.get() as instance:
        graph.instance = instance
        graph.run.assign_shards(graph.project, instance)
        yield graph


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_shards_made_by_several_processes_are_as_those_of_one(shared: Graph) -> None:
    runner = shared.run.Runner(shared.project, shared.instance)
    shared.run.make_data(runner, 2)
    made = {name: sorted(outcome.made) for name, outcome in runner.outcomes.items() if name != "models"}
    images = sorted(IMAGE_STEPS)
    assert made == {"images-00000": images, "images-00001": images, "edits-00000": sorted(EDIT_STEPS)}
    runs = shared.instance.get_runs()
    assert len(runs) == 7, "two runs a shard, before and after the plan, and the plan"
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    pids = {
        event.pid
        for run in runs
        for record in shared.instance.get_records_for_run(run.run_id).records
        if (event := record.event_log_entry.dagster_event) and event.pid
    }
    assert len(pids) == 3, "this process and two others"

    again = shared.run.Runner(shared.project, shared.instance)
    shared.run.make_data(again, 2)
    assert not any(outcome.made or outcome.error for outcome in again.outcomes.values())
    assert shared.instance.get_runs_count() == 7


@pytest.mark.slow
def test_a_process_that_dies_is_an_error_of_its_shard_alone(shared: Graph) -> None:
    from got_assets.workers import Task, Workers

    tasks = [Task(TO_CAPTIONS, shard) for shard in ("images-00000", "images-00001")]
    with Workers(shared.instance.get_ref, 1) as workers:

        def kill() -> None:
            wait_for(lambda: bool(workers._workers) and workers._workers[0].task is not None)
            os.kill(workers._workers[0].process.pid or 0, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        answers = {task.shard: answer.outcome for task, answer in workers.work(tasks, 2)}
        killer.join()
    assert "ended with signal 9" in answers["images-00000"].error
    assert "GOT_PARALLEL" in answers["images-00000"].error
    assert (answers["images-00001"].made, answers["images-00001"].error) == (list(TO_CAPTIONS), "")


@pytest.fixture
def command(shared: Graph, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`got run` with two shards at once, as it begins to work on them."""
    found = subprocess.Popen(
        [sys.executable, "-m", "got_assets.cli", "run"],
        env={**os.environ, "GOT_PARALLEL": "2"}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert found.stdout
    for line in found.stdout:
        if "images-0000" in line:
            break
    yield found
    found.kill()
    found.communicate()


@pytest.mark.slow
def test_an_interrupt_ends_all_processes_and_leaves_no_run_open(
    shared: Graph, command: subprocess.Popen[str]
) -> None:
    started = children(command.pid)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    said, _ = command.communicate(timeout=600)
    assert command.returncode == 130, said
    assert "interrupted; run it again" in said and "Traceback" not in said
    assert len(started) >= 2 and wait_for(lambda: not any(map(is_there, started)), 60.0)
    open_runs = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    assert shared.instance.get_runs(open_runs) == []


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(command: subprocess.Popen[str]) -> None:
    started = children(command.pid)
    command.kill()
    command.wait()
    assert len(started) >= 2
    assert wait_for(lambda: not any(map(is_there, started)), 60.0)


@pytest.mark.parametrize(
    ("parallel", "annotator", "cores", "found"),
    [(None, "openai", 4, 4), (None, None, 64, 8), (None, "vllm", 4, 1), (3, "vllm", 1, 3), (20, None, 2, 20)],
)
def test_how_many_shards_at_once(
    monkeypatch: pytest.MonkeyPatch, parallel: int | None, annotator: str | None, cores: int, found: int
) -> None:
    from got_assets.pools import shards_at_once

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert shards_at_once(SimpleNamespace(parallel=parallel, annotator_name=annotator)) == found  # type: ignore[arg-type]
