"""Sources outside of the graph, observed by partition: what depends on one follows its changes."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus

from got_assets.event_log import EventLog
from got_assets.staleness import Staleness
from got_core.storage import Storage

from .test_needs_like_dagster import Loading

SHARDS = dg.DynamicPartitionsDefinition(name="shards")
NAMES = ["a", "b"]


def source(spec: dg.AssetSpec) -> dg.AssetsDefinition:
    """An observable source; whatever observes it here reports by hand."""

    @dg.multi_observable_source_asset(name=f"observe_{spec.key.to_user_string()}", specs=[spec])
    def observed() -> Iterator[dg.ObserveResult]:
        yield from ()

    return observed


@dg.asset(partitions_def=SHARDS, deps=["listed", "whole_list"], code_version="1")
def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(context.partition_key))


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)
    SOURCES = [source(dg.AssetSpec("listed", partitions_def=SHARDS)), source(dg.AssetSpec("whole_list"))]
DEFS = dg.Definitions(assets=[*SOURCES, table])


def observe(instance: dg.DagsterInstance, asset: str, version: str, partition: str | None = None) -> None:
    tags = {"dagster/data_version": version}
    instance.report_runless_asset_event(dg.AssetObservation(asset, partition=partition, tags=tags))


def make(instance: dg.DagsterInstance, storage: Storage, shard: str) -> None:
    job = DEFS.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        asset_selection=[dg.AssetKey("table")], partition_key=shard, instance=instance
    ).success
    storage.write_bytes(f"table/{shard}.parquet", b"never opened")


def needs(instance: dg.DagsterInstance, storage: Storage) -> dict[str, str]:
    """Why each shard is needed, where Dagster's resolver says so, too."""
    graph = DEFS.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, Loading(instance))
    staleness = Staleness(instance, graph, storage, log=EventLog(instance))
    found = {shard: staleness.need("table", shard) for shard in NAMES}
    for shard, why in found.items():
        assert (resolver.get_status(dg.AssetKey("table"), shard) == StaleStatus.FRESH) is not bool(why)
    together = staleness.facts(["table"], NAMES)
    assert together.records.keys() >= {("table", "a"), ("listed", "a"), ("whole_list", None)}
    return found


def test_an_observed_change_touches_its_own_shard(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shards", NAMES)
        for shard in NAMES:
            observe(instance, "listed", "nothing", shard)
        observe(instance, "whole_list", "v1")
        for shard in NAMES:
            make(instance, storage, shard)
        assert needs(instance, storage) == {"a": "", "b": ""}
        observe(instance, "listed", "nothing", "a")
        assert needs(instance, storage) == {"a": "", "b": ""}, "observed again, and the same"
        observe(instance, "listed", "one entry", "b")
        assert needs(instance, storage) == {"a": "", "b": "has a new dependency data version: listed"}
        observe(instance, "listed", "nothing", "b")
        assert needs(instance, storage) == {"a": "", "b": ""}, "taken back before anything was made"
        observe(instance, "listed", "one entry", "b")
        make(instance, storage, "b")
        assert needs(instance, storage) == {"a": "", "b": ""}
        observe(instance, "whole_list", "v2")
        why = "has a new dependency data version: whole_list"
        assert needs(instance, storage) == {"a": why, "b": why}
