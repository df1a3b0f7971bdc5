"""The daemon does with shards what `got run` does: whatever is needed of one is made in one run.

Belongs here: the sensor that asks `needs` and requests runs, how many, and when again after a run that came
to nothing. Not here: what is needed (`needs`), finding new raw files (`sensors`).

A sensor and not automation conditions: a condition is asked about one asset at a time, and would read for
each what is read here once for all; what one run can make follows from a shard's assets together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG, SENSOR_NAME_TAG

from got_assets.defs.ingest.jobs import EDIT_STEPS, IMAGE_STEPS, prepare_edits, prepare_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.event_log import TO_RETRY
from got_assets.needs import NEEDS_TAG, content_digest, needed, next_batch
from got_assets.pauses import ASKING_GROUP, Pause, pause_of
from got_assets.pools import shards_at_once
from got_assets.project import Project
from got_assets.staleness import Staleness, graph_nodes

EVERY = 60
ASKS_TAG = "got/asks"
"""Tag of a run that asks the annotator."""

FIRST_WAIT, LONGEST_WAIT = 300.0, 6 * 3600.0
"""Seconds until the same is tried again after a run that came to nothing: the first, doubled each time."""

_AT_ONCE = 2
"""Runs under way or in the queue, for each shard that is worked on at once."""

_LOOKED_AT = 20
"""Latest runs that say whether something cannot be asked."""

_LINES = (
    (prepare_images.name, IMAGE_STEPS, IMAGE_SHARDS),
    (prepare_edits.name, EDIT_STEPS, EDIT_SHARDS),
)


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a shard needs next."""

    job: str
    shard: str
    assets: tuple[str, ...]
    why: str
    digest: str
    asks: bool
    """Whether it needs the annotator."""


@dataclass(frozen=True, kw_only=True)
class Standstill:
    """A pause as the latest runs show it."""

    pause: Pause
    since: float
    """End of the last run that met it, in seconds since 1970."""

    times: int
    """Runs in a row that met it."""


def _urls_again(job: str, shard: str, asset: str, count: int) -> Need:
    """That a shard asks for its URLs again; as the same each time, so that it waits longer and longer."""
    why, digest = f"{count} URLs to ask again", f"urls-{shard}"
    return Need(job=job, shard=shard, assets=(asset,), why=why, digest=digest, asks=False)


