"""`got run`: brings the whole graph up to date, asset by asset, and makes nothing twice.

Belongs here: the order of work on one machine and what is said on the terminal. Does not belong here: what is
stale (`staleness`) or how anything is made (the assets). With the daemon running, sensors, schedule and
jobs do the same work without this module.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._utils.error import SerializableErrorInfo

from got_assets.definitions import defs
from got_assets.defs.ingest.jobs import EDIT_STEPS, IMAGE_STEPS
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import observe_lists
from got_assets.defs.train.jobs import RETRAIN_ASSETS
from got_assets.home import prepare_dagster_home
from got_assets.leasing import Working, free_ones_first, lease_names, leases_for, run_tags
from got_assets.orphans import fail_orphans
from got_assets.project import PROJECT, Project
from got_assets.quiet import quiet_libraries
from got_assets.reporting import log_progress
from got_assets.staleness import Staleness, State, next_batch
from got_assets.stored_faults import first_with_faults
from got_assets.summary import stage_rows
from got_assets.tables import score_table, text_table
from got_core.annotate.daily_budget import DailyBudgetExhausted
from got_core.curate.takedown import read_takedowns
from got_core.curate.takedown_lists import COPIES_PAGE
from got_core.filesystems import StoreUnavailableError
from got_core.leases import LeaseHeld
from got_core.storage import Storage
from got_core.train.stage import check_start

NO_RETRIES = {"dagster/max_retries": "0"}
"""The daemon cannot launch again what it has not launched; the next `make run` makes it."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PLAN = "training_plan"
MODELS = "models"
"""What outcomes call the assets that have no partitions."""
ASKED_AGAIN = "rows of it are quarantined though asking may have failed"
BLOCKED_BY_CHECK = "DagsterAssetCheckFailedError"
INTERRUPTED = ("KeyboardInterrupt", "SystemExit", "DagsterExecutionInterruptedError")
"""What Ctrl-C becomes inside a step; Ray Train turns it into SystemExit."""


@dataclass
class Outcome:
    """What happened to the assets of one partition (or to the unpartitioned ones)."""

    made: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    """Asset that could not be made, and the parent whose check failed."""

    failed: dict[str, str] = field(default_factory=dict)
    """Asset whose check failed, and what the check said."""

    error: str = ""


