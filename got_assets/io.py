"""How values move between assets: tables and JSON documents in the project's storage.

Belongs here: which file holds which asset's value. Does not belong here: what the values mean; and never
images or weights, of which only names travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from got_assets.names import value_name
from got_assets.retries import attempt_of, retrying
from got_core.leases import check_held
from got_core.storage import TABLE_SUFFIX, Storage


class ShardTables(Mapping[str, pl.DataFrame]):
    """The tables of a partitioned asset by shard, read at look-up: one shard is in memory at a time.

    Only shards whose table exists are keys: a shard that was blocked upstream is simply absent.
    """

    def __init__(self, storage: Storage, asset: str, shards: list[str]) -> None:
        self._storage, self._asset = storage, asset
        stored = set(storage.list(f"{asset}/"))
        self._shards = [name for name in shards if f"{value_name(asset, name)}{TABLE_SUFFIX}" in stored]

    def __getitem__(self, shard: str) -> pl.DataFrame:
        if shard not in self._shards:
            raise KeyError(shard)
        return self._storage.read_table(value_name(self._asset, shard))

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


class StorageIOManager(dg.IOManager):
    """Frames are kept as `{asset}/{partition}.parquet` (or `{asset}.parquet`), dicts as `{asset}.json`.

    The columns that an asset declares (metadata `dagster/column_schema`) are a contract: a table with others
    is neither written nor handed on. A consumer of one partition gets a frame; an unpartitioned consumer of a
    partitioned asset gets `ShardTables`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write a frame or a dict. Raises TypeError for anything else, ValueError for other columns than
        declared, LeaseLost where another process has taken over."""
        partition = context.partition_key if context.has_partition_key else None
        check_held(partition or context.asset_key.to_user_string())
        name = value_name(context.asset_key.to_user_string(), partition)
        with retrying(attempt_of(context)):
            self._write(context, name, obj)

    def _write(self, context: dg.OutputContext, name: str, obj: Any) -> None:
        if isinstance(obj, pl.DataFrame):
            check_contract(obj, context.definition_metadata, name)
        stored = write_value(self._storage, name, obj)
        context.add_output_metadata({"stored_at": self._storage.url_of(stored)})

    def load_input(self, context: dg.InputContext) -> Any:
        """Read what `handle_output` wrote.

        Raises FileNotFoundError naming the file that is missing, ValueError naming a table that has other
        columns than its asset declares by now.
        """
        asset = context.asset_key.to_user_string()
        if not context.has_asset_partitions or context.has_partition_key:
            partition = context.asset_partition_key if context.has_asset_partitions else None
            name = value_name(asset, partition)
            with retrying(attempt_of(context)):
                value = read_value(self._storage, name)
            declared = context.upstream_output.definition_metadata if context.upstream_output else {}
            return check_contract(value, declared, name) if isinstance(value, pl.DataFrame) else value
        return ShardTables(self._storage, asset, sorted(context.asset_partition_keys))


def check_contract(frame: pl.DataFrame, metadata: Mapping[str, Any], name: str) -> pl.DataFrame:
    """The frame itself, if it has the columns and types that its asset declares, in that order.

    Raises ValueError naming the table and what differs. An asset that declares none may have any.
    """
    schema = metadata.get("dagster/column_schema")
    if schema is None:
        return frame
    schema = getattr(schema, "schema", schema)
    declared = {column.name: column.type for column in schema.columns}
    found = {column: str(dtype) for column, dtype in frame.schema.items()}
    if list(declared.items()) == list(found.items()):
        return frame
    names = sorted(declared.keys() | found.keys())
    unlike = [
        f"{one} is {found.get(one, 'missing')} instead of {declared.get(one, 'missing')}"
        for one in names
        if declared.get(one) != found.get(one)
    ]
    raise ValueError(
        f"table {name} does not have its declared columns: {'; '.join(unlike) or 'another order'}. "
        "Materialize it again"
    )


def write_value(storage: Storage, name: str, obj: Any) -> str:
    """Store a table or document by its name without suffix; the name with it. Raises TypeError for anything
    else."""
    if isinstance(obj, pl.DataFrame):
        storage.write_table(name, obj)
        return f"{name}{TABLE_SUFFIX}"
    if isinstance(obj, dict):
        storage.write_json(f"{name}.json", obj)
        return f"{name}.json"
    raise TypeError(f"{name}: only tables and dicts are kept between assets, not {type(obj).__name__}")


def read_value(storage: Storage, name: str) -> pl.DataFrame | dict[str, Any]:
    """A stored table, or else document, by its name without suffix."""
    try:
        return storage.read_table(name)
    except FileNotFoundError as missing:
        try:
            return storage.read_json(f"{name}.json")
        except FileNotFoundError:
            raise missing from None


def value_exists(storage: Storage, asset: str, partition: str | None = None) -> bool:
    """Whether an asset's value is stored, and for a document also the folder that it refers to, which those
    of partitions do not. One request to a remote storage, three for a document with a folder."""
    name = value_name(asset, partition)
    endings = storage.endings(name)
    if TABLE_SUFFIX in endings or not endings or partition is not None:
        return bool(endings)
    folder = storage.read_json(f"{name}.json").get("folder")
    return folder is None or storage.exists(folder)
