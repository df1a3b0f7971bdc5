"""A second `got run` over shards that are all made: 900 against 3, seconds and queries to the event log.

Shards are of one tiny file each, and were "made" by events in a real SQLite instance that are as those of a
run: code and data versions, versions and numbers of inputs (lists that people keep among them), thumbnails
of 45 KB for the three tables that had them once, evaluations of checks. BENCH_SHARDS sets the 900; making
them is not measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHARDS = int(os.environ.get("BENCH_SHARDS", "900"))
FEW = 3
WITH_PICTURES = ("raw_images", "captions", "boxes")
_HERE = "bench.bench_second_run"


def main() -> dict[str, float | str]:
    """Seconds and queries of both, and what the many shards add."""
    found = {}
    for count in (FEW, SHARDS):
        with tempfile.TemporaryDirectory() as home:
            _process(home, count, "make")
            looks = [_process(home, count, "look").split() for _ in range(2)]
            seconds, work = (min(float(look[place]) for look in looks) for place in (0, 1))
            found[count] = seconds, work, int(looks[0][2])
    (few_seconds, few_work, few_queries), (seconds, work, queries) = found[FEW], found[SHARDS]
    return {
        f"{FEW} shards, seconds": few_seconds,
        f"{SHARDS} shards, seconds": seconds,
        "added, seconds": seconds - few_seconds,
        "added, CPU seconds": work - few_work,
        "added, CPU milliseconds a shard": 1000 * (work - few_work) / (SHARDS - FEW),
        f"queries, {FEW} and {SHARDS} shards": f"{few_queries} and {queries}",
    }


def _process(home: str, count: int, step: str) -> str:
    """A process of its own, as a run is; the last line that it prints."""
    raw = Path(home) / "raw"
    names = {"GOT_HOME": f"{home}/home", "GOT_RAW": str(raw), "GOT_RECIPE": "tiny", "GOT_ANNOTATOR": "scenes"}
    raw.mkdir(exist_ok=True)
    code = f"from {_HERE} import {step}; {step}({count})"
    command, environment = [sys.executable, "-c", code], {**os.environ, **names}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def small_shards() -> None:
    """The tiny recipe with shards of one picture."""
    from dataclasses import replace

    from got_core import recipes

    tiny = recipes.tiny()
    ingest = replace(tiny.ingest, image_shard_size=1)
    recipes.RECIPES["tiny"] = lambda: replace(tiny, ingest=ingest)


def make(count: int) -> None:
    """Shards, and the events of runs that made them, in one transaction of the index that queries read."""
    small_shards()
    import dagster as dg

    from got_assets import run
    from got_assets.home import prepare_dagster_home

    raw = Path(run.PROJECT.settings.raw_url)
    for number in range(count):
        (raw / f"{number:05d}.png").write_bytes(b"never opened %05d" % number)
    prepare_dagster_home(run.PROJECT)
    with dg.DagsterInstance.get() as instance:
        shards, _ = run.assign_shards(run.PROJECT, instance)
        lists = observed_lists(instance)
        storage: Any = instance.event_log_storage
        with storage.index_connection() as connection:
            for shard in shards:
                made_shard(storage, connection, shard, lists)
    for shard in shards:
        for asset in run.IMAGE_STEPS:
            run.PROJECT.storage.write_bytes(f"{asset}/{shard}.parquet", b"never opened")
    print(len(shards))


def observed_lists(instance: Any) -> dict[str, dict[str, Any]]:
    """What was seen of each list that the steps read, by shard."""
    from got_assets import run
    from got_assets.event_log import EventLog
    from got_assets.staleness import graph_nodes

    nodes = graph_nodes(run.defs.resolve_asset_graph())
    parents = {parent for asset in run.IMAGE_STEPS for parent in nodes[asset].parents}
    log = EventLog(instance)
    return {one: log.partitions(one, observed=True) for one in parents if nodes[one].external}


def made_shard(storage: Any, connection: Any, shard: str, lists: dict[str, dict[str, Any]]) -> None:
    """Events of all steps of one shard, each with its checks."""
    from dagster._core.utils import make_new_run_id

    from got_assets import run

    run_id = make_new_run_id()
    numbers = {name: found[shard].number for name, found in lists.items()}
    versions = {name: found[shard].data_version for name, found in lists.items()}
    for asset in run.IMAGE_STEPS:
        entry = _entry(asset, shard, run_id, numbers, versions)
        numbers[asset] = connection.execute(storage.prepare_insert_event(entry)).inserted_primary_key[0]
        storage._store_asset_event_tags(connection, [entry], [numbers[asset]])
        storage._store_asset_event(connection, entry, numbers[asset])
        _insert_checks(connection, asset, shard, numbers[asset], run_id)


def _entry(asset: str, shard: str, run_id: str, numbers: dict[str, int], versions: dict[str, Any]) -> Any:
    import dagster as dg
    from dagster._core.definitions.data_version import DATA_VERSION_TAG
    from dagster._core.events import DagsterEvent, StepMaterializationData
    from dagster._core.events.log import EventLogEntry

    from got_assets import run
    from got_assets.needs import partition_digest
    from got_assets.staleness import graph_nodes

    node = graph_nodes(run.defs.resolve_asset_graph())[asset]
    tags = {DATA_VERSION_TAG: f"{asset}-{shard}", "dagster/code_version": node.code_version or ""}
    for parent in node.parents:
        version = versions.get(parent, f"{parent}-{shard}")
        tags[f"dagster/input_data_version/{parent}"] = partition_digest([version])
        tags[f"dagster/input_event_pointer/{parent}"] = str(numbers[parent])
    counts = {"rows_in": 1, "rows_out": 1, "rows_rejected": 0, "seconds": 0.1}
    pictures = {"pictures": dg.MetadataValue.md("x" * 45_000)} if asset in WITH_PICTURES else {}
    made = dg.AssetMaterialization(asset, partition=shard, tags=tags, metadata={**counts, **pictures})
    event = DagsterEvent(
        event_type_value="ASSET_MATERIALIZATION",
        job_name="bench",
        step_key=asset,
        event_specific_data=StepMaterializationData(made),
    )
    return EventLogEntry(
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        step_key=asset,
        job_name="bench",
        dagster_event=event,
    )


def _insert_checks(connection: Any, asset: str, shard: str, number: int, run_id: str) -> None:
    import dagster as dg
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable

    from got_assets import run

    for key in run.defs.resolve_asset_graph().get_check_keys_for_assets({dg.AssetKey(asset)}):
        row = {
            "asset_key": key.asset_key.to_string(),
            "check_name": key.name,
            "partition": shard,
            "run_id": run_id,
            "execution_status": "SUCCEEDED",
            "evaluation_event": "never read",
            "evaluation_event_storage_id": number,
            "materialization_event_storage_id": number,
        }
        connection.execute(AssetCheckExecutionsTable.insert().values(row))


def look(count: int) -> None:
    """What a run does that finds nothing to do among shards; prints seconds, CPU seconds and queries."""
    small_shards()
    import dagster as dg
    import sqlalchemy

    from got_assets import run
    from got_assets.home import prepare_dagster_home
    from got_assets.run_report import print_stages
    from got_assets.workers import Workers

    queries = [0]

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def counted(*_: Any) -> None:
        queries[0] += 1

    prepare_dagster_home(run.PROJECT)
    with dg.DagsterInstance.get() as instance:
        started, begun, before = time.perf_counter(), time.process_time(), queries[0]
        runner = run.Runner(run.PROJECT, instance)
        images, edits = run.assign_shards(run.PROJECT, instance)
        with Workers(instance.get_ref, 1) as workers:
            again = run.urls_to_ask_again(runner, images)
            run.bring_shards_up_to_date(runner, workers, {run.IMAGE_STEPS[:1]: images}, again)
            run.annotate(runner, workers, images, edits)
        print_stages(runner.log, runner.nodes, set(runner.outcomes))
        seconds, work = time.perf_counter() - started, time.process_time() - begun
        asked = queries[0] - before
    assert len(runner.outcomes) == count, runner.outcomes
    assert not any(one.made or one.error or one.blocked for one in runner.outcomes.values())
    print(seconds, work, asked)
