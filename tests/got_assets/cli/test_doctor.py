"""`got doctor` and `got bench` as a person sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Result

Got = Callable[..., Result]
DOWN = "http://127.0.0.1:9"
KEY = "sk-not-to-be-shown"


def test_all_is_well_on_a_fresh_home(got: Got, home: Path) -> None:
    done = got("doctor")
    assert done.status == 0, done.out
    assert not home.exists()
    names = {one["name"]: one["state"] for one in got("doctor", "--json").json["checks"]}
    assert {"storage", "mlflow", "ray", "annotator"} <= names.keys() and "fail" not in names.values()


def test_what_is_down_is_named_with_what_to_do(got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_MLFLOW_URI", DOWN)
    monkeypatch.setenv("GOT_ANNOTATOR", "openai")
    monkeypatch.setenv("GOT_ANNOTATOR_URL", f"{DOWN}/v1")
    monkeypatch.setenv("GOT_ANNOTATOR_VISION_MODEL", "Qwen2.5-VL-7B-Instruct")
    monkeypatch.setenv("GOT_ANNOTATOR_KEY", KEY)
    found = got("doctor", "--json")
    assert found.status == 1 and found.json["state"] == "fail" and found.err == ""
    failed = {one["name"]: one for one in found.json["checks"] if one["state"] == "fail"}
    assert failed.keys() == {"mlflow", "annotator"}
    assert DOWN in failed["mlflow"]["found"] and "GOT_MLFLOW_URI" in failed["mlflow"]["advice"]
    said = got("doctor")
    assert said.status == 1 and "what to do: start the server, or correct GOT_ANNOTATOR_URL" in said.out
    assert KEY not in found.out + said.out + said.err


def test_wrong_settings_are_a_finding(got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_ANNOTATOR", "nobody")
    done = got("doctor")
    assert done.status == 1 and "GOT_ANNOTATOR is 'nobody'" in done.out and "processor" in done.out


def test_benchmarks_are_run_by_name_from_a_checkout(
    got: Got, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import got_assets.project

    monkeypatch.setattr(got_assets.project, "ROOT", tmp_path)
    done = got("bench")
    assert done.status == 1 and "clone the repository" in done.err and len(done.err.splitlines()) == 1


def test_nodes_that_train_are_looked_at_on_demand(
    got: Got, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = got("doctor", "--training", "--json")
    assert done.status == 0, done.out
    (line,) = [one for one in done.json["checks"] if one["name"] == "training"]
    assert line["state"] == "ok" and line["found"].startswith("this machine: ")
    assert not [path for path in (home / "storage").rglob("*") if path.is_file()]
    monkeypatch.setenv("GOT_MLFLOW_URI", DOWN)
    done = got("doctor", "--training")
    assert done.status == 1
    assert "training: MLflow" in done.out and "open it to the nodes' network" in done.out
