"""`got promote`, `rollback`, `export` and `model` on a registry with versions that hold nothing but tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from got_core.curate.manifest import archive_manifest
from got_core.curate.schemas import MANIFEST
from got_core.registry.aliases import move_alias
from got_core.registry.tracking import connect
from got_core.storage import Storage

from .conftest import Result

Got = Callable[..., Result]
IMAGE = "a" * 64


@pytest.fixture
def versions(home: Path) -> str:
    """Two versions of `got`; the first was trained on one image. Returns the manifest's hash."""
    row = {
        "sample_id": "c-1",
        "kind": "t2i",
        "image_id": IMAGE,
        "source": "photos",
        "licence": "CC BY-NC 4.0",
    }
    manifest = pl.DataFrame([row], schema={name: kind for name, (kind, _) in MANIFEST.items()})
    digest = archive_manifest(Storage(f"file://{home / 'storage'}"), manifest)
    client = connect(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    client.create_registered_model("got")
    for tags in ({"manifest_hash": digest}, {"manifest_hash": "gone"}):
        client.create_model_version("got", "file:///nowhere", tags=tags)
    move_alias(client, "got", "challenger", "2", "registered")
    return digest


def test_aliases_are_moved_and_moved_back(got: Got, versions: str) -> None:
    first = got("promote", "--version", 1, "--reason", "the first one")
    assert (first.status, first.out) == (0, "@champion: version none -> 1 (by hand: the first one)\n")
    assert got("promote", "--version", 1, "--reason", "again").out == "version 1 is champion already\n"
    assert got("promote", "--version", 2, "--reason", "better", "--json").json["before"] == "1"
    back = got("rollback", "--reason", "text got worse")
    assert back.out == "@champion: version 2 -> 1 (rolled back: text got worse)\n"
    told = got("model", "history").out.splitlines()
    assert [line.split(": ")[1].split("  ")[0] for line in told] == [
        "none -> 2",
        "none -> 1",
        "1 -> 2",
        "2 -> 1",
    ]
    assert len(got("model", "history", "--json").json) == 4


def test_images_behind_a_version_and_versions_behind_an_image(got: Got, versions: str) -> None:
    shown = got("model", "images", "models:/got/1")
    assert shown.out == f"models:/got/1: 1 images in 1 samples of 1 manifests\n{IMAGE}\n"
    assert got("model", "images", "models:/got/1", "--out", "images.csv").status == 0
    assert pl.read_csv("images.csv")["image_id"].to_list() == [IMAGE]
    assert "manifest gone is not archived here" in got("model", "images", "models:/got/2").out
    saw = got("model", "saw", IMAGE, "--json").json
    assert [(one["version"], one["known"]) for one in saw] == [("1", True), ("2", False)]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["promote", "--version", "1"], 2, "say why"),
        (["promote", "--reason", "x"], 2, "--reason goes with --version"),
        (["promote", "--version", "9", "--reason", "x"], 1, "there is no models:/got/9"),
        (["rollback", "--reason", "x"], 2, "has no @champion"),
        (["rollback", "--reason", " "], 2, "say why"),
        (["model", "images", "models:/got/9"], 1, "there is no models:/got/9"),
        (["model", "card", "got"], 1, "got is not there"),
        (["export", ".", "--model", "nothing"], 1, "is there already"),
        (["export", "no/where", "--model", "nothing"], 1, "there is no folder"),
        (["export", "new", "--model", "nothing"], 1, "nothing is not there"),
        (["serve", "--host", "0.0.0.0"], 2, "needs a token"),
        (["serve", "--port", "99999"], 2, "'--port'"),
        (["serve", "--model", "nothing", "--port", "0"], 1, "nothing is not there"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    got: Got, versions: str, arguments: list[str], status: int, told: str
) -> None:
    if arguments[0] == "serve":
        pytest.importorskip("prometheus_client")
        pytest.importorskip("python_multipart")
    done = got(*arguments)
    assert done.status == status and told in done.err and len(done.err.splitlines()) == 1, done.err
    assert not Path("new").exists()


def test_a_folder_is_exported_and_described(got: Got, model: Path) -> None:
    done = got("export", "out", "--model", model)
    assert done.status == 0, done.err
    assert "Not recorded." in Path("out/README.md").read_text()
    assert json.loads(Path("out/lineage.json").read_text())["tags"] == {}
    assert got("model", "card", model).out == Path("out/README.md").read_text()
    again = got("generate", "a star", "--model", "out", "--steps", 2, "-o", "a.png")
    assert again.status == 0, again.err
