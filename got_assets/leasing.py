"""Leases in the graph: one process at a time works on a shard, or makes an asset that has none.

Belongs here: which leases a piece of work needs, taking them in `make run` and in runs that the daemon
launches, and the tags by which a run's process is found again. Not here: how a lease is kept
(`got_core.leases`), and what becomes of runs without process (`orphans`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.errors import raise_execution_interrupts

from got_assets.project import PROJECT, Project
from got_assets.reporting import log_progress
from got_core.conditional_files import ConditionalFiles, conditional_files
from got_core.leases import Lease, LeaseHeld, Leases
from got_core.processes import ProcessIdentity, this_process

PROCESS_TAG = "got/process"
"""On a run: the process that executes it."""
LEASES_TAG = "got/leases"
"""On a run: the leases that it holds as long as it is under way."""
_PARTITION_TAG = "dagster/partition"
CORPUS = "scenes_corpus"
"""What is leased to render the scenes corpus."""
_BESIDE_OTHERS = "taken_down"
"""What a takedown makes: it must not wait for a whole retraining that makes it, too."""


def lease_names(assets: Iterable[str], partition: str | None) -> tuple[str, ...]:
    """What is leased to make these assets: their shard; where they have none, each of them, in one order."""
    if partition is not None:
        return (partition,)
    names = sorted(set(assets))
    return tuple(name for name in names if name != _BESIDE_OTHERS or len(names) == 1)


def run_tags(leases: Iterable[str]) -> dict[str, str]:
    """Tags of a run that this process executes."""
    return {PROCESS_TAG: json.dumps(this_process().as_dict()), LEASES_TAG: json.dumps([*leases])}


def process_of(tags: Mapping[str, str]) -> ProcessIdentity | None:
    """The process that a run's tags name; None where they name none."""
    try:
        return ProcessIdentity.from_dict(json.loads(tags[PROCESS_TAG]))
    except (KeyError, TypeError, ValueError):
        return None


def leases_of(tags: Mapping[str, str]) -> list[str]:
    """The leases that a run's tags name."""
    try:
        return [str(name) for name in json.loads(tags[LEASES_TAG])]
    except (KeyError, TypeError, ValueError):
        return []


def lease_files(project: Project) -> ConditionalFiles:
    """Where the leases of a project are kept. Raises StoreUnavailableError."""
    storage = project.storage
    return _lease_files(storage.url, json.dumps(storage.fs_options))


@cache
def _lease_files(url: str, options: str) -> ConditionalFiles:
    files = conditional_files(url, json.loads(options))
    if files.note:
        log_progress(files.note)
    return files


def leases_for(project: Project, work: str, notice: Callable[[str], None] = log_progress) -> Leases:
    """Takes leases of a project for a command or run; `notice` gets a line where one is waited for."""
    return Leases(lease_files(project), work, notice=notice)


def corpus_leases(project: Project, work: str) -> Leases:
    """Takes the lease of the scenes corpus (`CORPUS`). It lies beside the corpus, in the home: processes with
    storages of their own may share that."""
    return Leases(conditional_files(str(project.settings.home), {}), work, notice=log_progress)


class Working:
    """The leases that one piece of work holds at the moment.

    Args:
        leases: makes what takes them; called with the first one.
        wait: whether to wait for another process that holds one; if not, LeaseHeld is raised.
    """

    def __init__(self, leases: Callable[[], Leases], wait: bool = True) -> None:
        self._leases, self._wait = leases, wait
        self._held: dict[str, Lease] = {}

    def __enter__(self) -> Working:
        return self

    def __exit__(self, *_: object) -> None:
        self._release(self._held)

    def take(self, names: Iterable[str]) -> bool:
        """Hold these and no others. Whether one was not held before: then what was found out about its work
        may be out of date."""
        wanted = tuple(names)
        self._release(name for name in self._held if name not in wanted)
        new = [name for name in wanted if name not in self._held]
        for name in new:
            self._held[name] = self._leases().take(name, wait=self._wait)
        return bool(new)

    def _release(self, names: Iterable[str]) -> None:
        for name in [*names]:
            self._held.pop(name).release()


def free_ones_first(names: Iterable[str], work: Callable[[str, bool], object], wait: bool) -> Iterator[str]:
    """Do some work for each name: first for those that no other process works on, then for the others. Gives
    each name when its work is done.

    `work` is called with the name and whether to wait; without waiting it raises LeaseHeld.
    """
    busy = []
    for name in names:
        try:
            work(name, False)
        except LeaseHeld:
            busy.append(name)
        else:
            yield name
    for name in busy:
        work(name, wait)
        yield name


class _LeasedExecutor(dg.Executor):
    """Executes a run's steps in this process, with its leases."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        """Those of the executor within."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        """That of the executor within."""
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Wait for the leases, note on the run whose they are, and execute."""
        run, instance = plan_context.dagster_run, plan_context.instance
        steps = [key.partition(".")[0] for key in execution_plan.step_keys_to_execute]
        names = lease_names(steps, run.tags.get(_PARTITION_TAG))
        # Before anything is waited for: who is killed while waiting is found by it.
        instance.add_run_tags(run.run_id, run_tags(()))
        with ExitStack() as stack:

            def notice(line: str) -> None:
                log_progress(line)
                instance.report_engine_event(line, run)

            leases = leases_for(PROJECT, f"Dagster run {run.run_id[:8]}", notice)
            with raise_execution_interrupts():
                stack.enter_context(leases.held(*names))
            instance.add_run_tags(run.run_id, run_tags(names))
            yield from self._inner.execute(plan_context, execution_plan)


_CONFIG: Any = dg.in_process_executor.config_schema


@dg.executor(name="leased", config_schema=_CONFIG)
def leased_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """All steps of a run in one process, which holds the leases of its shard or assets meanwhile."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _LeasedExecutor(create(context))
