"""The pure function against Dagster's own resolver, on real histories of the data part."""

from __future__ import annotations

import dataclasses

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContext

from got_core import recipes

from .conftest import Graph


class Loading(LoadingContext):
    """What the resolver wants for its caches."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._loaders = instance, {}  # type: ignore[var-annotated]

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict:
        return self._loaders


def differences(graph: Graph) -> dict[str, tuple[str, str]]:
    """Where Dagster and `needs` differ on whether a shard's asset, or the manifest, is out of date."""
    run, asset_graph = graph.run, graph.run.defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(graph.instance, asset_graph, Loading(graph.instance))
    places = [(asset, None) for asset in ("training_plan", "taken_down", "training_manifest")]
    for steps, shards in ((run.IMAGE_STEPS, run.IMAGE_SHARDS), (run.EDIT_STEPS, run.EDIT_SHARDS)):
        names = graph.instance.get_dynamic_partitions(shards.name)
        places += [(asset, name) for asset in steps for name in names]
    staleness = run.Staleness(graph.instance, asset_graph, graph.storage)
    found = {}
    for asset, partition in places:
        theirs = resolver.get_status(dg.AssetKey(asset), partition)
        ours = staleness.need(asset, partition)
        expected = {StaleStatus.MISSING: ours == "missing", StaleStatus.FRESH: not ours}
        if not expected.get(theirs, bool(ours) and ours != "missing"):
            found[f"{asset}/{partition}"] = (theirs.value, ours)
    return found


def report(graph: Graph, asset: str, partition: str | None, version: str) -> None:
    graph.instance.report_runless_asset_event(
        dg.AssetMaterialization(asset, partition=partition, tags={"dagster/data_version": version})
    )


@pytest.mark.slow
def test_dagster_and_the_function_agree(load, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load()
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    assert differences(graph) == {}
    graph.make("raw_images", "captions", partition="images-00000")
    assert differences(graph) == {}
    graph.make_data()
    graph.make("training_plan")
    graph.make("training_manifest")
    assert differences(graph) == {}
    kept = graph.instance.get_latest_data_version_record(
        dg.AssetKey("captions"), partition_key="images-00001"
    )
    same = kept.asset_materialization.tags["dagster/data_version"]
    report(graph, "captions", "images-00001", same)
    assert differences(graph) == {}, "made again with the same content"
    report(graph, "entities", "images-00000", "another")
    report(graph, "edit_pairs", "edits-00000", "another")
    assert differences(graph) == {}
    graph.make("entities", "boxes", partition="images-00000")
    assert differences(graph) == {}
    stricter = dataclasses.replace(
        recipes.tiny(), curate=dataclasses.replace(recipes.tiny().curate, max_boxes=1)
    )
    monkeypatch.setitem(recipes.RECIPES, "stricter", lambda: stricter)
    changed = load(recipe="stricter")
    assert differences(changed) == {}
    changed.make_data()
    assert differences(changed) == {}
