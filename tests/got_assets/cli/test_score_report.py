"""`got score report` of registered models and of folders, with their pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from got_core.registry.results import EXPERIMENT
from got_core.registry.tracking import connect, ensure_experiment
from got_core.settings import Settings
from got_core.storage import Storage
from tests.got_core.evaluate.report.painted import GENEVAL, painted_run
from tests.got_core.evaluate.report.test_gallery import data_of

OWN, OTHER = "b" * 64, "a" * 64
Got = Callable[..., Any]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with the pictures and scores of two models."""
    place = tmp_path_factory.mktemp("scored")
    for weights, wrong in ((OTHER, (0, 4)), (OWN, (0, 7))):
        painted_run(GENEVAL, Storage(f"file://{place}"), f"geneval/{weights[:12]}", weights, wrong=wrong)
    return place


def register(weights: str, alias: str) -> None:
    uri = Settings().tracking_uri
    client = connect(uri)
    if not client.search_registered_models("name = 'got'"):
        client.create_registered_model("got")
    run = client.create_run(ensure_experiment(uri, EXPERIMENT)).info.run_id
    tags = {"weights_hash": weights}
    made = client.create_model_version("got", f"runs:/{run}/model", run_id=run, tags=tags)
    client.set_registered_model_alias("got", alias, made.version)


def test_registered_models_side_by_side(
    got: Got, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_STORAGE", f"file://{scored}")
    missing = got("score", "report", "models:/got@champion")
    assert missing.status == 1 and "there is no models:/got@champion" in missing.err
    register(OTHER, "champion")
    register(OWN, "challenger")
    page = tmp_path / "both.html"
    done = got("score", "report", "models:/got@champion", "models:/got@challenger", "--html", page)
    assert done.status == 0, done.err
    assert "models:/got/1" in done.out and "models:/got/2" in done.out
    (section,) = data_of(page.read_text(encoding="utf-8"))["sections"]
    assert section["models"] == ["models:/got/1", "models:/got/2"] and len(section["cases"]) == 18
    assert section["cases"][4]["change"] == "fixed"
    assert section["cases"][4]["sides"][1]["why"] == "got why geneval/scenes/00004 --model models:/got/2"
    compared = got("score", "report", "models:/got/2", "--base", "models:/got/1", "--json").json
    (difference,) = compared["benchmarks"][0]["tables"][0]["differences"]
    assert difference["minus"] == "models:/got/1 (base)"
    register("c" * 64, "unscored")
    nothing = got("score", "report", "models:/got@unscored")
    assert nothing.status == 2 and "holds no scores of models:/got/3" in nothing.err


def test_folders_side_by_side(got: Got, scored: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scored / "geneval" / OWN[:12], copy)
    page = tmp_path / "page.html"
    done = got("score", "report", scored / "geneval" / OTHER[:12], copy, "--html", page)
    assert done.status == 0, done.err
    (section,) = data_of(page.read_text(encoding="utf-8"))["sections"]
    assert len(section["models"]) == 2 and section["cases"][7]["change"] == "broken"
    assert all(side["picture"] is not None for one in section["cases"] for side in one["sides"])
