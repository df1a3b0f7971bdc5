"""How the line is at a moment, as plain figures.

Belongs here: reading them from Dagster's instance, the storage and MLflow. Not here: what of them is wrong
(`findings`), how they are served (`metrics`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG

from got_assets.event_log import EventLog
from got_assets.needs import NEEDS_TAG, Facts, content_digest, needed, next_batch
from got_assets.project import Project
from got_assets.staleness import Staleness, graph_nodes
from got_core.storage import local_path

if TYPE_CHECKING:
    from got_core.train.status import StageStatus

UP_TO_DATE, WAITING, RUNNING, STUCK, STOPPED = "up to date", "waiting", "running", "stuck", "stopped"
SHARD_STATES = (UP_TO_DATE, WAITING, RUNNING, STUCK, STOPPED)
LOOKED_BACK = timedelta(days=7)
"""Failed runs of so long say whether a shard is stuck."""

_MOST_RUNS = 5000
_VERDICTS = (("rows_in", "in"), ("rows_out", "accepted"), ("rows_rejected", "rejected"))


@dataclass(frozen=True, kw_only=True)
class DataLine:
    """Shards of a kind, and what is made of each."""

    kind: str
    steps: tuple[str, ...]
    """Assets, topologically ordered."""
    partitions: str
    """Name of the dynamic partitions."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard at a moment."""

    kind: str
    name: str
    state: str
    why: str = ""
    """What it needs, or what stops it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One limit of the day, UTC, and what of it is taken: spent, or set aside for requests under way."""

    unit: str
    """``money`` or ``tokens``."""
    limit: float
    taken: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """Everything that is looked at."""

    kinds: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Of all shards' tables: by asset, and ``in``, ``accepted`` or ``rejected``."""
    tokens: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Of the answers in these tables: by asset, and ``in`` or ``out``."""
    money: Mapping[str, float] = field(default_factory=dict)
    """The same, by asset, in the currency of the prices."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """Runs that have not ended, by status."""
    budgets: tuple[Budget, ...] = ()
    stages: tuple[StageStatus, ...] = ()
    disks: Mapping[str, int] = field(default_factory=dict)
    """Free bytes by what lies there: ``home``, ``storage``."""
    canaries: Mapping[str, str] = field(default_factory=dict)
    """By benchmark: what its judge's canary says, where that has moved."""

    def shard_counts(self) -> dict[tuple[str, str], int]:
        """Shards by kind and state, with zeros."""
        found = Counter((one.kind, one.state) for one in self.shards)
        return {(kind, state): found[kind, state] for kind in self.kinds for state in SHARD_STATES}


def read_line(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    lines: Sequence[DataLine],
    project: Project,
    *,
    stuck_runs: int,
    trainings: bool = False,
    log: EventLog | None = None,
) -> Line:
    """Look at everything once; ``trainings`` also asks MLflow, ``log`` is the event log as read so far.

    A few queries whatever the number of shards, and a listing of each table's folder. Raises what the
    instance and the storage raise.
    """
    open_runs = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    busy = {run.tags[PARTITION_NAME_TAG] for run in open_runs if PARTITION_NAME_TAG in run.tags}
    failed = _failures(instance)
    shards: list[Shard] = []
    figures: Counter[tuple[str, str]] = Counter()
    staleness = Staleness(instance, graph, project.storage, log=log)
    for one in lines:
        names = instance.get_dynamic_partitions(one.partitions)
        facts = staleness.facts(one.steps, names)
        shards += (_shard(graph, facts, one, name, busy, failed, stuck_runs) for name in sorted(names))
        for (asset, _), record in facts.records.items():
            if asset in one.steps:
                figures.update({(asset, name): value for name, value in record.figures.items()})
    return Line(
        kinds=tuple(one.kind for one in lines),
        shards=tuple(shards),
        rows=_named(figures, dict(_VERDICTS)),
        tokens=_named(figures, {"tokens_in": "in", "tokens_out": "out"}),
        money={asset: value for (asset, name), value in figures.items() if name == "cost"},
        runs=Counter(run.status.value for run in open_runs),
        budgets=tuple(_budgets(project)),
        stages=_stages(project) if trainings else (),
        disks=dict(_disks(project)),
        canaries=dict(_canaries(project)),
    )


def _named(figures: Mapping[tuple[str, str], float], names: Mapping[str, str]) -> dict[tuple[str, str], int]:
    return {(asset, names[name]): int(value) for (asset, name), value in figures.items() if name in names}


def _failures(instance: dg.DagsterInstance) -> Counter[str]:
    """Failed runs of late, by what they were to make: its digest, or the shard where nothing says more."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], created_after=datetime.now(UTC) - LOOKED_BACK
    )
    runs = instance.get_runs(filters, limit=_MOST_RUNS)
    return Counter(run.tags.get(NEEDS_TAG) or run.tags.get(PARTITION_NAME_TAG, "") for run in runs)


def _shard(
    graph: BaseAssetGraph,
    facts: Facts,
    line: DataLine,
    name: str,
    busy: set[str],
    failed: Counter[str],
    stuck_runs: int,
) -> Shard:
    kind, states = line.kind, needed(facts, line.steps, name)
    batch = next_batch(graph_nodes(graph), states)
    why = "; ".join(dict.fromkeys(one.why for one in states if one.key in batch))
    if name in busy:
        return Shard(kind=kind, name=name, state=RUNNING, why=why)
    if batch:
        tries = failed[content_digest(facts, batch, name)] + failed[name]
        state = STUCK if tries >= stuck_runs else WAITING
        return Shard(kind=kind, name=name, state=state, why=f"{why} ({tries} failed runs)" if tries else why)
    stopped = next((one.blocked for one in states if one.blocked), None)
    if stopped:
        return Shard(kind=kind, name=name, state=STOPPED, why=f"{stopped} fails its check")
    return Shard(kind=kind, name=name, state=UP_TO_DATE)


def _budgets(project: Project) -> Iterator[Budget]:
    config = project.settings.annotator_config
    if config is None or (config.budget_per_day is None and config.budget_tokens_per_day is None):
        return
    from got_core.annotate.daily_budget import taken_on

    taken = taken_on(project.storage, datetime.now(UTC).date())
    if config.budget_per_day is not None:
        yield Budget(unit="money", limit=config.budget_per_day, taken=taken.money)
    if config.budget_tokens_per_day is not None:
        yield Budget(unit="tokens", limit=config.budget_tokens_per_day, taken=taken.tokens)


def _stages(project: Project) -> tuple[StageStatus, ...]:
    from got_core.train.status import training_status

    settings, recipe = project.settings, project.recipe
    return tuple(training_status(project.storage, settings.tracking_uri, recipe.stages))


def _disks(project: Project) -> Iterator[tuple[str, int]]:
    for name, place in (("home", str(project.settings.home)), ("storage", project.settings.storage_url)):
        folder = local_path(place)
        while folder is not None and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if folder is not None:
            yield name, shutil.disk_usage(folder).free


def _canaries(project: Project) -> Iterator[tuple[str, str]]:
    evaluate = project.recipe.evaluate
    for asset, benchmark in evaluate.assets.items():
        if benchmark in evaluate.published and project.storage.exists(f"{asset}.json"):
            canary = project.storage.read_json(f"{asset}.json")["scores"].get("canary")
            if canary and canary.get("note"):
                yield benchmark, str(canary["note"])
