"""Sensors and schedule on a real instance: new files become shards with a run, failures leave a record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import dagster as dg

from tests.got_core.corpus.published import notification, objects, publish

from .conftest import Graph


def tick(graph: Graph, name: str, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """Evaluate a sensor once and, as the daemon does, add the partitions that it asks for."""
    sensor = graph.run.defs.resolve_sensor_def(name)
    context = dg.build_sensor_context(
        graph.instance,
        cursor=cursor,
        repository_def=graph.run.defs.get_repository_def(),
        resources={"project": graph.project},
    )
    found = sensor(context)
    for request in getattr(found, "dynamic_partitions_requests", None) or []:
        graph.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return found


def shards_of(found: dg.SensorResult | dg.SkipReason) -> list[str | None]:
    assert isinstance(found, dg.SensorResult), found
    return [request.partition_key for request in found.run_requests or []]


def test_an_empty_place_is_skipped(graph: Graph) -> None:
    for name in ("watch_raw_images", "watch_edit_pairs"):
        found = tick(graph, name)
        assert isinstance(found, dg.SkipReason) and "yet" in str(found.skip_message)
    assert graph.instance.get_dynamic_partitions("image_shards") == []


def test_new_files_become_shards_once(graph: Graph) -> None:
    graph.render()
    first = tick(graph, "watch_raw_images")
    assert shards_of(first) == ["images-00000", "images-00001"]
    assert first.cursor == "images-00001"
    assert graph.instance.get_dynamic_partitions("image_shards") == ["images-00000", "images-00001"]
    assert isinstance(tick(graph, "watch_raw_images", first.cursor), dg.SkipReason)

    shutil.copy(next((graph.raw / "set-00").iterdir()), graph.raw / "another.png")
    second = tick(graph, "watch_raw_images", first.cursor)
    assert shards_of(second) == ["images-00002"]
    assert second.cursor == "images-00002"
    assert [request.run_key for request in second.run_requests] == ["prepare_images:images-00002"]


def test_inventories_and_events_become_shards(
    load: Callable[..., Graph], s3_server: Any, tmp_path: Path
) -> None:
    bucket, raw = s3_server.bucket, tmp_path / "inputs.toml"
    client = boto3.client("s3", endpoint_url=s3_server.url)
    raw.write_text(
        f'[web]\nraw = "s3://{bucket}/raw"\ninventory = "s3://{bucket}/inv/{bucket}/daily"\n'
        f'events = "s3://{bucket}/events/"\n'
    )
    graph = load(raw=str(raw), s3_endpoint=s3_server.url)
    found = tick(graph, "watch_raw_images")
    assert isinstance(found, dg.SkipReason) and "no whole inventory" in str(found.skip_message)
    client.put_object(Bucket=bucket, Key="raw/1.png", Body=b"1")
    publish(client, bucket, [objects(client, bucket)])
    first = tick(graph, "watch_raw_images")
    assert shards_of(first) == ["images-00000"]
    client.put_object(Bucket=bucket, Key="raw/2.png", Body=b"2")
    new = objects(client, bucket, "raw/2")
    client.put_object(Bucket=bucket, Key="events/1", Body=json.dumps(notification(bucket, *new)).encode())
    second = tick(graph, "watch_raw_images", first.cursor)
    assert shards_of(second) == ["images-00001"]
    assert graph.storage.read_table("shards/images-00001")["path"].to_list() == ["web://2.png"]


def test_edit_pairs_become_shards(graph: Graph) -> None:
    graph.render()
    assert shards_of(tick(graph, "watch_edit_pairs")) == ["edits-00000"]
    assert graph.instance.get_dynamic_partitions("edit_shards") == ["edits-00000"]


def test_a_lost_cursor_does_not_make_everything_again(graph: Graph) -> None:
    graph.render()
    graph.make_data()
    found = tick(graph, "watch_raw_images", cursor=None)
    assert isinstance(found, dg.SkipReason)


def test_the_run_that_a_sensor_asks_for_makes_the_shard(graph: Graph) -> None:
    graph.render()
    found = tick(graph, "watch_raw_images")
    job = graph.run.defs.resolve_job_def("prepare_images")
    for shard in shards_of(found):
        result = job.execute_in_process(
            instance=graph.instance, partition_key=shard, run_config=graph.run.QUIET
        )
        assert result.success
    assert graph.storage.list("t2i_selection/") == [
        "t2i_selection/images-00000.parquet",
        "t2i_selection/images-00001.parquet",
    ]
    assert graph.make_data()["images-00000"] == [], "what the daemon made is up to date for `make run`"


def test_a_failed_run_leaves_a_record(graph: Graph) -> None:
    graph.render()
    graph.instance.add_dynamic_partitions("image_shards", ["images-00007"])
    job = graph.run.defs.resolve_job_def("prepare_images")
    result = job.execute_in_process(
        instance=graph.instance,
        partition_key="images-00007",
        raise_on_error=False,
        run_config=graph.run.QUIET,
    )
    assert not result.success
    failure = next(event for event in result.all_events if event.event_type_value == "PIPELINE_FAILURE")
    context = dg.build_run_status_sensor_context(
        sensor_name="record_failures",
        dagster_event=failure,
        dagster_instance=graph.instance,
        dagster_run=graph.instance.get_run_by_id(result.run_id),
        resources={"project": graph.project},
    ).for_run_failure()
    graph.run.defs.resolve_sensor_def("record_failures")(context)

    record = graph.storage.read_json(f"failures/{result.run_id}.json")
    assert (record["job"], record["partition"]) == ("prepare_images", "images-00007")
    assert record["steps"] == ["raw_images"]
    assert "shards/images-00007.parquet does not exist" in record["error"]


def test_the_schedule_asks_for_a_model_when_there_is_none(graph: Graph) -> None:
    schedule = graph.run.defs.resolve_schedule_def("retrain_weekly")
    # A schedule's context opens the instance again, so it has to be one on disk.
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(
            instance,
            repository_def=graph.run.defs.get_repository_def(),
            resources={"project": graph.project},
        ) as context,
    ):
        found = schedule(context)
    assert isinstance(found, dg.RunRequest)
    assert "training_manifest: missing" in found.tags["got/why"]
