"""Models by name: in place where their files are at hand, a copy that is deleted where they are not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from got_core.model.formats.weights import weights_hash
from got_core.registry.log import register
from got_core.registry.reference import NoModelError, RegistryUnavailableError, model_folder
from got_core.registry.results import EXPERIMENT
from got_core.registry.tracking import connect
from tests.got_core.tiny_pipeline import tiny_pipeline


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_a_folder_is_itself(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    with model_folder("./pipeline", "sqlite:////nowhere.db") as (folder, name):
        assert (folder, name) == (saved, str(saved))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*")
@pytest.mark.parametrize("remote", [False, True])
def test_a_version_in_place_or_as_a_copy(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: Any, remote: bool
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    if remote:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3_server.url)
        connect(uri).create_experiment(EXPERIMENT, artifact_location=f"s3://{s3_server.bucket}/artifacts")
    version = register(saved, tracking_uri=uri, tags={"weights_hash": "w1"})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for reference in (f"models:/got/{version}", "models:/got@challenger"):
        with model_folder(reference, uri) as (folder, name):
            assert name == f"models:/got/{version}"
            assert weights_hash(folder) == weights_hash(saved)
            assert folder.is_relative_to(tmp_path / ("temporary" if remote else "mlflow"))
        assert list((tmp_path / "temporary").iterdir()) == []
    for reference in ("models:/got/9", "models:/got@champion", "models:/other/1"):
        with (
            pytest.raises(NoModelError, match=f"there is no {reference} in sqlite"),
            model_folder(reference, uri),
        ):
            pass


def test_names_that_are_none_and_a_registry_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for reference in (
        "models:/got",
        "models:/",
        "models:/got@a@b",
        "models:/got/latest",
        "models:/../x/1",
        f"models:/got/{9**30}",
    ):
        with pytest.raises(ValueError, match="write models:/got@champion"), model_folder(reference, uri):
            pass
    with pytest.raises(NoModelError, match="there is no models:/got/1"), model_folder("models:/got/1", uri):
        pass
    assert list(tmp_path.iterdir()) == [], "asking makes no database"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    down = "http://ada:secret@127.0.0.1:9"
    refused = pytest.raises(RegistryUnavailableError, match="GOT_MLFLOW_URI")
    with refused as caught, model_folder("models:/got/1", down):
        pass
    assert "secret" not in str(caught.value)
