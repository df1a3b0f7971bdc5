"""Reading the event log: as many queries for many shards as for some, and every event once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
import sqlalchemy

from .conftest import Graph

CHAIN = ("raw_images", "captions", "entities")


@contextmanager
def counted() -> Iterator[list[str]]:
    """Statements that any engine executes meanwhile."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def report(instance: dg.DagsterInstance, graph: Graph, shards: range) -> list[str]:
    """Shards whose first tables somebody reports as made, and stored."""
    names = [f"images-{number:05d}" for number in shards]
    instance.add_dynamic_partitions("image_shards", names)
    for name in names:
        for asset in CHAIN:
            tags = {"dagster/data_version": f"{asset} of {name}"}
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset, partition=name, tags=tags, metadata={"rows_in": 2})
            )
            graph.storage.write_bytes(f"{asset}/{name}.parquet", b"never opened")
    return names


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:
        yield found


def test_queries_do_not_grow_with_the_shards(graph: Graph, instance: dg.DagsterInstance) -> None:
    staleness = graph.run.Staleness(instance, graph.run.defs.resolve_asset_graph(), graph.storage)
    asked = []
    shards: list[str] = []
    for more in (range(30), range(30, 75)):
        shards += report(instance, graph, more)
        with counted() as statements:
            facts = staleness.facts(CHAIN, shards)
        asked.append(len(statements))
        assert len(facts.records) == len(facts.stored) == 3 * len(shards)
    assert asked[1] <= asked[0], "known events are not read again"


def test_an_event_is_read_once(graph: Graph, instance: dg.DagsterInstance) -> None:
    from got_assets.event_log import EventLog

    shards, log = report(instance, graph, range(25)), EventLog(instance)
    first = log.partitions("captions", shards)
    with counted() as statements:
        again = log.partitions("captions", shards)
    assert again == first and not any("event_logs.event" in one for one in statements)
    instance.report_runless_asset_event(
        dg.AssetMaterialization("captions", partition=shards[3], tags={"dagster/data_version": "new"})
    )
    now = log.partitions("captions", shards)
    assert now[shards[3]].data_version == "new" and now[shards[3]].by_hand
    assert {name for name in shards if now[name] != first[name]} == {shards[3]}
    assert now[shards[0]].figures == {"rows_in": 2}


def test_few_shards_among_many_are_read_alone(graph: Graph, instance: dg.DagsterInstance) -> None:
    from got_assets.event_log import EventLog

    shards = report(instance, graph, range(25))
    found = EventLog(instance).partitions("captions", [shards[7], "images-99999"])
    assert list(found) == [shards[7]]
    assert EventLog(instance).versions("captions", [shards[7]]) == {shards[7]: f"captions of {shards[7]}"}
