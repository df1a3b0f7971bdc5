"""Dagster's and MLflow's own files: in folders of any name, made once where processes start together."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

USE_BOTH = """
import dagster as dg
from pathlib import Path
from got_assets.home import prepare_dagster_home
from got_assets.project import PROJECT
from got_assets.ui import prepare_tracking
from got_core.registry.tracking import connect, ensure_experiment

prepare_dagster_home(PROJECT)
with dg.DagsterInstance.get() as instance:
    instance.report_runless_asset_event(dg.AssetMaterialization("here"))
    assert instance.get_latest_materialization_event(dg.AssetKey("here"))
prepare_tracking(PROJECT)
uri = PROJECT.settings.tracking_uri
client = connect(uri)
run = client.create_run(ensure_experiment(uri, "test")).info.run_id
client.log_artifact(run, __file__)
assert Path(client.download_artifacts(run, Path(__file__).name)).is_file()
"""


def start(script: Path, home: Path, cache: Path) -> subprocess.Popen[str]:
    """A fresh process with a home of its own name that writes to both kinds of store."""
    root = str(Path(__file__).parents[2])
    settings = {"GOT_HOME": str(home), "GOT_RECIPE": "tiny", "XDG_CACHE_HOME": str(cache), "PYTHONPATH": root}
    outside = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**outside, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=script.parent,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script" / "use_both.py"
    path.parent.mkdir()
    path.write_text(USE_BOTH)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a%2Fb", "a%20b", "what?", "[1] #+&=;@:ü"])
def test_databases_lie_in_the_home_whatever_its_name(script: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path / "above" / name / "home"
    process = start(script, home, tmp_path / "cache")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    databases = {path.relative_to(home).as_posix() for path in home.rglob("*.db")}
    assert {"dagster/history/runs.db", "dagster/schedules/schedules.db", "mlflow/mlflow.db"} <= databases
    assert [*home.glob("mlflow/artifacts/*/*/artifacts/use_both.py")]
    elsewhere = [path for path in tmp_path.rglob("*") if path.is_file() and home not in path.parents]
    assert elsewhere == [script]


def test_no_page_asks_to_sign_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from got_assets.home import prepare_dagster_home
    from got_assets.project import PROJECT

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    prepare_dagster_home(PROJECT)
    with dg.DagsterInstance.get() as instance:
        assert not instance.nux_enabled and not instance.telemetry_enabled


@pytest.mark.parametrize("changed", [True, False])
def test_settings_of_an_older_home_are_renewed_unless_somebody_changed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: bool
) -> None:
    from got_assets import home
    from got_assets.project import INSTANCE, PROJECT

    old = b"telemetry:\n  enabled: false\n"
    monkeypatch.setattr(home, "_FORMER", {hashlib.sha256(old).hexdigest()})
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    settings = tmp_path / "dagster.yaml"
    settings.write_bytes(old + b"# mine\n" if changed else old)
    home.prepare_dagster_home(PROJECT)
    line = capsys.readouterr().out
    if changed:
        assert (
            settings.read_bytes() == old + b"# mine\n" and "was changed and stays: take run_launcher" in line
        )
    else:
        assert settings.read_bytes() == (INSTANCE / "dagster.yaml").read_bytes() and "is renewed" in line
        with dg.DagsterInstance.get() as instance:
            assert instance.run_launcher.supports_check_run_worker_health and instance.run_monitoring_enabled
            assert instance.run_retries_enabled and not instance.run_retries_retry_on_asset_or_op_failure
    home.prepare_dagster_home(PROJECT)
    assert ("take run_launcher" in capsys.readouterr().out) == changed


@pytest.mark.slow
def test_processes_that_start_together_on_a_fresh_home_all_work(script: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    processes = [start(script, home, tmp_path / "cache") for _ in range(4)]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said


def fails(*arguments: str, **settings: str) -> str:
    """What a command says that ends with exit status 1; no traceback."""
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "got_assets.cli", *arguments],
        env={**os.environ, **keys, "GOT_RECIPE": "tiny", **settings},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "arguments", [("run",), ("ablation",), ("data", "refused", "x"), ("data", "takedown", "list")]
)
def test_a_store_that_is_down_from_the_start_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    down = {"GOT_STORAGE": "s3://got/store", "GOT_S3_ENDPOINT": "http://127.0.0.1:9"}
    (tmp_path / "raw").mkdir()
    said = fails(*arguments, **down, GOT_HOME=str(tmp_path / "home"), GOT_RAW=str(tmp_path / "raw"))
    assert "the S3 store at http://127.0.0.1:9 (GOT_S3_ENDPOINT) could not be used" in said


def test_a_home_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("run", "ui"):
        assert str(tmp_path / "file") in fails(command, DAGSTER_HOME=str(tmp_path / "file"))
