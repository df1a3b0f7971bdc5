"""Where values are kept, and which of them can be made in one run."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl
import pytest

from got_core.storage import Storage

from .conftest import Graph


def test_tables_and_documents_round_trip(storage: Storage) -> None:
    from got_assets.io import StorageIOManager, read_value
    from got_assets.names import value_name

    manager = StorageIOManager(storage)
    frame = pl.DataFrame({"k": ["a", None], "n": [[1], []]})
    manager.handle_output(dg.build_output_context(asset_key="t", partition_key="s-1"), frame)
    manager.handle_output(dg.build_output_context(asset_key="d"), {"x": [1, 2]})
    assert storage.list() == ["d.json", "t/s-1.parquet"]
    assert storage.read_table(value_name("t", "s-1")).equals(frame)
    assert read_value(storage, "d") == {"x": [1, 2]}


def test_images_and_weights_do_not_travel(storage: Storage) -> None:
    from got_assets.io import StorageIOManager

    with pytest.raises(TypeError, match=r"^a: only tables and dicts .* not bytes"):
        StorageIOManager(storage).handle_output(dg.build_output_context(asset_key="a"), b"pixels")
    assert storage.list() == []


def test_other_columns_than_declared_are_neither_written_nor_handed_on(storage: Storage) -> None:
    from got_assets.io import StorageIOManager
    from got_assets.reporting import column_schema

    columns = column_schema({"k": (pl.String(), "a key"), "n": (pl.Int64(), "a number")})
    manager, good = StorageIOManager(storage), pl.DataFrame({"k": ["a"], "n": [1]})

    @dg.asset(metadata=columns)
    def above() -> pl.DataFrame:
        return wanted

    @dg.asset
    def below(above: pl.DataFrame) -> dict:
        return {"rows": above.height}

    def made(*assets: dg.AssetsDefinition) -> str:
        result = dg.materialize(
            [above, below], selection=[one.key for one in assets], resources={"io_manager": manager},
            raise_on_error=False,
        )  # fmt: skip
        errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        return str(errors[0].cause or errors[0]) if errors and errors[0] else ""

    wanted = good
    assert made(above, below) == "" and storage.read_json("below.json") == {"rows": 1}
    for wrong, told in (
        (good.drop("n"), "n is missing instead of Int64"),
        (good.cast({"n": pl.String}), "n is String instead of Int64"),
        (good.select("n", "k"), "another order"),
    ):
        wanted = wrong
        assert f"table above does not have its declared columns: {told}" in made(above)
        assert storage.read_table("above").equals(good), "what was there stays"
        storage.write_table("above", wrong)
        assert told in made(below)
        storage.write_table("above", good)


def test_shard_tables_hold_what_is_stored(storage: Storage) -> None:
    from got_assets.io import ShardTables

    storage.write_table("t/s-0", pl.DataFrame({"k": [0]}))
    storage.write_table("t/s-2", pl.DataFrame({"k": [2]}))
    tables = ShardTables(storage, "t", ["s-0", "s-1", "s-2"])
    assert {name: table["k"][0] for name, table in tables.items()} == {"s-0": 0, "s-2": 2}
    with pytest.raises(KeyError):
        tables["s-1"]


def test_a_model_whose_folder_is_gone_does_not_exist(storage: Storage) -> None:
    from got_assets.io import value_exists

    assert not value_exists(storage, "model")
    storage.write_json("model.json", {"folder": "models/m"})
    assert not value_exists(storage, "model")
    storage.write_bytes("models/m/model_index.json", b"{}")
    assert value_exists(storage, "model")


CHAIN = ("raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection")


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ("", ""),
        ("raw_images captions entities boxes t2i_chains t2i_selection", "all"),
        ("captions", "captions"),
        # Boxes may turn out unchanged, so what lies below them waits.
        ("entities t2i_chains", "entities"),
        ("captions boxes", "captions"),
        ("captions entities t2i_selection", "captions entities"),
        ("t2i_chains t2i_selection", "t2i_chains t2i_selection"),
    ],
)
def test_one_run_makes_nothing_that_may_have_to_be_made_again(
    graph: Graph, needed: str, expected: str
) -> None:
    from got_assets.needs import State, next_batch
    from got_assets.staleness import graph_nodes

    states = [State(name, name in needed.split()) for name in CHAIN]
    batch = next_batch(graph_nodes(graph.run.defs.resolve_asset_graph()), states)
    assert batch == (list(CHAIN) if expected == "all" else expected.split())


def test_blocked_assets_are_in_no_run(graph: Graph) -> None:
    from got_assets.needs import State, next_batch
    from got_assets.staleness import graph_nodes

    states = [State(CHAIN[0], False), *(State(name, True, blocked="raw_images") for name in CHAIN[1:])]
    assert next_batch(graph_nodes(graph.run.defs.resolve_asset_graph()), states) == []


def test_whether_a_value_exists_is_one_request(s3_server: Any) -> None:
    from bench.counted_s3 import Counting, counts
    from got_assets.io import ShardTables, read_value, value_exists

    s3_server._server.app = Counting(s3_server._server.app)
    remote = Storage(f"s3://{s3_server.bucket}/got", endpoint_url=s3_server.url)
    frame = pl.DataFrame({"x": [1]})
    for name in ("raw_images/images-00000", "raw_images/images-00002", "training_manifest"):
        remote.write_table(name, frame)
    for name, document in (("t2i_gallery/images-00000", {"items": []}), ("model", {"folder": "models/a"})):
        remote.write_json(f"{name}.json", document)
    asked = [
        ("raw_images", "images-00000", True, 1),
        ("raw_images", "images-00001", False, 1),
        ("raw_images", None, False, 1),
        ("training_manifest", None, True, 1),
        ("t2i_gallery", "images-00000", True, 1),
        ("model", None, False, 3),
    ]
    for asset, partition, wanted, requests in asked:
        counts(s3_server.url)
        assert value_exists(remote, asset, partition) is wanted, asset
        assert counts(s3_server.url).total() == requests, asset
    remote.write_bytes("models/a/weights", b"x")
    assert value_exists(remote, "model")
    counts(s3_server.url)
    tables = ShardTables(remote, "raw_images", [f"images-{number:05d}" for number in range(9)])
    assert list(tables) == ["images-00000", "images-00002"] and counts(s3_server.url).total() == 1
    assert read_value(remote, "raw_images/images-00000").equals(frame)
    assert counts(s3_server.url).total() == 1
    assert read_value(remote, "model") == {"folder": "models/a"}
    with pytest.raises(FileNotFoundError, match=r"nothing\.parquet does not exist"):
        read_value(remote, "nothing")
