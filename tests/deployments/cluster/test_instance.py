"""Dagster reads the instance's file, its parts work, and both deployments say the same of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.workspace.context import WorkspaceRequestContext

from got_assets.coordinator import USER_TAG, NamedRunCoordinator
from got_assets.pools import ANNOTATION, DECODING, TRAINING

from .files import CLUSTER, compose, environment_file, environment_of, values

ENVIRONMENT = {
    "POSTGRES_HOST": "postgres.invalid",
    "POSTGRES_PORT": "5432",
    "DAGSTER_POSTGRES_PASSWORD": "p@ss/w%rd",
    "GOT_S3_ENDPOINT": "http://127.0.0.1:1",
    "CLUSTER_LOGS_BUCKET": "got",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def read() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "dagster.yaml").read_text())


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    """The instance as a server reads it; nothing is connected to."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text((CLUSTER / "dagster.yaml").read_text())
    return InstanceRef.from_dir(str(tmp_path))


def test_dagster_understands_it(reference: InstanceRef) -> None:
    assert reference.settings["run_monitoring"]["enabled"] is True
    assert reference.settings["run_retries"]["max_retries"] == 2
    assert reference.settings["concurrency"]["runs"]["max_concurrent_runs"] == 8
    assert type(reference.run_launcher).__name__ == "LocalRunLauncher"
    # By name: tests of the graph load the project's modules anew.
    assert type(reference.run_coordinator).__qualname__ == NamedRunCoordinator.__qualname__
    assert reference.run_coordinator._header == "X-Auth-Request-User"
    assert type(reference.compute_log_manager).__name__ == "S3ComputeLogManager"


def test_its_storage_is_postgres_with_the_password_of_the_environment(reference: InstanceRef) -> None:
    from dagster_postgres.utils import pg_url_from_config
    from sqlalchemy import make_url

    assert reference.storage_data.class_name == "DagsterPostgresStorage"
    config = read()["storage"]["postgres"]["postgres_db"]
    resolved = {key: os.environ[one["env"]] if isinstance(one, dict) else one for key, one in config.items()}
    url = make_url(pg_url_from_config({"postgres_db": resolved}))
    assert (url.host, url.database, url.password) == (
        "postgres.invalid",
        "dagster",
        ENVIRONMENT["DAGSTER_POSTGRES_PASSWORD"],
    )


def test_no_secret_and_no_address_is_in_it() -> None:
    def environment(value: Any) -> set[str]:
        if isinstance(value, dict):
            return (
                {value["env"]}
                if set(value) == {"env"}
                else set().union(*map(environment, value.values()), set())
            )
        return set()

    named = environment(read())
    assert named <= set(environment_file()[0])
    for service in ("code", "daemon", "webserver", "webserver-read", "metrics", "prepare"):
        given = set(environment_of(service)) | set(compose()["services"][service]["secrets"])
        assert named <= given, f"{service} lacks {named - given}"


def test_the_chart_says_the_same() -> None:
    ours, chart = read(), values("dagster")
    daemon = chart["dagsterDaemon"]
    monitoring = {snake(key): value for key, value in daemon["runMonitoring"].items()}
    assert monitoring == ours["run_monitoring"]
    assert {snake(key): value for key, value in daemon["runRetries"].items()} == ours["run_retries"]
    custom = daemon["runCoordinator"]["config"]["customRunCoordinator"]
    assert {key: custom[key] for key in ("module", "class")} == {
        key: ours["run_coordinator"][key] for key in ("module", "class")
    }
    assert {snake(key): value for key, value in daemon["sensors"].items()} == ours["sensors"]
    assert {snake(key): value for key, value in daemon["schedules"].items()} == ours["schedules"]
    assert chart["concurrency"]["pools"] == ours["concurrency"]["pools"]
    assert (
        chart["retention"]["schedule"]["purgeAfterDays"] == ours["retention"]["schedule"]["purge_after_days"]
    )
    logs, theirs = chart["computeLogManager"], ours["compute_logs"]
    assert logs["type"] == theirs["class"]
    bucket = environment_file()[0][theirs["config"]["bucket"]["env"]]
    assert logs["config"]["s3ComputeLogManager"]["bucket"] == bucket
    postgres = ours["storage"]["postgres"]["postgres_db"]
    assert (chart["postgresql"]["postgresqlUsername"], chart["postgresql"]["postgresqlDatabase"]) == (
        postgres["username"], postgres["db_name"],
    )  # fmt: skip


def snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)


class _Request:
    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


FORWARDED = {"header": "X-Forwarded-Email"}


@pytest.mark.parametrize(
    ("config", "headers", "user"),
    [
        ({}, {"X_Auth_Request_User": "ada"}, "ada"),
        ({}, {"X_Auth_Request_User": "ada", "X_Forwarded_Email": "eve@example.com"}, "ada"),
        ({}, {"X_Forwarded_Email": "eve@example.com"}, None),
        ({}, {"X_Auth_Request_User": ""}, None),
        ({}, {}, None),
        (
            FORWARDED,
            {"X_Auth_Request_User": "eve", "X_Forwarded_Email": "ada@example.com"},
            "ada@example.com",
        ),
        (FORWARDED, {"X_Auth_Request_User": "eve"}, None),
    ],
)
def test_a_run_is_tagged_with_who_asked_for_it(
    config: dict[str, str], headers: dict[str, str], user: str | None
) -> None:
    context = WorkspaceRequestContext.__new__(WorkspaceRequestContext)
    context._source = _Request(**headers)  # what a web request leaves there
    with dg.DagsterInstance.ephemeral() as instance:
        coordinator = NamedRunCoordinator.from_config_value(None, {**config})
        coordinator.register_instance(instance)
        run = instance.create_run_for_job(
            _once, status=dg.DagsterRunStatus.NOT_STARTED, remote_job_origin=_ORIGIN
        )
        queued = coordinator.submit_run(SubmitRunContext(run, context))
        found = instance.get_run_by_id(run.run_id)
        assert queued.run_id == run.run_id
        assert found and found.tags.get(USER_TAG) == user
        assert found.status == dg.DagsterRunStatus.QUEUED


_ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("got"), "__repository__"), "_once"
)


@dg.op
def _nothing() -> None: ...


@dg.job
def _once() -> None:
    _nothing()


def test_the_entrypoint_hands_secrets_of_files_on(tmp_path: Path) -> None:
    (tmp_path / "GOT_METRICS_TOKEN").write_text("tok en'\"$x\n")
    (tmp_path / "RAY_AUTH_TOKEN").write_text("of the file")
    (tmp_path / "tls_key").write_text("no variable")
    (tmp_path / "GOT_ALERT_WEBHOOK").write_text("")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        [CLUSTER / "entrypoint.sh", sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "SECRETS_DIR": str(tmp_path), "RAY_AUTH_TOKEN": "of another place"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["GOT_METRICS_TOKEN"] == "tok en'\"$x"
    assert found["RAY_AUTH_TOKEN"] == "of another place"
    assert "tls_key" not in found and "GOT_ALERT_WEBHOOK" not in found
    assert done.stderr == ""


def test_scripts_are_those_of_a_plain_shell() -> None:
    for script in ("entrypoint.sh", "postgres-init.sh"):
        subprocess.run(["sh", "-n", CLUSTER / script], check=True)
        assert os.access(CLUSTER / script, os.X_OK)


def test_the_preparation_gives_limits_to_the_pools_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = load_prepare()
    assert set(prepare.POOLS) == {DECODING, ANNOTATION, TRAINING} and prepare.POOLS[TRAINING] == 1
    with dg.instance_for_test() as instance:
        instance.event_log_storage.set_concurrency_slots(TRAINING, 3)
        assert prepare.pools() == "2 of 3 limits set"
        limits = {one.name: one.limit for one in instance.event_log_storage.get_pool_limits()}
        assert limits == {**prepare.POOLS, TRAINING: 3}, "what somebody has set stays"
        assert prepare.pools() == "0 of 3 limits set"


def test_the_preparation_makes_buckets_once(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = load_prepare()
    monkeypatch.setenv("GOT_S3_ENDPOINT", s3_server.url)
    monkeypatch.setenv("GOT_STORAGE", "s3://prepared/storage")
    monkeypatch.setenv("GOT_RAW", f"s3://{s3_server.bucket}/raw")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://prepared/mlflow")
    monkeypatch.setenv("CLUSTER_LOGS_BUCKET", "prepared-logs")
    assert prepare.bucket().endswith("2 made")
    assert prepare.bucket().endswith("0 made")


def test_the_preparation_names_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_prepare().main(["buckets"]) == 2
    assert "unknown: buckets" in capsys.readouterr().err


def load_prepare() -> Any:
    spec = importlib.util.spec_from_file_location("prepare", CLUSTER / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
