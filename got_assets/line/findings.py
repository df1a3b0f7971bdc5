"""What is wrong with the line at a moment, and runs that have failed.

Belongs here: from figures to sentences. Not here: reading figures (`state`), what of it is news
(`got_core.alerts.finding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG, WILL_RETRY_TAG

from got_assets.line.state import STOPPED, STUCK, Line, Shard
from got_core.alerts.finding import FIRING, Finding, Message
from got_core.redacted import redacted_url
from got_core.watch_settings import AlertSettings

FAILED_RUNS = "failed_runs"
_GB = 1e9
_NAMED = 3
_TEXT = 300
"""Characters of an error in a message."""
_AT_ONCE = 500
_OVERLAP = timedelta(seconds=60)
"""Runs whose end is written late, with a time before that of others."""


def findings(line: Line, settings: AlertSettings) -> Iterator[Finding]:
    """What is wrong, one finding a kind (and budget, disk, benchmark)."""
    yield from _shards(
        line, STUCK, "failed again and again",
        "Look at the failed runs of these shards in Dagster; what is not mended is tried every six hours.",
    )  # fmt: skip
    yield from _shards(
        line, STOPPED, "stopped by a failed check",
        "Look at the reasons on the page of the table; mend the input, or leave these shards out.",
    )  # fmt: skip
    for budget in line.budgets:
        if budget.taken >= settings.budget_share * budget.limit:
            yield Finding(
                key=f"budget_{budget.unit}",
                summary=f"{budget.taken:,.6g} of {budget.limit:,.6g} {budget.unit} of today (UTC) are taken",
                advice="Annotation pauses when the rest is taken, until midnight UTC or with a higher "
                "GOT_ANNOTATOR_BUDGET_PER_DAY or GOT_ANNOTATOR_BUDGET_TOKENS_PER_DAY.",
            )
    for place, free in line.disks.items():
        if free < settings.disk_gb * _GB:
            yield Finding(
                key=f"disk_{place}",
                summary=f"{free / _GB:.1f} GB are free on the disk of {place}",
                advice="`got gc` shows what nothing names any more.",
            )
    for benchmark, note in line.canaries.items():
        yield Finding(
            key=f"canary_{benchmark.replace('/', '_')}",
            summary=f"{benchmark}: {note}",
            advice="Scores from before and after are not comparable: see that the judge is the same model.",
        )


def _shards(line: Line, state: str, words: str, advice: str) -> Iterator[Finding]:
    found = [one for one in line.shards if one.state == state]
    if found:
        shown = "; ".join(_spelled(one) for one in found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        yield Finding(
            key=f"{state}_shards", summary=f"{len(found)} shards {words}: {shown}{more}", advice=advice
        )


def _spelled(shard: Shard) -> str:
    return f"{shard.name}: {redacted_url(shard.why)[:_TEXT]}"


def failed_runs(
    instance: dg.DagsterInstance, since: float, known: Sequence[str]
) -> tuple[Message | None, float, list[str]]:
    """One message about all runs that have failed since a moment (seconds since 1970), or None.

    Returns the moment to begin at next, and ids that then are known: times of a store are those at which a
    change was written, and not in the order in which changes are seen. Runs that Dagster starts again by
    itself are left out.
    """
    after = datetime.fromtimestamp(since, UTC) - _OVERLAP
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after)
    records = instance.get_run_records(filters, limit=_AT_ONCE, ascending=True)
    new = [one for one in records if one.dagster_run.run_id not in known]
    told = [one for one in new if one.dagster_run.tags.get(WILL_RETRY_TAG) != "true"]
    until = max([since, *(one.update_timestamp.timestamp() for one in records)])
    message = _failed(instance, told) if told else None
    return message, until, [one.dagster_run.run_id for one in records]


def _failed(instance: dg.DagsterInstance, records: Sequence[RunRecord]) -> Message:
    shown = "; ".join(_run(instance, one) for one in records[:_NAMED])
    more = f"; and {len(records) - _NAMED} more" if len(records) > _NAMED else ""
    many = f"{len(records)} runs" if len(records) > 1 else "a run"
    return Message(
        state=FIRING, key=FAILED_RUNS, summary=f"{many} failed: {shown}{more}",
        advice="Dagster's page of the run has the whole error; failures/ in the storage records each.",
    )  # fmt: skip


def _run(instance: dg.DagsterInstance, record: RunRecord) -> str:
    run = record.dagster_run
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = [one.event_log_entry.get_dagster_event() for one in failures]
    errors = [one.step_failure_data.error for one in events]
    first = next((error for error in errors if error is not None), None)
    text = (first.cause or first).message if first else "it was ended from outside"
    place = f" {partition}" if (partition := run.tags.get(PARTITION_NAME_TAG)) else ""
    said = redacted_url(" ".join(text.split()))[:_TEXT]
    return f"{run.job_name}{place} ({run.run_id[:8]}): {said}"
