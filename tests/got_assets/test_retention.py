"""Removing what nothing names as a job of the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from got_core.storage import Storage
from tests.got_core.retention.homes import Home, random_home

from .conftest import Graph


@pytest.fixture
def graph_and_home(
    load: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Graph, Home]:
    for name in ("MODELS", "BENCHMARKS", "CHECKPOINTS", "FAILURES"):
        monkeypatch.setenv(f"GOT_KEEP_{name}", "0")
    (tmp_path / "mlflow").mkdir()
    graph = load(home=str(tmp_path))
    home = Home(Storage(graph.storage.url), f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    random_home(home, 5)
    return graph, home


def run(graph: Graph, **config: bool) -> dg.ExecuteInProcessResult:
    job = graph.run.defs.resolve_job_def("collect")
    return job.execute_in_process(
        run_config={"ops": {"collect_unnamed": {"config": config}}}, instance=graph.instance
    )


def test_the_job_shows_and_with_delete_removes(graph_and_home: tuple[Graph, Home]) -> None:
    graph, home = graph_and_home
    before = home.names()
    assert run(graph).success and home.names() == before
    assert run(graph, delete=True).success
    left = home.names()
    assert home.needed <= left
    of_a_day = ("training_shards/", "preflight/")
    assert [name for name in left & home.may_go if not name.startswith(of_a_day)] == []


def test_the_schedule_is_off_and_removes(graph_and_home: tuple[Graph, Home]) -> None:
    graph, _ = graph_and_home
    schedule = graph.run.defs.resolve_schedule_def("collect_weekly")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    context = dg.build_schedule_context(instance=graph.instance)
    (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.run_config == {"ops": {"collect_unnamed": {"config": {"delete": True}}}}
