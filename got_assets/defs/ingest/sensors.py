"""Sensors: new raw files become new shards, and failed runs leave a record."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from got_assets.defs.ingest.jobs import prepare_edits, prepare_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.project import Project

EVERY = 300


@dg.sensor(job=prepare_images, minimum_interval_seconds=EVERY)
def watch_raw_images(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.SensorResult | dg.SkipReason:
    """Looks through the raw folder (or bucket prefix, archives, tables); what no shard lists yet becomes new
    shards with a run each. A large bucket is looked through in several ticks. Off until switched on."""
    from got_core.corpus.sweep import sweep_step

    url = project.settings.raw_url
    try:
        names = sweep_step(project.storage, url, project.recipe.ingest, project.settings.fs_options(url))
    except (FileNotFoundError, NotADirectoryError) as error:
        return dg.SkipReason(f"no raw images yet: {error}")
    return _new_shards(context, IMAGE_SHARDS, names, "prepare_images")


@dg.sensor(job=prepare_edits, minimum_interval_seconds=EVERY)
def watch_edit_pairs(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.SensorResult | dg.SkipReason:
    """Reads the pair table; rows that no shard lists yet become new shards with a run each. Off until
    switched on."""
    from got_core.corpus.shards import assign_edit_shards

    url = project.settings.edits_url
    if url is None:
        return dg.SkipReason("no table of edit pairs is configured (GOT_EDITS)")
    try:
        names = assign_edit_shards(
            project.storage, url, project.recipe.ingest, project.settings.fs_options(url)
        )
    except FileNotFoundError as error:
        return dg.SkipReason(f"no edit pairs yet: {error}")
    return _new_shards(context, EDIT_SHARDS, names, "prepare_edits")


def _new_shards(
    context: dg.SensorEvaluationContext,
    partitions: dg.DynamicPartitionsDefinition,
    names: list[str],
    job: str,
) -> dg.SensorResult | dg.SkipReason:
    """Partitions and runs for shards behind the cursor (the last shard seen) that are no partition yet."""
    cursor = context.cursor or ""
    known = set(context.instance.get_dynamic_partitions(str(partitions.name)))
    new = [name for name in names if name > cursor and name not in known]
    last = max([cursor, *names])
    if not new:
        context.update_cursor(last)
        return dg.SkipReason(f"{len(names)} shards, none of them new")
    requests = [dg.RunRequest(run_key=f"{job}:{name}", partition_key=name) for name in new]
    return dg.SensorResult(
        run_requests=requests, dynamic_partitions_requests=[partitions.build_add_request(new)], cursor=last
    )


@dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.RUNNING)
def record_failures(context: dg.RunFailureSensorContext, project: dg.ResourceParam[Project]) -> None:
    """Writes what failed, where and why to `failures/<run id>.json` in the storage, and to the log."""
    record = failure_record(context)
    project.storage.write_json(f"failures/{context.dagster_run.run_id}.json", record)
    context.log.error(f"{record['job']} {record['partition'] or ''} failed: {record['error']}")


def failure_record(context: dg.RunFailureSensorContext) -> dict[str, object]:
    """Job, partition, failed steps and the first line of the error, as plain JSON."""
    run = context.dagster_run
    steps = context.get_step_failure_events()
    errors = [step.event_specific_data.error for step in steps if step.event_specific_data]  # type: ignore[union-attr]
    first = next((error for error in errors if error is not None), None)
    text = (first.cause or first).message if first else context.failure_event.message or ""
    return {
        "run_id": run.run_id,
        "job": run.job_name,
        "partition": run.tags.get("dagster/partition"),
        "assets": sorted(key.to_user_string() for key in run.asset_selection or ()),
        "steps": [step.step_key for step in steps],
        "error": text.strip(),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
    }
