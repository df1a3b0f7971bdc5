"""The data part of the graph on tars given as input: no byte is copied, all else is as with files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from got_core.corpus.members import Member
from got_core.corpus.sample_tars import read_index, read_sample
from got_core.storage import Storage

from .conftest import Graph

PLACES = ("target_path", "shard")


def own(graph: Graph) -> Graph:
    """The graph with a history of its own."""
    return replace(graph, instance=dg.DagsterInstance.ephemeral())


def made(graph: Graph) -> pl.DataFrame:
    """The manifest after the whole data part, by picture."""
    graph.make_data()
    assert not any(outcome.error or outcome.blocked for outcome in graph.outcomes.values()), graph.outcomes
    graph.make("training_manifest")
    return graph.storage.read_table("training_manifest").sort("image_id")


def pack(folder: Path, target: Path, tars: int = 3) -> None:
    """All pictures below a folder in so many tars."""
    target.mkdir()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(tars):
        with tarfile.open(target / f"{number}.tar", "w") as tar:
            for path in files[number::tars]:
                tar.add(path, path.relative_to(folder).as_posix())


@pytest.mark.slow
def test_tars_give_what_files_give_and_nothing_is_copied(load: Callable[..., Graph], tmp_path: Path) -> None:
    load(home=str(tmp_path / "rendering")).render()
    images = tmp_path / "rendering" / "raw" / "images"
    pack(images, tmp_path / "tars")
    of_files = made(own(load(raw=str(images), annotator="scenes", storage=f"file://{tmp_path / 'files'}")))
    settings = {
        "raw": str(tmp_path / "tars" / "*.tar"),
        "annotator": "scenes",
        "storage": f"file://{tmp_path / 'inside'}",
    }
    graph = own(load(**settings))
    of_tars = made(graph)
    assert of_tars.height > 20 and of_tars.drop(PLACES).equals(of_files.drop(PLACES))
    assert all(Member.of(path) for path in of_tars["target_path"])
    stored = graph.storage.list()
    assert not [name for name in stored if name.startswith("stored_images/") or name.endswith(".tar")]
    assert sum(len(graph.storage.read_bytes(name)) for name in stored if name.endswith(".html")) > 10_000
    shards = graph.instance.get_dynamic_partitions("image_shards")
    in_place = [int(graph.metadata("t2i_training_shards", shard)["read_in_place"]) for shard in shards]
    assert sum(in_place) == of_tars.height
    assert not any(graph.make_data().values()), "a second run makes nothing"

    again = replace(load(**settings, repack_tars="1"), instance=graph.instance)
    assert {one for assets in again.make_data().values() for one in assets} == {"t2i_training_shards"}
    check_packed(again.storage, of_tars)


def check_packed(storage: Storage, manifest: pl.DataFrame) -> None:
    """Every sample is in a training tar with the bytes of the input tar."""
    index = read_index(storage)
    assert index.height == manifest.height and index["tar"].null_count() == 0
    for row in index.iter_rows(named=True):
        assert read_sample(storage, row)["image_id"] == row["image_id"]
