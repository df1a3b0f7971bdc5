"""What people decide outside of the graph, as data versions: takedowns, verdicts, benchmarks, imports.

Lists lie in the storage (or where the recipe says) and change without Dagster. Looking at them gives a
version for each shard that entries touch, which is recorded as an observation where it is another than the
last one. What reads a list thereby becomes stale for exactly those shards.

Belongs here: reading versions and recording them. Not here: the sources as assets (`sources`), and
what a list says about a shard (`got_core.curate.shard_lists`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import DagsterEventType

from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_core.corpus.item_index import ID_COLUMNS, ItemIndex, Kind, update_index

Versions = Mapping[str | None, str]
"""Data version by shard, or that of a source without shards under None."""
SHARDS: dict[Kind, dg.DynamicPartitionsDefinition] = {"images": IMAGE_SHARDS, "edits": EDIT_SHARDS}


class Lists:
    """The lists as they are at one moment; each is read once, when its versions are asked for."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        self.project, self.instance = project, instance

    def shards(self, kind: Kind) -> list[str]:
        """All shards of a kind, sorted."""
        return sorted(self.instance.get_dynamic_partitions(str(SHARDS[kind].name)))

    def table_versions(self, kind: Kind, table: str) -> dict[str, str]:
        """Data versions of a table of all shards that have one."""
        tags = self.instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(table), DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
        )
        known = set(self.shards(kind))
        return {shard: found.get(DATA_VERSION_TAG, "") for shard, found in tags.items() if shard in known}

    def index(self, kind: Kind) -> ItemIndex:
        """The index of ids, brought up to date with the shards' tables."""
        return self._indices[kind]

    @cached_property
    def _indices(self) -> dict[Kind, ItemIndex]:
        found: dict[Kind, ItemIndex] = {}
        for kind, tables in ID_COLUMNS.items():
            parts = [self.table_versions(kind, table) for table in tables]
            shards = sorted({shard for part in parts for shard in part})
            versions = {shard: "-".join(part.get(shard, "") for part in parts) for shard in shards}
            found[kind] = update_index(self.project.storage, kind, versions, log_progress)
        return found

    @cached_property
    def takedowns(self) -> dict[str, str]:
        """Versions of shards that takedowns touch."""
        from got_core.curate.shard_lists import takedown_ids, takedown_versions

        storage = self.project.storage
        return takedown_versions(storage, self._indices.values()) if takedown_ids(storage) else {}

    @cached_property
    def verdicts(self) -> dict[str, str]:
        """Versions of shards that reviewers' verdicts touch."""
        from got_core.curate.review_schemas import FOLDER
        from got_core.curate.shard_lists import verdict_versions

        storage = self.project.storage
        return verdict_versions(storage, self._indices.values()) if storage.list(f"{FOLDER}/") else {}

    def contamination(self, kind: Kind) -> dict[str, str]:
        """Versions of shards with pictures of the benchmark that the recipe names.

        Raises as `read_benchmark`.
        """
        from got_core.curate.benchmarks import read_benchmark
        from got_core.curate.shard_lists import contamination_versions

        config, project = self.project.recipe.curate, self.project
        if not config.benchmark_hashes:
            return {}
        url = config.benchmark_hashes
        benchmark = read_benchmark(url, project.settings.fs_options(url))
        tables = self.table_versions(kind, next(iter(ID_COLUMNS[kind])))
        distance = config.contamination_distance
        return contamination_versions(project.storage, kind, tables, benchmark, distance)

    def imports(self, kind: Kind) -> dict[str, str]:
        """Versions of shards with imported chains."""
        from got_core.exchange.shard_versions import import_versions

        return import_versions(self.project.storage, self.index(kind))


@dataclass(frozen=True, kw_only=True)
class Source:
    """An asset that is made outside of the graph."""

    name: str
    about: str
    """What it is, for its page."""
    read: Callable[[Lists], Mapping[str, str] | str]
    """Versions of the shards that it touches, or its one version where it has no shards."""
    kind: Kind | None = None
    """Its shards, if it has any."""

    def versions(self, lists: Lists) -> dict[str | None, str]:
        """The data version of every shard (under None: of a source that has none)."""
        from got_core.curate.shard_lists import NOTHING

        found = self.read(lists)
        if isinstance(found, str):
            return {None: found}
        assert self.kind is not None
        return {shard: found.get(shard, NOTHING) for shard in lists.shards(self.kind)}

    def changed(self, lists: Lists) -> dict[str | None, str]:
        """Those versions that are not the ones observed last."""
        observed = self._observed(lists.instance)
        return {part: said for part, said in self.versions(lists).items() if observed.get(part) != said}

    def _observed(self, instance: dg.DagsterInstance) -> Versions:
        key = dg.AssetKey(self.name)
        if self.kind is None:
            records = instance.fetch_observations(key, limit=1).records
            event = records[0].asset_observation if records else None
            return {None: (event.tags or {}).get(DATA_VERSION_TAG, "")} if event else {}
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            key, DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG]
        )
        return {shard: found.get(DATA_VERSION_TAG, "") for shard, found in tags.items()}


def observations(
    sources: list[Source], project: Project, instance: dg.DagsterInstance
) -> Iterator[dg.AssetObservation]:
    """One event for each shard of each source whose version has changed.

    Raises ValueError where a list cannot be understood, OSError or StoreUnavailableError where it cannot be
    read: nothing is recorded of that source then.
    """
    lists = Lists(project, instance)
    for source in sources:
        for partition, version in source.changed(lists).items():
            tags = {DATA_VERSION_TAG: version}
            yield dg.AssetObservation(asset_key=source.name, partition=partition, tags=tags)
