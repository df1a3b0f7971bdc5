"""Assets made by jobs of a Ray cluster that the step is no part of: one real cluster for the whole file."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from tests.got_assets.conftest import Graph, loading

pytest.importorskip("dagster_ray")

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = """
import sys, ray
found = ray.init(
    num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False,
    object_store_memory=100 * 1024**2, logging_level="ERROR",
)
print(found.address_info["webui_url"] if hasattr(found, "address_info") else found["webui_url"], flush=True)
sys.stdin.read()
"""


@dataclass
class Cluster:
    """A cluster on this machine, and the home that its machines work on."""

    url: str
    home: Path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOT_", "RAY_ADDRESS"))}
    # With the token that it would ask for in a deployment.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = (
        kept
        | token
        | {
            "GOT_HOME": str(home),
            "GOT_RECIPE": "tiny",
            "GOT_WORKERS": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
    )
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, cwd=home, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in token.items():
                patch.setenv(name, value)
            forget_token()
            yield Cluster(f"http://{process.stdout.readline().strip()}", home)
    finally:
        forget_token()
        process.stdin.close()
        process.wait(120)


def forget_token() -> None:
    """Ray keeps the first token that a process has used: here that of another test's own cluster."""
    from ray._raylet import AuthenticationTokenLoader

    AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture
def outside(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graph]]:
    """Graphs whose process is no part of the cluster, and has no torch."""
    with loading(cluster.home, monkeypatch) as load:
        monkeypatch.setitem(sys.modules, "torch", None)
        yield lambda **settings: load(ray_jobs=cluster.url, retries="0", **settings)


@pytest.fixture
def jobs(cluster: Cluster) -> Any:
    """The cluster's job server."""
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(cluster.url)


def fault(graph: Graph, asset: str) -> str:
    """Why an asset could not be made."""
    runner = graph.run.Runner(graph.project, graph.instance)
    outcome = runner.bring_up_to_date([asset], None)
    assert outcome.error
    return str(outcome.error)


def entry(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Jobs run this code in place of the driver."""
    from got_assets import clustered as submit

    monkeypatch.setattr(submit, "ENTRYPOINT", f"{sys.executable} -c {code!r}")


@pytest.mark.slow
def test_the_cluster_works_out_a_plan_and_trains_and_the_step_records_it(
    outside: Callable[..., Graph], cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = outside()
    graph.render_few(images=6, pairs=4)
    graph.make_data()
    graph.make("training_plan", "taken_down", "training_manifest", "foundation_models")
    plan = graph.storage.read_json("training_plan.json")
    assert plan["stages"] and graph.storage.list("jobs/") == []
    event = graph.instance.get_latest_materialization_event(dg.AssetKey("foundation_models"))
    assert event is not None and (found := event.asset_materialization) is not None
    model = graph.storage.read_json("foundation_models.json")
    assert found.tags and found.tags["dagster/data_version"] == model["weights_hash"]
    assert found.metadata["seconds"].value > 0
    assert found.metadata["folder"].value == graph.storage.url_of(model["folder"])
    assert found.metadata["Ray Job ID"].value
    assert graph.storage.exists(model["folder"])
    assert "foundation" in capfd.readouterr().out  # the job's progress


def test_a_cluster_of_another_version_says_so(outside: Callable[..., Graph]) -> None:
    why = fault(outside(recipe="embedded"), "training_plan")
    assert "code version" in why and "install the same version" in why


def test_a_job_that_ends_without_a_report_fails_its_step(
    outside: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = outside()
    entry(monkeypatch, "print(1)")
    assert "reported nothing" in fault(graph, "training_plan")
    entry(monkeypatch, "import os; os._exit(9)")
    assert "gave no result" in fault(graph, "training_plan")
    assert graph.instance.get_latest_materialization_event(dg.AssetKey("training_plan")) is None


def test_ctrl_c_ends_the_job(
    outside: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, jobs: Any
) -> None:
    graph = outside()
    entry(monkeypatch, "import time; time.sleep(600)")
    before = {job.submission_id for job in jobs.list_jobs()}
    threading.Thread(target=_interrupt_once_running, args=(jobs, before), daemon=True).start()
    with pytest.raises((KeyboardInterrupt, DagsterExecutionInterruptedError)):
        graph.make("training_plan")
    (job,) = [one for one in jobs.list_jobs() if one.submission_id not in before]
    until = time.monotonic() + 120
    while not jobs.get_job_status(job.submission_id).is_terminal():
        assert time.monotonic() < until
    assert jobs.get_job_status(job.submission_id) == "STOPPED"


def _interrupt_once_running(jobs: Any, before: set[str]) -> None:
    while True:
        if any(job.status == "RUNNING" and job.submission_id not in before for job in jobs.list_jobs()):
            os.kill(os.getpid(), signal.SIGINT)
            return


def test_what_an_earlier_step_left_behind_is_stopped_and_nothing_else(
    outside: Callable[..., Graph], jobs: Any
) -> None:
    graph = outside()
    from got_assets.clustered import ASSET, PLACE, place_of, stop_others

    def sleeping(asset: str, place: str) -> str:
        code = f"{sys.executable} -c 'import time; time.sleep(600)'"
        return str(jobs.submit_job(entrypoint=code, metadata={ASSET: asset, PLACE: place}))

    here = place_of(graph.storage)
    mine, other, elsewhere = (
        sleeping("training_plan", here), sleeping("geneval", here), sleeping("training_plan", "another")
    )  # fmt: skip
    stop_others(jobs, "training_plan", graph.storage)
    assert jobs.get_job_status(mine) == "STOPPED"
    assert not any(jobs.get_job_status(one).is_terminal() for one in (other, elsewhere))
    for one in (other, elsewhere):
        jobs.stop_job(one)


def test_lines_come_whole_from_pieces_of_any_length() -> None:
    from got_assets.clustered import _lines

    assert [*_lines(iter(["a", "b\nc", "\n\nd", "e"]))] == ["ab", "c", ""]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (dg.MetadataValue.md("**a**"), {"raw_value": "**a**", "type": "md"}),
        (dg.MetadataValue.float(0.5), {"raw_value": 0.5, "type": "float"}),
        (dg.MetadataValue.url("s3://a/b"), {"raw_value": "s3://a/b", "type": "url"}),
        (dg.MetadataValue.path("a/b"), {"raw_value": "a/b", "type": "text"}),
    ],
)
def test_metadata_travels_with_its_kind(value: Any, sent: dict[str, Any]) -> None:
    from got_assets.cluster_job import external

    assert external(value) == sent
