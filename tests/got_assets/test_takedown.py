"""A takedown through the graph: the list makes the manifest stale, and the asset says what was removed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import dagster as dg
import pytest

from .conftest import Graph


def test_what_is_put_on_the_list_is_gone_after_the_next_run(
    load: Callable[..., Graph], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = load()
    graph.render()
    graph.make_data()
    assert graph.make("training_manifest") == ["training_manifest"]
    before = graph.storage.read_table("training_manifest")
    image = before.filter(before["shard"] == "images-00000")["image_id"][0]
    shown = graph.metadata("t2i_selection", "images-00000")
    assert "| failed_annotation |" in shown["rules"] and "examples" in shown

    def takedown(*arguments: str) -> int:
        return import_module("got_assets.cli").main(["data", "takedown", *arguments])

    assert takedown("add", "picture.png") == 1
    assert takedown("models", image) == 0
    assert "no registered model version was trained on any of them" in capsys.readouterr().out
    assert takedown("add", image, "--reason", "withdrawn") == 0
    again = load()
    numbers = {asset: rows(again, asset) for asset in TABLES}
    assert again.make("training_manifest") == ["training_manifest"]
    after = again.storage.read_table("training_manifest")
    assert after["sample_id"].to_list() == before.filter(before["image_id"] != image)["sample_id"].to_list()
    assert image not in again.storage.read_table("raw_images/images-00000")["image_id"]
    for asset in TABLES:
        assert again.metadata(asset, "images-00000")["rows_taken_down"] == 1
        assert rows(again, asset) == numbers[asset] - 1
    made = again.make_data()["images-00000"]
    assert set(made) <= {"t2i_gallery", "t2i_training_shards"}, "nothing is annotated again"
    left = {name for name, data in files(again).items() if image.encode() in data}
    assert left and not [name for name in left if not name.startswith("takedown/")]
    archived = [name for name in again.storage.list("manifests/") if name.endswith(".parquet")]
    assert len(archived) == 2, "the manifest of before can still be asked"
    assert again.make("training_manifest") == []
    module = import_module("got_assets.defs.curate.takedown")
    result = dg.materialize(
        [module.taken_down],
        instance=again.instance,
        resources={"project": again.project, "io_manager": _io(again)},
    )
    assert result.success
    table = again.storage.read_table("taken_down")
    assert set(table["request"]) == {image} and set(table["kind"]) == {"image", "chain"}


TABLES = ("raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection")


def rows(graph: Graph, asset: str) -> int:
    return int(graph.metadata(asset, "images-00000")["dagster/row_count"])


def files(graph: Graph) -> dict[str, bytes]:
    """Every file of the storage, tables as text, too."""
    found = graph.storage.read_many(graph.storage.list())
    for name, data in found.items():
        if name.endswith(".parquet"):
            found[name] = data + repr(graph.storage.read_table(name.removesuffix(".parquet")).rows()).encode()
    return found


def _io(graph: Graph) -> dg.IOManager:
    from got_assets.io import StorageIOManager

    return StorageIOManager(graph.storage)