@dg.sensor(jobs=[prepare_images, prepare_edits], minimum_interval_seconds=EVERY)
def keep_shards_up_to_date(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.SensorResult | dg.SkipReason:
    """Asks what every shard needs: missing tables, changed prompts, rules, reviews and code, checks that did
    not run, URLs that failed for a reason that may pass. Each shard gets one run for all that can be made
    now.

    What a run did not make is tried again after five minutes, and then at longer intervals. While the
    annotator or the store cannot be asked, one shard at a time tries. Off until switched on.
    """
    assert context.repository_def is not None
    upkeep = Upkeep(context.instance, context.repository_def, project)
    requests, words = upkeep.requests(time.time())
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(words)


class Upkeep:
    """What to request at one moment."""

    def __init__(
        self, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, project: Project
    ) -> None:
        self._instance, self._graph, self._project = instance, repository.asset_graph, project
        asking = dg.AssetSelection.groups(ASKING_GROUP).resolve(self._graph)
        self._asking = frozenset(key.to_user_string() for key in asking)

    def requests(self, now: float) -> tuple[list[dg.RunRequest], str]:
        """Runs to request (``now``: seconds since 1970), and words for there being none."""
        open_runs = self._instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
        stands = standstill(self._latest())
        if stands:
            open_runs = self._without_waiting(open_runs, stands.pause)
        ours = [run for run in open_runs if NEEDS_TAG in run.tags]
        runs = _AT_ONCE * shards_at_once(self._project.settings) - len(ours)
        busy = {run.tags[PARTITION_NAME_TAG] for run in open_runs if PARTITION_NAME_TAG in run.tags}
        found = [one for one in self.needs(stands.pause if stands else None) if one.shard not in busy]
        chosen = self._ready(found, now, _room(runs, stands, ours, now))
        words = f"{len(found)} shards need something" if found else "all shards are up to date"
        words += f", {len(busy)} are worked on" if busy else ""
        words += f"; paused: {stands.pause.message}" if stands else ""
        return chosen, words

    def needs(self, paused: Pause | None = None) -> Iterator[Need]:
        """What each shard needs next that can be made in one run; while paused, also what waits for it."""
        nodes = graph_nodes(self._graph)
        staleness = Staleness(self._instance, self._graph, self._project.storage)
        without = self._asking if paused and paused.what == "annotator" else frozenset()
        for job, steps, partitions in _LINES:
            shards = self._instance.get_dynamic_partitions(str(partitions.name))
            facts = staleness.facts(steps, shards)
            for shard in sorted(shards):
                states = needed(facts, steps, shard)
                batch = next_batch(nodes, states, without) or next_batch(nodes, states)
                ingested = facts.records.get((steps[0], shard))
                if not batch and ingested and (count := ingested.figures.get(TO_RETRY)):
                    yield _urls_again(job, shard, steps[0], int(count))
                elif batch:
                    why = "; ".join(dict.fromkeys(one.why for one in states if one.key in batch))
                    yield Need(
                        job=job,
                        shard=shard,
                        assets=tuple(batch),
                        why=why,
                        digest=content_digest(facts, batch, shard),
                        asks=bool(self._asking.intersection(batch)),
                    )

    def _ready(self, found: Sequence[Need], now: float, room: _Room) -> list[dg.RunRequest]:
        """Requests for what does not have to wait, as far as there is room."""
        chosen: list[dg.RunRequest] = []
        for one in found:
            if room.runs < 1:
                break
            tries = self._tries(one)
            ended = [record.end_time for record in tries if record.start_time and record.end_time]
            wait = min(FIRST_WAIT * 2 ** (len(ended) - 1), LONGEST_WAIT) if ended else 0.0
            if not (ended and now - max(ended) < wait) and room.take(one.asks):
                chosen.append(_request(one, len(tries)))
        return chosen

    def _tries(self, one: Need) -> Sequence[RunRecord]:
        """Finished runs that were to make the same from the same."""
        filters = dg.RunsFilter(tags={NEEDS_TAG: one.digest}, statuses=list(FINISHED_STATUSES))
        return self._instance.get_run_records(filters)

    def _latest(self) -> Iterator[tuple[RunRecord, Pause | None]]:
        """The latest finished runs of this sensor, newest first, with what they could not ask."""
        filters = dg.RunsFilter(
            tags={SENSOR_NAME_TAG: keep_shards_up_to_date.name},
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        )
        for record in self._instance.get_run_records(filters, limit=_LOOKED_AT):
            failed = record.dagster_run.status == dg.DagsterRunStatus.FAILURE
            yield record, self._pause(record.dagster_run.run_id) if failed else None

    def _pause(self, run_id: str) -> Pause | None:
        failures = self._instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.STEP_FAILURE
        ).records
        events = (record.event_log_entry.get_dagster_event() for record in failures)
        errors = (event.step_failure_data.error for event in events)
        return next(filter(None, (pause_of(error) for error in errors if error)), None)

    def _without_waiting(self, runs: Sequence[dg.DagsterRun], pause: Pause) -> list[dg.DagsterRun]:
        """Take this sensor's runs out of the queue that would meet the same; returns those that are left."""
        left = []
        for run in runs:
            asks = NEEDS_TAG in run.tags and (pause.what == "store" or ASKS_TAG in run.tags)
            if asks and run.status == dg.DagsterRunStatus.QUEUED:
                self._instance.run_coordinator.cancel_run(run.run_id)
            else:
                left.append(run)
        return left


def standstill(latest: Iterator[tuple[RunRecord, Pause | None]]) -> Standstill | None:
    """Whether the latest runs, newest first, say that something cannot be asked.

    A run that went well says that the store can be, and one that asked the annotator that both can; one that
    failed for a reason of its own says nothing.
    """
    found: Standstill | None = None
    store_answers = False
    for record, pause in latest:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            store_answers = True
            if ASKS_TAG in record.dagster_run.tags or (found and found.pause.what == "store"):
                break
        elif pause and not (pause.what == "store" and store_answers):
            first = found or Standstill(pause=pause, since=record.end_time or 0.0, times=0)
            found = replace(first, times=first.times + 1)
    return found


@dataclass
class _Room:
    """How many runs may still be requested; while paused, one that tries."""

    runs: int
    that_ask: int

    def take(self, asks: bool) -> bool:
        """Whether there is room for one more, which then is taken."""
        if self.runs < 1 or (asks and self.that_ask < 1):
            return False
        self.runs -= 1
        self.that_ask -= asks
        return True


def _room(runs: int, stands: Standstill | None, ours: Sequence[dg.DagsterRun], now: float) -> _Room:
    if stands is None:
        return _Room(runs, runs)
    wait = min(FIRST_WAIT * 2 ** (stands.times - 1), LONGEST_WAIT)
    tried = any(stands.pause.what == "store" or ASKS_TAG in run.tags for run in ours)
    one = 0 if tried or now - stands.since < wait else min(1, runs)
    return _Room(one, one) if stands.pause.what == "store" else _Room(runs, one)


def _request(one: Need, tries: int) -> dg.RunRequest:
    tags = {NEEDS_TAG: one.digest, "got/why": one.why[:200]}
    return dg.RunRequest(
        run_key=f"{one.shard}:{one.digest}:{tries}",
        job_name=one.job,
        partition_key=one.shard,
        asset_selection=[dg.AssetKey(asset) for asset in one.assets],
        tags={**tags, ASKS_TAG: "annotator"} if one.asks else tags,
    )
