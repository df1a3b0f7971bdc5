"""Makes what is out of date of one shard, or of the assets without shards, by runs in this process.

Belongs here: rounds of looking and making, and what an error of a run means. Not here: the order of the whole
(`run`), what is needed (`needs`), several processes (`workers`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import dagster as dg

from got_assets.definitions import defs
from got_assets.defs.lists.sources import observe_lists
from got_assets.event_log import EventLog
from got_assets.interrupts import is_interrupt
from got_assets.leasing import Working, lease_names, leases_for, run_tags
from got_assets.meter import Meter
from got_assets.needs import Facts, State, failed_checks, needed, next_batch
from got_assets.outcomes import Outcome
from got_assets.pauses import ASKING_GROUP, Pause, pause_of
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_assets.staleness import Staleness, graph_nodes
from got_assets.stored_faults import first_with_faults
from got_core.filesystems import StoreUnavailableError
from got_core.ray_sessions import sessions_stay

NO_RETRIES = {"dagster/max_retries": "0"}
"""The daemon cannot launch again what it has not launched; the next `make run` makes it."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MODELS = "models"
"""What outcomes call the assets that have no partitions."""
ASKED_AGAIN = "rows of it are quarantined though asking may have failed"
BLOCKED_BY_CHECK = "DagsterAssetCheckFailedError"


@dataclass
class Runner:
    """Materializes what is out of date, in this process."""

    project: Project
    instance: dg.DagsterInstance
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    paused: Pause | None = None
    """What could not be asked: nobody asks it again in this run."""

    wait: bool = True
    """Whether to wait for other processes that work on the same; if not, LeaseHeld is raised."""

    observes: bool = True
    """Whether it looks at the lists that people keep when it is made."""

    meter: Meter = field(default_factory=Meter)
    """Times of what has no partitions, each asset a phase."""

    def __post_init__(self) -> None:
        self._graph = defs.resolve_asset_graph()
        self._job = defs.resolve_implicit_global_asset_job_def()
        self.nodes, self.log = graph_nodes(self._graph), EventLog(self.instance)
        asking = dg.AssetSelection.groups(ASKING_GROUP).resolve(self._graph)
        self._asking = frozenset(key.to_user_string() for key in asking)
        if self.observes:
            observe_lists(self.project, self.instance)

    def bring_up_to_date(
        self,
        assets: Sequence[str],
        partition: str | None = None,
        again: str = "",
        wait: bool | None = None,
    ) -> Outcome:
        """Make what is needed among `assets` (in topological order), looking again after each run.

        `again`: why the first of them is made in any case. `wait`: for other processes, as the runner does
        unless it is given. A failed blocking check or an error stops this partition only; what could not be
        asked is a pause of the line.
        """
        wait = self.wait if wait is None else wait
        ray = nullcontext() if partition else sessions_stay()  # for all trainings together
        with Working(lambda: leases_for(self.project, "got run"), wait) as working, ray:
            return self._bring_up_to_date(assets, partition, again, working)

    def _bring_up_to_date(
        self, assets: Sequence[str], partition: str | None, again: str, working: Working
    ) -> Outcome:
        outcome = self.outcomes[partition or MODELS] = Outcome()
        if again:
            working.take(lease_names(assets[:1], partition))
            outcome.made, outcome.error = self._materialize([assets[0]], partition, {assets[0]: again})
            if outcome.error:
                return outcome
        for _ in range(3 * len(assets) + 1):
            facts = self._staleness().facts(assets, [partition] if partition else None)
            states = needed(facts, assets, partition, outcome.made)
            batch, why = self._look(facts, states, partition, outcome)
            if not batch:
                return outcome
            # Models take minutes each: with a run for each, an error loses nothing made before.
            batch = batch if partition else batch[:1]
            if working.take(lease_names(batch, partition)):
                continue  # another process may have made it since the look
            with nullcontext() if partition else self.meter.phase(batch[0]):
                made, outcome.error = self._materialize(batch, partition, why)
            outcome.made += made
            if outcome.error:
                return outcome
        outcome.error = f"{', '.join(batch)} is still out of date after being made; look at it in `make ui`"
        return outcome

    def outcomes_and_needs(
        self, assets: Sequence[str], shards: Sequence[str]
    ) -> Iterator[tuple[str, Outcome, list[str]]]:
        """Of each shard what stops it, and what could be made in a run; all shards are looked at together."""
        facts = self._staleness().facts(assets, shards)
        for shard in shards:
            outcome = Outcome()
            batch, _ = self._look(facts, needed(facts, assets, shard), shard, outcome)
            yield shard, outcome, batch

    def pause(self, pause: Pause | None) -> None:
        """Remember what could not be asked. The store is needed for everything: StoreUnavailableError."""
        if pause and pause.what == "store":
            raise StoreUnavailableError(pause.message)
        self.paused = self.paused or pause

    def _staleness(self) -> Staleness:
        return Staleness(self.instance, self._graph, self.project.storage, log=self.log)

    def _look(
        self, facts: Facts, states: Sequence[State], partition: str | None, outcome: Outcome
    ) -> tuple[list[str], dict[str, str]]:
        """What can be made in the next run, and why; what stops the rest goes into the outcome."""
        without = self._asking if self.paused else frozenset()
        failed = {state.key: failed_checks(facts, state.key, partition) for state in states}
        outcome.blocked = {state.key: state.blocked for state in states if state.blocked}
        outcome.failed = {asset: "; ".join(said.values()) for asset, said in failed.items() if said}
        outcome.waits = any(state.needed and not state.blocked and state.key in without for state in states)
        stopped = [asset for asset in outcome.failed if asset not in outcome.made] if partition else []
        if partition and (asset := first_with_faults(self.project.storage, stopped, partition)[0]):
            return [asset], {asset: ASKED_AGAIN}
        return next_batch(self.nodes, states, without), {state.key: state.why for state in states}

    def _materialize(
        self, batch: list[str], partition: str | None, why: dict[str, str]
    ) -> tuple[list[str], str]:
        """One run; returns what was made, and the error ("" if there was none but perhaps a failed check)."""
        log_progress(f"{partition + ': ' if partition else ''}{_spelled(batch, why)}")
        result = self._job.execute_in_process(
            asset_selection=[dg.AssetKey(name) for name in batch],
            partition_key=partition,
            instance=self.instance,
            raise_on_error=False,
            run_config=QUIET,
            tags={**run_tags(lease_names(batch, partition)), **NO_RETRIES},
        )
        found = {event.asset_key for event in result.get_asset_materialization_events()}
        made = [name for name in batch if dg.AssetKey(name) in found]
        failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        real = [error for error in failures if error and error.cls_name != BLOCKED_BY_CHECK]
        if real:
            if is_interrupt(real[0]):
                raise KeyboardInterrupt
            cause = real[0].cause or real[0]
            if pause := pause_of(cause):
                self.pause(pause)
                return made, ""
            sys.stderr.write(cause.to_string() + "\n")
            return made, f"{cause.cls_name}: {_first_line(cause.message)}"
        return made, "" if result.success or failures else "the run ended without a result; see `make ui`"


def _spelled(batch: list[str], why: dict[str, str]) -> str:
    reasons = dict.fromkeys(why[name] for name in batch)
    return f"{', '.join(batch)} ({'; '.join(reasons)})"


def _first_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0].split(": ", 1)[-1] if lines else ""
