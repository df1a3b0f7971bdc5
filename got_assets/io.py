"""How values move between assets: tables and JSON documents in the project's storage.

Belongs here: which file holds which asset's value. Does not belong here: what the values mean; and never
images or weights, of which only names travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from got_core.storage import Storage


def value_name(asset: str, partition: str | None = None) -> str:
    """Storage name of an asset's value, without suffix: `captions/images-00000`, `geneval`."""
    return f"{asset}/{partition}" if partition else asset


class ShardTables(Mapping[str, pl.DataFrame]):
    """The tables of a partitioned asset by shard, read when asked for, so that one shard is in memory at a
    time.

    Only shards whose table exists are keys: a shard that was blocked upstream is simply absent.
    """

    def __init__(self, storage: Storage, asset: str, shards: list[str]) -> None:
        self._storage, self._asset = storage, asset
        self._shards = [name for name in shards if storage.exists(f"{value_name(asset, name)}.parquet")]

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

    A consumer of one partition gets a frame; an unpartitioned consumer of a partitioned asset gets
    `ShardTables`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write a frame or a dict. Raises TypeError for anything else."""
        partition = context.partition_key if context.has_partition_key else None
        name = value_name(context.asset_key.to_user_string(), partition)
        if isinstance(obj, pl.DataFrame):
            self._storage.write_table(name, obj)
            context.add_output_metadata({"stored_at": self._storage.url_of(f"{name}.parquet")})
        elif isinstance(obj, dict):
            self._storage.write_json(f"{name}.json", obj)
            context.add_output_metadata({"stored_at": self._storage.url_of(f"{name}.json")})
        else:
            raise TypeError(
                f"{name}: only tables and dicts are kept between assets, not {type(obj).__name__}"
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """Read what `handle_output` wrote. Raises FileNotFoundError naming the file that is missing."""
        asset = context.asset_key.to_user_string()
        if not context.has_asset_partitions:
            return read_value(self._storage, value_name(asset))
        if context.has_partition_key:
            return self._storage.read_table(value_name(asset, context.asset_partition_key))
        return ShardTables(self._storage, asset, sorted(context.asset_partition_keys))


def read_value(storage: Storage, name: str) -> pl.DataFrame | dict[str, Any]:
    """A stored table or document by its name without suffix."""
    if storage.exists(f"{name}.json"):
        return storage.read_json(f"{name}.json")
    return storage.read_table(name)


def value_exists(storage: Storage, asset: str, partition: str | None = None) -> bool:
    """Whether an asset's value is stored, and for a document also the folder that it refers to."""
    name = value_name(asset, partition)
    if storage.exists(f"{name}.parquet"):
        return True
    if not storage.exists(f"{name}.json"):
        return False
    folder = storage.read_json(f"{name}.json").get("folder")
    return folder is None or storage.exists(folder)
