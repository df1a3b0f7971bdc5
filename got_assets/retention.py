"""`got gc`: looking through a project's storage for what may go, and removing it beside others who work.

Belongs here: which assets there are, and whose leases are needed. Not here: what goes and why
(`got_core.retention`), what is printed (`cli.retention`).

What assets without shards write is removed only while all their leases are held, and found out again then: a
model that nothing names may be what a run has just found again. A run that comes meanwhile waits, as it does
for any other process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import unquote

from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from got_assets.leasing import lease_files, leases_for
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_core.leases import Lease, LeaseHeld, Leases, Watch, holder_of, is_free, path_of
from got_core.retention.config import KeepConfig
from got_core.retention.kinds import OF_MODELS
from got_core.retention.plan import Look, Plan, Unit, make_plan, tar_is_named
from got_core.retention.removal import Freed, remove_units

WORK = "got gc"
Report = Callable[[str], None]


def look_through(project: Project, graph: BaseAssetGraph, now: float | None = None) -> Plan:
    """What would go; nothing is written. Raises as `make_plan`."""
    return make_plan(project.storage, _look(project, graph, _at_work(project, graph), now))


def clean(
    project: Project, graph: BaseAssetGraph, report: Report = log_progress, now: float | None = None
) -> tuple[Plan, Freed]:
    """Remove what may go, with a line about each thing that has to wait. Raises as `make_plan`."""
    leases = leases_for(project, WORK, report)
    with ExitStack() as held:
        at_work = _take_all(_lease_names(project, graph), leases, held, report)
        if at_work:
            report(f"models, their checkpoints and pictures stay for now: {at_work}")
        plan = make_plan(project.storage, _look(project, graph, at_work, now))
        whole = [unit for unit in plan.going if unit.kind in OF_MODELS or unit.shard is None]
        freed = remove_units(project.storage, whole, report)
    for shard, units in _by_shard(plan.going):
        _clean_shard(project, leases, shard, units, freed, report)
    return plan, freed


def _look(project: Project, graph: BaseAssetGraph, at_work: str, now: float | None) -> Look:
    settings = project.settings
    keep = KeepConfig(
        models=settings.keep_models,
        benchmarks=settings.keep_benchmarks,
        checkpoints=settings.keep_checkpoints,
        failures=settings.keep_failures,
    )
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    return Look(
        tracking_uri=settings.tracking_uri,
        keep=keep,
        assets=names,
        named=[settings.weights] if settings.weights else [],
        at_work=at_work,
        now=now,
    )


def _lease_names(project: Project, graph: BaseAssetGraph) -> list[str]:
    """Of all assets without shards, of this recipe and of any that has ever worked on the storage, in the
    order in which everybody takes them."""
    own = {
        node.key.to_user_string()
        for node in graph.asset_nodes
        if not node.is_partitioned and node.is_materializable
    }
    files = (name.removeprefix("leases/") for name in project.storage.list("leases/"))
    known = {unquote(name.removesuffix(".json")) for name in files if name.endswith(".json")}
    shards = {name.rpartition("/")[2].partition(".")[0] for name in project.storage.list("shards/")}
    return sorted(own | (known - shards))


def _at_work(project: Project, graph: BaseAssetGraph) -> str:
    """Who makes something without shards, in words; empty where nobody does."""
    files = lease_files(project)
    for name in _lease_names(project, graph):
        holder, version = holder_of(files, name)
        if not is_free(version):
            return str(LeaseHeld.by(name, holder))
    return ""


def _take_all(names: Sequence[str], leases: Leases, held: ExitStack, report: Report) -> str:
    """Take the leases of everything without shards, or none and say who has one."""
    with ExitStack() as taking:
        for name in names:
            try:
                taking.callback(_taken(leases, name, report).release)
            except LeaseHeld as error:
                return str(error)
        held.push(taking.pop_all())
    return ""


def _taken(leases: Leases, name: str, report: Report) -> Lease:
    """A lease, also one whose holder shows no life. Raises LeaseHeld where it does."""
    try:
        return leases.take(name, wait=False)
    except LeaseHeld as error:
        report(f"{error}: looking for up to {leases.config.expiry_seconds:.0f} s whether it still works")
        if not _stands_still(leases, name):
            raise
        return leases.take(name)


def _stands_still(leases: Leases, name: str) -> bool:
    watch = Watch(leases.config.expiry_seconds)
    first = leases.files.read(path_of(name))
    while not watch.expired(now := leases.files.read(path_of(name))):
        if now != first:
            return is_free(now)
        time.sleep(min(leases.config.look_seconds, leases.config.expiry_seconds / 8))
    return True


def _by_shard(units: Sequence[Unit]) -> Iterator[tuple[str, list[Unit]]]:
    shards: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.shard is not None:
            shards.setdefault(unit.shard, []).append(unit)
    yield from shards.items()


def _clean_shard(
    project: Project, leases: Leases, shard: str, units: list[Unit], freed: Freed, report: Report
) -> None:
    """Remove tars of a shard that no index names, while nobody writes there."""
    try:
        with leases.held(shard, wait=False):
            left = [replace(unit) for unit in units if not tar_is_named(project.storage, unit.name)]
            freed.add(remove_units(project.storage, left, report))
    except LeaseHeld as error:
        report(f"tars of {shard} stay for now: {error}")