@dataclass
class Runner:
    """Materializes what is out of date, in this process."""

    project: Project
    instance: dg.DagsterInstance
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    wait: bool = True
    """Whether to wait for other processes that work on the same; if not, LeaseHeld is raised."""

    def __post_init__(self) -> None:
        self._graph = defs.resolve_asset_graph()
        self._job = defs.resolve_implicit_global_asset_job_def()
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
        unless it is given. A failed blocking check or an error stops this partition only.
        """
        wait = self.wait if wait is None else wait
        with Working(lambda: leases_for(self.project, "got run"), wait) as working:
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
            staleness = Staleness(self.instance, self._graph, self.project.storage, outcome.made)
            states = staleness.states(assets, partition)
            outcome.blocked = {state.key: state.blocked for state in states if state.blocked}
            failed = {asset: staleness.failed_checks(asset, partition) for asset in assets}
            outcome.failed = {asset: "; ".join(said.values()) for asset, said in failed.items() if said}
            batch = next_batch(self._graph, states)
            if partition and (asset := self._made_with_faults(partition, outcome)):
                batch, states = [asset], [State(asset, True, ASKED_AGAIN)]
            if not batch:
                return outcome
            # Models take minutes each: with a run for each, an error loses nothing made before.
            batch = batch if partition else batch[:1]
            if working.take(lease_names(batch, partition)):
                continue  # another process may have made it since the look
            made, outcome.error = self._materialize(batch, partition, {s.key: s.why for s in states})
            outcome.made += made
            if outcome.error:
                return outcome
        outcome.error = f"{', '.join(batch)} is still out of date after being made; look at it in `make ui`"
        return outcome

    def _made_with_faults(self, partition: str, outcome: Outcome) -> str:
        """A table that fails its check and was made when servers or disks failed; "" if there is none."""
        stopped = [asset for asset in outcome.failed if asset not in outcome.made]
        return first_with_faults(self.project.storage, stopped, partition)[0]

    def nothing_passes(self) -> bool:
        """Whether all shards of images, or all of edits, are stopped by a failed check, or the models are."""
        kinds: dict[str, list[bool]] = {}
        for name, outcome in self.outcomes.items():
            kinds.setdefault(name.rpartition("-")[0] or name, []).append(bool(outcome.failed))
        return any(all(stopped) for stopped in kinds.values())

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
            cause = real[0].cause or real[0]
            if cause.cls_name in INTERRUPTED:
                raise KeyboardInterrupt
            for stopped in (StoreUnavailableError, DailyBudgetExhausted):
                if said := _message_of(cause, stopped):
                    raise stopped(said)  # it would stop every other step, too
            sys.stderr.write(cause.to_string() + "\n")
            return made, f"{cause.cls_name}: {_first_line(cause.message)}"
        return made, "" if result.success or failures else "the run ended without a result; see `make ui`"


def _message_of(error: SerializableErrorInfo, kind: type[Exception]) -> str | None:
    """The message of an error of that kind, wherever in the chain of causes it stands."""
    link: SerializableErrorInfo | None = error
    while link is not None:
        if link.cls_name == kind.__name__:
            return link.message.strip().split(": ", 1)[-1]
        link = link.cause or link.context
    return None


def _spelled(batch: list[str], why: dict[str, str]) -> str:
    reasons = dict.fromkeys(why[name] for name in batch)
    return f"{', '.join(batch)} ({'; '.join(reasons)})"


def _first_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0].split(": ", 1)[-1] if lines else ""


def render_corpus(project: Project) -> None:
    """Write the scenes corpus as plain files, unless it is there."""
    from got_core.scenes.corpus import write_corpus

    settings, recipe = project.settings, project.recipe
    assert settings.edits_url and settings.truth_url
    counts = write_corpus(
        recipe.world,
        recipe.corpus,
        Path(settings.raw_url),
        Path(settings.edits_url).parent,
        Path(settings.truth_url),
        progress=lambda done, total: (
            log_progress(f"{done} of {total} pictures") if done % 1000 == 0 or done == total else None
        ),
    )
    log_progress(
        f"{counts['images']} images and {counts['edits']} edit pairs, {counts['written']} files written"
    )


def assign_shards(project: Project, instance: dg.DagsterInstance) -> tuple[list[str], list[str]]:
    """List raw files and pairs into shards, each a partition. Returns all names of both kinds."""
    from got_core.corpus.shards import assign_edit_shards, assign_image_shards

    settings, config = project.settings, project.recipe.ingest
    options = settings.fs_options(settings.raw_url)
    images = assign_image_shards(project.storage, settings.raw_url, config, options)
    edits: list[str] = []
    if settings.edits_url:
        options = settings.fs_options(settings.edits_url)
        edits = assign_edit_shards(project.storage, settings.edits_url, config, options)
    for partitions, names in ((IMAGE_SHARDS, images), (EDIT_SHARDS, edits)):
        known = set(instance.get_dynamic_partitions(str(partitions.name)))
        new = [name for name in names if name not in known]
        if new:
            instance.add_dynamic_partitions(str(partitions.name), new)
    observe_lists(project, instance)
    return images, edits


def make_data(runner: Runner) -> set[str]:
    """Bring raw images and all tables of every shard up to date. Returns the names of all shards.

    URLs that failed in an earlier run are asked again. All shards are ingested before the first is annotated,
    which may cost money: `PLAN` in between says whether the mixtures of all stages can be drawn, and where it
    fails nothing is annotated.
    """
    from got_core.corpus.ingest import urls_to_retry

    if not runner.project.settings.own_images:
        heading("Raw images (rendered scenes)")
        render_corpus(runner.project)
    images, edits = assign_shards(runner.project, runner.instance)
    heading(f"Data: {len(images)} image shards, {len(edits)} edit shards")
    say_passed_over(runner.project)
    if not images and not edits:
        url = runner.project.settings.raw_url
        raise FileNotFoundError(f"{url} holds nothing that is read as pictures; set GOT_RAW to what does")

    def ingest(shard: str, wait: bool) -> None:
        waiting = urls_to_retry(runner.project.storage, shard)
        why = f"{waiting} URLs to ask again" if waiting else ""
        runner.bring_up_to_date(IMAGE_STEPS[:1], shard, why, wait)

    def ingest_edits(shard: str, wait: bool) -> None:
        runner.bring_up_to_date(EDIT_STEPS[:1], shard, wait=wait)

    free_ones_first(images, ingest, runner.wait)
    free_ones_first(edits, ingest_edits, runner.wait)
    observe_lists(runner.project, runner.instance)  # what is in the shards by now, before it is worked on
    if runner.project.settings.annotator_name is not None and not runner.bring_up_to_date([PLAN]).error:
        annotate(runner, images, edits)
    return {*images, *edits}


def annotate(runner: Runner, images: list[str], edits: list[str]) -> None:
    """Bring all tables of the ingested shards up to date."""
    ingested = {shard: runner.outcomes[shard] for shard in (*images, *edits)}
    for steps, shards in ((IMAGE_STEPS, images), (EDIT_STEPS, edits)):

        def annotate_one(shard: str, wait: bool, steps: Sequence[str] = steps) -> None:
            outcome = runner.bring_up_to_date(steps, shard, wait=wait)
            outcome.made = [*ingested[shard].made, *outcome.made]

        whole = [shard for shard in shards if not ingested[shard].error]
        free_ones_first(whole, annotate_one, runner.wait)


def say_passed_over(project: Project) -> None:
    """What lies beside the pictures and is no input."""
    from got_core.corpus.shards import passed_over
    from got_core.corpus.sieve import counts_text

    if counts := passed_over(project.storage):
        log_progress(
            f"passed over, no pictures by their names (IngestConfig.pictures): {counts_text(counts)}"
        )


def run(project: Project, instance: dg.DagsterInstance, wait: bool = True) -> int:
    """The whole graph. Returns 0, or 1 if something failed: a step, or the check of every shard of a kind.

    One shard that is stopped among others is no failure. Another process that works on the same is waited
    for; without `wait`, LeaseHeld is raised once nothing else of the kind is left to do.
    """
    started = time.monotonic()
    if project.settings.annotator_name is not None:  # else nothing is trained
        check_start(project.recipe.stages, project.settings.weights)
    runner = Runner(project, instance, wait=wait)
    shards = make_data(runner)
    planned = runner.outcomes.get(MODELS)
    if planned is not None and not planned.error:
        heading("Models")
        outcome = runner.bring_up_to_date(RETRAIN_ASSETS)
        outcome.made = [*planned.made, *outcome.made]
    elif not read_takedowns(project.storage).is_empty():
        outcome = runner.bring_up_to_date(("taken_down",))
        outcome.error = (planned.error if planned else "") or outcome.error
    heading("What came out")
    report(project, instance, runner, shards)
    made = sum(len(outcome.made) for outcome in runner.outcomes.values())
    log_progress(
        f"{made} tables, models and reports made, the rest was up to date; {time.monotonic() - started:.0f} s"
    )
    failed = any(outcome.error for outcome in runner.outcomes.values())
    return 1 if failed or runner.nothing_passes() else 0


def report(project: Project, instance: dg.DagsterInstance, runner: Runner, partitions: set[str]) -> None:
    """The table of stages, what was blocked or failed, the scores, and where to look next."""
    rows = stage_rows(instance, [*IMAGE_STEPS, *EDIT_STEPS, *RETRAIN_ASSETS], partitions)
    cells = [(row.stage, row.rows_in, row.rows_out, row.rejected, f"{row.seconds:.1f}") for row in rows]
    print(text_table(["stage", "rows in", "rows out", "rejected", "seconds"], cells), "\n", flush=True)
    report_failures(runner)
    if project.settings.annotator_name is None and not runner.nothing_passes():
        print(missing_annotator(project), flush=True)
    print_scores(project)
    if training := training_line(project.storage):
        log_progress(training)
    where_next(project)


def report_failures(runner: Runner) -> None:
    """What was blocked by a failed check, and what failed."""
    for name, outcome in runner.outcomes.items():
        for asset, said in outcome.failed.items():
            log_progress(f"{name} stops here: {asset} fails its check: {said} (see `make ui`)")
        for parent in dict.fromkeys(p for p in outcome.blocked.values() if p not in outcome.failed):
            log_progress(f"{name} stops here: {parent} is missing or was not checked")
        if outcome.error:
            log_progress(f"{name} FAILED: {outcome.error}")


def missing_annotator(project: Project) -> str:
    """What own images need before anything beyond ingestion can run."""
    return (
        f"\nIngestion of {project.settings.raw_url} is done.\n"
        "The rest needs an annotator that can read such pictures; none is configured: set GOT_ANNOTATOR\n"
        "(openai: models behind a server; imported: chains of a data set, got data import).\n"
        "The scene reader (GOT_ANNOTATOR=scenes) reads rendered scenes only:\n"
        "it refuses photographs, it does not guess.\n"
    )


def print_scores(project: Project) -> None:
    """The benchmark scores of the current model, those that there are."""
    if project.settings.annotator_name is None:
        return
    for name in project.recipe.evaluate.assets:
        if project.storage.exists(f"{name}.json"):
            print(score_table(project.storage.read_json(f"{name}.json")["scores"]), "\n", flush=True)


def training_line(storage: Storage) -> str | None:
    """CPU-seconds of the training behind the current model; None while there is none."""
    stages = (
        ("foundation", "foundation_models"),
        *((stage.title, stage.asset) for stage in PROJECT.recipe.stages),
    )
    if not all(storage.exists(f"{name}.json") for _, name in stages):
        return None
    spent = {stage: storage.read_json(f"{name}.json")["cpu_seconds"] for stage, name in stages}
    parts = ", ".join(f"{part} {seconds:,.0f}" for part, seconds in spent.items())
    return f"training  {sum(spent.values()):,.0f} CPU-seconds ({parts})"


def where_next(project: Project) -> None:
    """Places to look at, those that exist."""
    storage = project.storage
    if storage.exists("benchmark_report.html"):
        log_progress(f"report    {storage.url_of('benchmark_report.html')}")
    if storage.exists("promoted_model.json"):
        decision = storage.read_json("promoted_model.json")
        log_progress(
            f"registry  models:/got@champion is version {decision['champion']} ({decision['reason']})"
        )
    if storage.exists(COPIES_PAGE):
        log_progress(
            f"takedown  pictures that may be copies wait for a verdict: {storage.url_of(COPIES_PAGE)}"
        )
    log_progress(f"storage   {project.settings.storage_url}")
    log_progress("make ui   the graph, every table's numbers and pictures, and the losses in MLflow")


def heading(text: str) -> None:
    """A line that begins a part of the output."""
    print(f"\n{text}", flush=True)


def main(work: Callable[[Project, dg.DagsterInstance], int] = run) -> int:
    """Do some work on this process's project; the exit status."""
    quiet_libraries()
    try:
        prepare_dagster_home(PROJECT)
        with dg.DagsterInstance.get() as instance:
            fail_orphans(instance, PROJECT)
            return work(PROJECT, instance)
    except (OSError, ValueError, StoreUnavailableError, LeaseHeld, DailyBudgetExhausted) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        sys.stderr.write("\ninterrupted; run it again to go on from here\n")
        return 130
