"""Removing what nothing names as a job of the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from got_core.storage import Storage
from tests.got_core.retention.homes import Home, random_home

from .conftest import Graph

ROOT = Path(__file__).resolve().parents[2]


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


def run(home: Path, **config: bool) -> None:
    """The job as the daemon launches it: in a process of its own, which loads the graph."""
    settings = home / "config.yaml"
    settings.write_text(yaml.safe_dump({"ops": {"collect_unnamed": {"config": config}}}))
    (home / "dagster").mkdir(exist_ok=True)
    job = ("-m", "got_assets.definitions", "-j", "collect", "-c", str(settings))
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "job", "execute", *job],
        cwd=ROOT, env={**os.environ, "DAGSTER_HOME": str(home / "dagster")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_job_shows_and_with_delete_removes(graph_and_home: tuple[Graph, Home], tmp_path: Path) -> None:
    _, home = graph_and_home
    before = home.names()
    run(tmp_path, delete=False)
    assert home.names() == before
    run(tmp_path, delete=True)
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
